"""The rules about what the others rest on: the roles that ``roles.yaml`` declares, the language in ``model.conf``."""

from actions.authorization.linting.rule import LintRule
from actions.authorization.rules import Severity
from actions.directory import SYSTEM_ROLES

_CLERK = "clerk:\n  bindable: [domain]\n  sentence: Files things.\n"
_RULE = "p, clerk, domain, user, get, allow\n"
_GOOD = {"roles.yaml": _CLERK, "domain.csv": _RULE}

_ROLES = (
    "superadmin: {bindable: [admin], sentence: Runs all.}\n"
    "owner: {implicit: true, sentence: Is the user.}\n"
    "anonymous: {implicit: true, sentence: Is nobody yet.}\n"
    "domain_admin: {bindable: [domain], sentence: Runs a domain.}\n"
    "domain_member: {bindable: [domain], sentence: Belongs to a domain.}\n"
    "project_member: {bindable: [project], sentence: Takes part in a project.}\n"
    + "".join(f"{name}: {{system: true, sentence: Works inside.}}\n" for name in SYSTEM_ROLES)
)

ROLES_SYNTAX = LintRule(
    id="roles-syntax",
    title="`roles.yaml` is not YAML, or not a mapping of roles.",
    why="Without it nobody knows which roles there are, so no rule can be checked for the role it names.",
    mend="Two spaces before each attribute, a colon and a space after its name, quotes around what holds a colon "
    "itself.",
    bad={"roles.yaml": "clerk:\n  bindable: [domain\n"},
    good=_GOOD,
)
ROLES_FEATURE = LintRule(
    id="roles-feature",
    title="`roles.yaml` uses an anchor, an alias, a tag, a directive, or nests deeply.",
    why="With these a few lines can say something else than they show, or grow without bound in the reader's memory.",
    mend="Write out what each role has.",
    bad={"roles.yaml": "clerk: &clerk\n  bindable: [domain]\n  sentence: Files things.\n", "domain.csv": _RULE},
    good=_GOOD,
)
ROLE_NAME = LintRule(
    id="role-name",
    title="The name of a role is no word.",
    why="Rules are written with it, so it must be one that they can hold. `yes`, `on` and `1` are no texts to YAML.",
    mend="Lower-case letters, digits and `_`, a letter first.",
    bad={"roles.yaml": "Filing-Clerk:\n  bindable: [domain]\n  sentence: Files things.\n"},
    good=_GOOD,
)
GIVEN_TWICE = LintRule(
    id="given-twice",
    title="A role, or an attribute of one, is given twice.",
    why="YAML keeps the last in silence, reviewers read the first.",
    mend="Keep one.",
    bad={"roles.yaml": "clerk:\n  bindable: [domain]\n  bindable: [admin]\n  sentence: Files things.\n"},
    good=_GOOD,
)
ROLE_ATTRIBUTE = LintRule(
    id="role-attribute",
    title="A role has an attribute that there is not, or is not described at all.",
    why="Whoever wrote it expects something of it.",
    mend="A role has a `sentence` and one of `bindable`, `implicit`, `system`.",
    bad={"roles.yaml": f"{_CLERK}  inherits: domain_member\n", "domain.csv": _RULE},
    good={**_GOOD, "domain.csv": f"{_RULE}g, clerk, domain_member\n"},
)
ROLE_SENTENCE = LintRule(
    id="role-sentence",
    title="A role has no sentence.",
    why="Whoever grants a role has nothing but its name and its sentence to know what it is for.",
    mend="Say in one sentence, with a full stop, what the role is for.",
    bad={"roles.yaml": "clerk:\n  bindable: [domain]\n", "domain.csv": _RULE},
    good=_GOOD,
)
ROLE_BINDABLE = LintRule(
    id="role-bindable",
    title="`bindable` is not a list of scope types.",
    why="A role can be bound where this says so. A word that is no scope type would make it one that nobody can hold.",
    mend="`bindable: [domain]`, of `admin`, `domain`, `project` and `user`, each once.",
    bad={"roles.yaml": "clerk:\n  bindable: [domains]\n  sentence: Files things.\n"},
    good=_GOOD,
)
ROLE_KIND = LintRule(
    id="role-kind",
    title="A role is of another kind than the server has it.",
    why="Who owns a scope, who is anonymous, who the server itself is: these are known to the program, and a policy "
    "that lets somebody be given such a role would make them somebody else. `superadmin` is bound in the admin "
    "scope alone.",
    mend="`implicit` belongs to `owner` and `anonymous`, `system` to the server's own roles, each without `bindable`. "
    "All other roles have `bindable`.",
    bad={"roles.yaml": "clerk:\n  system: true\n  sentence: Files things.\n"},
    good=_GOOD,
)
ROLE_MISSING = LintRule(
    id="role-missing",
    title="A role that the server relies on is not declared.",
    why="Rules could not speak of it, and what the server does in its name would be refused.",
    mend="Declare it. It may have no rules.",
    bad={
        "roles.yaml": _ROLES.replace("owner: {implicit: true, sentence: Is the user.}\n", ""),
        "user.csv": "p, domain_admin, user, user, get, allow\n",
    },
    good={"roles.yaml": _ROLES},
    whole=True,
)
LOOK_ALIKE_ROLE = LintRule(
    id="look-alike-role",
    severity=Severity.WARNING,
    title="Two roles have names that a reader takes for one.",
    why="`l`, `1` and `i`, or `0` and `o`, are one letter to the eye, and `rn` reads like `m`. A grant to one will be"
    " read as a grant to the other.",
    mend="Give one of them another name.",
    bad={
        "roles.yaml": "domain_adrnin:\n  bindable: [domain]\n  sentence: Files things.\n",
        "domain.csv": "p, domain_adrnin, domain, user, get, allow\n",
    },
    good=_GOOD,
)

