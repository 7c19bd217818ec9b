"""The rules about ``audit.yaml``: can it be read, and does it leave in the log what has to be there."""

from actions.authorization.linting.rule import LintRule
from actions.authorization.rules import Severity

_FILE = "audit.yaml"
_QUIET = "rules:\n  - level: none\n    operations: [get, search]\n    entities: [project]\n    results: [succeeded]\n"
_HASHED = "redact:\n  - {entity: keypair, fields: [secret_key], as: hash}\n"

AUDIT_SYNTAX = LintRule(
    id="audit-syntax",
    title="`audit.yaml` cannot be read as rules.",
    why="What is not understood would either not be recorded, or be recorded where somebody thought that it is not.",
    mend="`rules` is a list: each has a `level` and, as far as it is narrower than everything, `operations`, "
    "`entities`, `scopes`, `results`, `surfaces`. `redact` is a list, too: each has an `entity`, `fields`, and `as`.",
    bad={_FILE: _QUIET.replace("operations", "operation")},
    good={_FILE: _QUIET},
    whole=True,
)
AUDIT_WORD = LintRule(
    id="audit-word",
    title="`audit.yaml` speaks of something that there is not.",
    why="A rule with a misspelt word is a rule about nothing. A field of a misspelt name would be recorded in full.",
    mend="Use the words of `chamberlain actions`, and the names that fields have in requests and answers.",
    bad={_FILE: _HASHED.replace("secret_key", "secretkey")},
    good={_FILE: _HASHED},
    whole=True,
)
AUDIT_MANDATORY = LintRule(
    id="audit-mandatory",
    title="A rule would leave out of the log what has to be recorded.",
    why="Changes, refusals, failures and whatever shows the log itself are recorded always, and changes of roles, "
    "policies and what the log keeps in full: a policy that could switch that off would be the first thing that "
    "somebody with something to hide would change.",
    mend="`level: none` is for reads that succeeded: name the `operations`, and `results: [succeeded]`. "
    "`level: metadata` may be said of anything but changes of roles, policies and what the log keeps: name the "
    "`entities`, or put a rule with `level: full` for these before it.",
    bad={_FILE: _QUIET.replace("get, search", "get, update")},
    good={_FILE: _QUIET},
    whole=True,
)
AUDIT_SECRET = LintRule(
    id="audit-secret",
    title="A field cannot be recorded in the way that is asked for.",
    why="A secret that stands in the log is none. A keyed hash tells whether a guess is right to whoever has the key: "
    "what people choose can be guessed, and what is told of a person must be gone once the person is erased.",
    mend="A secret that the server has issued is `omit` or `hash`, one that somebody has chosen `omit`. What is "
    "personal is `keep`, which seals it, or `omit`.",
    bad={_FILE: _HASHED.replace("hash", "keep")},
    good={_FILE: _HASHED},
    whole=True,
)
AUDIT_UNREACHABLE = LintRule(
    id="audit-unreachable",
    severity=Severity.WARNING,
    title="A rule of `audit.yaml` never decides.",
    why="The first rule that matches gives the level. Whoever wrote this one expects something of it.",
    mend="Move it before the broader rule, correct its words, or remove it.",
    bad={_FILE: _QUIET.replace("level: none", "level: full") + _QUIET.removeprefix("rules:\n")},
    good={_FILE: _QUIET},
    whole=True,
)
AUDIT_RULES = (AUDIT_SYNTAX, AUDIT_WORD, AUDIT_MANDATORY, AUDIT_SECRET, AUDIT_UNREACHABLE)
