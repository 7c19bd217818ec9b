"""The rules about a file as a whole: is it there, is it all there, and can what it shows be believed."""

from actions.authorization.linting.rule import LintRule
from actions.authorization.rules import Severity

_RULE = "p, domain_admin, domain, user, delete, allow\n"

MISSING_FILE = LintRule(
    id="missing-file",
    title="A file of the policy is missing, or cannot be read.",
    why="The rules that stood in it would be gone, the denies among them, and nobody would have said so.",
    mend="Restore it. A file with nothing to say still has a comment in it. If it is there, look at its permissions: "
    "the server reads it as the account that it runs as.",
    bad={"user.csv": None},
    good={"user.csv": "# Nothing more than one's own name.\np, owner, user, user, whoami, allow\n"},
    whole=True,
)
UNKNOWN_FILE = LintRule(
    id="unknown-file",
    title="A file looks like a part of the policy, and is none.",
    why="Its rules would be overlooked. A second file of a similar name, or one spelled with other capitals, is "
    "mostly a file in which somebody believes.",
    mend="Move its lines to the file of their scope, or give it another ending than `.csv`, `.conf`, `.yaml`.",
    bad={"Project.csv": "p, project_member, project, user, search, allow\n"},
    good={"project.csv": "p, project_member, project, user, search, allow\n"},
    whole=True,
)
EMPTY = LintRule(
    id="empty",
    title="A file is empty.",
    why="Casbin takes an empty file for a policy without rules. An empty file is mostly one whose writing was "
    "interrupted, and its denies are lost with its allows.",
    mend="Restore it. A file with nothing to say has a comment that says so.",
    bad={"user.csv": ""},
    good={"user.csv": "p, owner, user, user, whoami, allow\n"},
    whole=True,
)
TRUNCATED = LintRule(
    id="truncated",
    title="The last line of a file does not end.",
    why="A file that was cut short ends in the middle of a line, and the line may mean something all the same: `deny` "
    "lines after it are lost.",
    mend="Look whether the end is there, and end the last line with a newline, as editors do.",
    bad={"domain.csv": f"p, domain_member, domain, user, lookup, allow\n{_RULE}".rstrip("\n")},
    good={"domain.csv": f"p, domain_member, domain, user, lookup, allow\n{_RULE}"},
    whole=True,
)
TOO_LARGE = LintRule(
    id="too-large",
    title="A file is larger than any policy.",
    why="Whoever can write the files could keep the server busy with reading them.",
    mend="Rule files have room for 16 MiB, `roles.yaml` for 4 MiB, `model.conf` for 64 KiB. Who holds a role does not "
    "belong here: that is data.",
    bad={"model.conf": "# the language of the rules\n" * 2500},
    good={"user.csv": "# what one may do oneself\np, owner, user, user, whoami, allow\n"},
    whole=True,
)
ENCODING = LintRule(
    id="encoding",
    title="A file is not UTF-8.",
    why="Its bytes mean one text to one reader and another to the next, and Casbin would not read the file at all.",
    mend="Save the file as UTF-8.",
    bad={"user.csv": "# R\udce9serv\udce9\n"},
    good={"user.csv": "# R\u00e9serv\u00e9\n"},
)
BYTE_ORDER_MARK = LintRule(
    id="byte-order-mark",
    title="A file begins with a byte-order mark.",
    why="To Casbin the mark is a part of the first line, which then is of no known type and is dropped in silence. If"
    " it was a deny, what it denied is open.",
    mend='Save as UTF-8 *without* a byte-order mark. Some editors call the other "UTF-8 with signature".',
    bad={"user.csv": "\ufeffp, owner, user, user, whoami, allow\n"},
    good={"user.csv": "p, owner, user, user, whoami, allow\n"},
    whole=True,
)
LINE_ENDING = LintRule(
    id="line-ending",
    title="A line ends with a carriage return.",
    why="A carriage return overwrites, on a terminal, what stood in the line; and two readers of the file count its "
    "lines differently.",
    mend="Save with Unix line endings. In git, `policies/* text eol=lf` in `.gitattributes` keeps them so.",
    bad={"domain.csv": "p, domain_admin, domain, user, delete, allow\r\n"},
    good={"domain.csv": _RULE},
)
TAB = LintRule(
    id="tab",
    title="There is a tab.",
    why="A tab is as wide as the reader's editor pleases, so words stand under other words for each reader.",
    mend="Align with spaces, which count for nothing around a word.",
    bad={"domain.csv": "p,\tdomain_admin, domain, user, delete, allow\n"},
    good={"domain.csv": "p, domain_admin,  domain, user, delete, allow\n"},
)
INVISIBLE = LintRule(
    id="invisible",
    title="There is a character that cannot be seen.",
    why="A word with an invisible character in it is another word. A reviewer sees a deny; the rule denies somebody "
    "who does not exist.",
    mend="Delete the character: most editors can show it. In comments, too, there is none.",
    bad={"domain.csv": "p, domain_\u200badmin, domain, user, delete, deny\n"},
    good={"domain.csv": "p, domain_admin, domain, user, delete, deny\n"},
)
REORDERING = LintRule(
    id="reordering",
    title="There is a character that makes text run the other way.",
    why="What a reviewer reads is then not what the file says: words are shown in another order, and a comment can "
    "seem to end before it does.",
    mend="Delete the character. Languages that are written from right to left need none in a comment of theirs.",
    bad={"domain.csv": "# these may \u202eyned\u202c it\n"},
    good={"domain.csv": "# these may deny it\n"},
)
NO_RULE = LintRule(
    id="no-rule",
    severity=Severity.WARNING,
    title="A file of rules has none.",
    why="It may be meant so. It may also be the remains of a file.",
    mend="Look whether the file is whole. A policy without rules for a scope lets nobody but superadmins act there.",
    bad={"user.csv": "# What one may do oneself.\n"},
    good={"user.csv": "# What one may do oneself.\np, owner, user, user, whoami, allow\n"},
    whole=True,
)
TOO_MANY = LintRule(
    id="too-many",
    title="A file has so many mistakes that the rest of it was not read.",
    why="It is probably no file of this kind at all, or all its lines have one mistake in common.",
    mend="Mend those that are shown, and check again.",
    bad={"user.csv": "I owner, user, user, get, allow\n" * 101},
    good={"user.csv": "p, owner, user, user, get, allow\n"},
)

FILE_RULES = (
    MISSING_FILE,
    UNKNOWN_FILE,
    EMPTY,
    TRUNCATED,
    TOO_LARGE,
    ENCODING,
    BYTE_ORDER_MARK,
    LINE_ENDING,
    TAB,
    INVISIBLE,
    REORDERING,
    NO_RULE,
    TOO_MANY,
)