_MODEL = """[request_definition]
r = sub, scope, obj, act
[policy_definition]
p = sub, scope, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && (p.scope == "*" || r.scope == p.scope) && (p.obj == "*" || r.obj == p.obj) \
&& (p.act == "*" || r.act == p.act)
"""
_NO_DENIES = _MODEL.replace(" && !some(where (p.eft == deny))", "")
_MATCHER = _MODEL[_MODEL.index("m = ") :]
_NO_WILDCARDS = _MODEL.replace(
    _MATCHER, "m = g(r.sub, p.sub) && r.scope == p.scope && r.obj == p.obj && r.act == p.act\n"
)
_SHIPPED = {"model.conf": _MODEL}

MODEL_LINE = LintRule(
    id="model-line",
    title="A line of `model.conf` is none of a known model.",
    why="Casbin would take it for something, and the server's index promises to answer as Casbin does.",
    mend="Use the shipped file.",
    bad={"model.conf": f"{_MODEL}m2 = true\n"},
    good=_SHIPPED,
    whole=True,
)
MODEL_BRACKET = LintRule(
    id="model-bracket",
    title="A bracket in `model.conf` is not closed, or never opened.",
    why="Casbin stops at it without telling where, or reads on as if the section had not begun.",
    mend="Balance the brackets, or use the shipped file.",
    bad={"model.conf": _MODEL.replace("[matchers]", "[matchers")},
    good=_SHIPPED,
    whole=True,
)
MODEL_TWICE = LintRule(
    id="model-twice",
    title="`model.conf` defines something twice.",
    why="One of the two counts, and a reader cannot tell which.",
    mend="Keep one.",
    bad={"model.conf": _MODEL.replace("g = _, _\n", "g = _, _\ng = _, _\n")},
    good=_SHIPPED,
    whole=True,
)
MODEL_MISSING = LintRule(
    id="model-missing",
    title="`model.conf` leaves something undefined.",
    why="The file was cut short, or a line of it was lost. Casbin reads it all the same, and fails at the first "
    "request.",
    mend="Restore the line that the hint shows, or the shipped file.",
    bad={"model.conf": _MODEL.replace("[role_definition]\ng = _, _\n", "")},
    good=_SHIPPED,
    whole=True,
)
MODEL_UNKNOWN = LintRule(
    id="model-unknown",
    title="`model.conf` is of a shape that the server does not know.",
    why="With `||` for `&&`, or another order of the words, the same rules mean something else. The server decides by"
    " an index of its own and knows the shipped model, the same without denies, and the same without wildcards.",
    mend="Use the shipped file.",
    bad={"model.conf": _MODEL.replace("&& !some(", "|| !some(")},
    good=_SHIPPED,
    whole=True,
)
NO_DENIES = LintRule(
    id="no-denies",
    title="A rule denies, and the model ignores it.",
    why="With an effect that knows no deny, Casbin and the server let everything pass that another rule allows.",
    mend="Use the shipped `model.conf`, or remove the rule.",
    bad={"model.conf": _NO_DENIES, "user.csv": "p, owner, user, user, whoami, deny\n"},
    good={"model.conf": _MODEL, "user.csv": "p, owner, user, user, whoami, deny\n"},
    whole=True,
)
NO_WILDCARDS = LintRule(
    id="no-wildcards",
    title="A rule has a wildcard, and the model has none.",
    why="Without its `*` clauses the matcher compares the star like any other word, and no request has it.",
    mend="Use the shipped `model.conf`, or name each word.",
    bad={"model.conf": _NO_WILDCARDS},
    good={"model.conf": _NO_WILDCARDS, "superadmin.csv": "p, superadmin, admin, user, get, allow\n"},
    whole=True,
)

DECLARATION_RULES = (
    ROLES_SYNTAX,
    ROLES_FEATURE,
    ROLE_NAME,
    GIVEN_TWICE,
    ROLE_ATTRIBUTE,
    ROLE_SENTENCE,
    ROLE_BINDABLE,
    ROLE_KIND,
    ROLE_MISSING,
    LOOK_ALIKE_ROLE,
    MODEL_LINE,
    MODEL_BRACKET,
    MODEL_TWICE,
    MODEL_MISSING,
    MODEL_UNKNOWN,
    NO_DENIES,
    NO_WILDCARDS,
)
