"""The rules about a line of a rule file: is every word of it one, and may it stand here."""

from actions.authorization.linting.rule import LintRule

_GOOD = {"domain.csv": "p, domain_admin, domain, user, delete, deny\n"}

LINE_TYPE = LintRule(
    id="line-type",
    title="A line is neither a rule nor an inheritance.",
    why="Casbin drops such a line in silence, a capital `P` is enough. A dropped deny is open access.",
    mend="A rule begins with `p`, an inheritance with `g`, a comment with `#`.",
    bad={"domain.csv": "P, domain_admin, domain, user, delete, deny\n"},
    good=_GOOD,
)
FIELD_COUNT = LintRule(
    id="field-count",
    title="A line has too few fields, or too many.",
    why="Casbin loads it and fails when a request reaches it; as long as an earlier rule allows the request, nobody "
    "notices.",
    mend="A rule is `p, role, scope, object, action, allow|deny`, an inheritance `g, role, inherited role`. A comma at "
    "the end begins another field.",
    bad={"domain.csv": "p, domain_admin, user, delete, deny\n"},
    good=_GOOD,
)
EMPTY_FIELD = LintRule(
    id="empty-field",
    title="A field has nothing in it.",
    why="An empty word matches an empty word, and a request whose words are empty should meet no rule.",
    mend="Say the word. For all of a kind there is `*`, in `superadmin.csv`.",
    bad={"domain.csv": "p, domain_admin, domain, , delete, deny\n"},
    good=_GOOD,
)
ROLE = LintRule(
    id="role",
    title="A role is not declared in `roles.yaml`.",
    why="A rule of a role that does not exist allows nothing and, which is worse, denies nothing.",
    mend="Correct the name, or declare the role.",
    bad={"domain.csv": "p, domain_amdin, domain, user, delete, deny\n"},
    good=_GOOD,
)
SCOPE = LintRule(
    id="scope",
    title="A scope is none of the four.",
    why="No request has this scope, so the rule says nothing.",
    mend="The scopes are `admin`, `domain`, `project`, `user`.",
    bad={"domain.csv": "p, domain_admin, domains, user, delete, deny\n"},
    good=_GOOD,
)
OBJECT = LintRule(
    id="object",
    title="An object is nothing that is kept here.",
    why="No request is about it, so the rule says nothing.",
    mend="`chamberlain actions` lists the objects, under *permission* between the colons.",
    bad={"domain.csv": "p, domain_admin, domain, usr, delete, deny\n"},
    good=_GOOD,
)
ACTION = LintRule(
    id="action",
    title="An action is none that there is.",
    why="No request does this, so the rule says nothing. Patterns and lists are no words.",
    mend="`chamberlain actions` lists the actions. A batch is decided with the word of what it does to each.",
    bad={"domain.csv": "p, domain_admin, domain, user, remove, deny\n"},
    good=_GOOD,
)
EFFECT = LintRule(
    id="effect",
    title="An effect is neither `allow` nor `deny`.",
    why="Casbin ignores a rule whose effect it does not know: with a capital, `Deny` denies nothing.",
    mend="Write `allow` or `deny`.",
    bad={"domain.csv": "p, domain_admin, domain, user, delete, Deny\n"},
    good=_GOOD,
)
NO_ACTION = LintRule(
    id="no-action",
    title="Each word is known, and yet there is no such action.",
    why="What can be done to something differs from scope to scope. A rule for what is not offered says nothing, and "
    "whoever reads it believes that it does.",
    mend="The hint says what is offered there. `docs/actions.md` says why the rest is not.",
    bad={"project.csv": "p, project_member, project, user, delete, deny\n"},
    good={"project.csv": "p, project_member, project, user, search, deny\n"},
)
WRONG_FILE = LintRule(
    id="wrong-file",
    title="A line stands in the file of another scope.",
    why="Each file has its own reviewers. A rule about users that slips into the file of domains has been approved by "
    "the wrong people.",
    mend="Move it. An inheritance stands in the file of the lowest scope in which the inheriting role is held.",
    bad={"domain.csv": "p, owner, user, keypair, create, allow\n"},
    good={"user.csv": "p, owner, user, keypair, create, allow\n"},
)
WILDCARD = LintRule(
    id="wildcard",
    title="A wildcard stands elsewhere than in `superadmin.csv`.",
    why="A wildcard also allows what is added later, and nobody is asked then. Only the owners of the installation may "
    "promise that.",
    mend="Name each word.",
    bad={"domain.csv": "p, domain_admin, domain, user, *, allow\n"},
    good={"domain.csv": "p, domain_admin, domain, user, get, allow\np, domain_admin, domain, user, search, allow\n"},
)
SYSTEM_ROLE = LintRule(
    id="system-role",
    title="A role of the server itself, or `anonymous`, inherits or is inherited.",
    why="What the server does by itself, and what anybody may do without saying who they are, must be readable line by "
    "line. An inheritance would add to it from afar.",
    mend="State the rules one by one.",
    bad={"superadmin.csv": "g, superadmin, system_sweeper\n"},
    good={"superadmin.csv": "p, superadmin, admin, user, search, deny\n"},
)
TRAILING_COMMENT = LintRule(
    id="trailing-comment",
    title="A comment follows a rule on its line.",
    why="To Casbin `#` begins a comment at the start of a line and nowhere else: here it becomes a part of the last "
    "word, and `deny # for now` is no effect.",
    mend="Put the comment on a line of its own, with `#` first.",
    bad={"domain.csv": "p, domain_admin, domain, user, delete, deny # for now\n"},
    good={"domain.csv": "# For now.\np, domain_admin, domain, user, delete, deny\n"},
)
QUOTE = LintRule(
    id="quote",
    title="There is a quote around a word, or in it.",
    why="These files are not what spreadsheets call CSV: to Casbin a quote is a part of the word.",
    mend="Write the word without quotes.",
    bad={"domain.csv": 'p, "domain_admin", domain, user, delete, deny\n'},
    good=_GOOD,
)
BRACKET = LintRule(
    id="bracket",
    title="There is a bracket.",
    why="Casbin's loader counts brackets: one that is closed too often stops it without a place, and one that is left "
    "open swallows the fields after it.",
    mend="Remove it. A field is one word.",
    bad={"domain.csv": "p, domain_admin, domain, (user, delete, deny\n"},
    good=_GOOD,
)
LOOK_ALIKE = LintRule(
    id="look-alike",
    title="There is a letter that only looks like one of ours.",
    why="The Cyrillic `\u0430` looks like the Latin `a`. A reviewer reads a deny for domain admins; the rule is about "
    "somebody else.",
    mend="Type the word again. Comments may be in any language and any script.",
    bad={"domain.csv": "p, domain_\u0430dmin, domain, user, delete, deny\n"},
    good=_GOOD,
)
CHARACTER = LintRule(
    id="character",
    title="There is a character that stands in no word.",
    why="Patterns, paths and lists mean nothing here, though they might elsewhere: words are compared, not matched.",
    mend="A word is lower-case letters, digits and `_`. Commas stand between words.",
    bad={"domain.csv": "p, domain_admin, domain, user, get|search, deny\n"},
    good={"domain.csv": "p, domain_admin, domain, user, get, deny\np, domain_admin, domain, user, search, deny\n"},
)

LINE_RULES = (
    LINE_TYPE,
    FIELD_COUNT,
    EMPTY_FIELD,
    ROLE,
    SCOPE,
    OBJECT,
    ACTION,
    EFFECT,
    NO_ACTION,
    WRONG_FILE,
    WILDCARD,
    SYSTEM_ROLE,
    TRAILING_COMMENT,
    QUOTE,
    BRACKET,
    LOOK_ALIKE,
    CHARACTER,
)
