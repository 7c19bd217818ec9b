"""The rules about a policy's own cases: can they be read, and does the policy do what they say."""

from actions.authorization.linting.rule import LintRule

_TABLE = "tables:\n  - law: Members may look somebody up.\n    principals: [domain_member]\n    scopes: [domain]\n"
_GOOD = f"{_TABLE}    allow: {{user: [lookup]}}\n"
_FILE = "tests/domain.yaml"

CASE_SYNTAX = LintRule(
    id="case-syntax",
    title="A file of cases cannot be read as tables.",
    why="A case that is not understood tests nothing, and looks as if it did.",
    mend="A table has a `law` (a sentence), `principals`, `scopes`, and what it lets them do under `allow`, `deny`, "
    "or neither. Keys and words stand once; aliases are written out.",
    bad={_FILE: _GOOD.replace("principals", "principal")},
    good={_FILE: _GOOD},
    whole=True,
)
CASE_WORD = LintRule(
    id="case-word",
    title="A case speaks of something that there is not.",
    why="A misspelt word would be a case about nothing: it would pass for ever.",
    mend="Use the roles of `roles.yaml`, or principals that the file declares, and the words of `chamberlain actions`.",
    bad={_FILE: f"{_TABLE}    allow: {{user: [lookup, serch]}}\n"},
    good={_FILE: _GOOD},
    whole=True,
)
CASE_CONTRADICTION = LintRule(
    id="case-contradiction",
    title="A table wants the same thing to be allowed and denied.",
    why="No policy can meet it.",
    mend="Keep the one that is meant.",
    bad={_FILE: f"{_TABLE}    allow: {{user: [lookup]}}\n    deny: {{user: [lookup]}}\n"},
    good={_FILE: _GOOD},
    whole=True,
)
CASE_SIZE = LintRule(
    id="case-size",
    title="The cases are larger than anybody reads.",
    why="A few lines can ask for billions of answers, and whoever can write the files could keep the server busy.",
    mend="A file has room for 256 KiB, and all tables together for 250,000 answers. Name fewer principals at once, or "
    "the `entities` that a table is about.",
    bad={_FILE: _GOOD + "# and so on\n" * 25_000},
    good={_FILE: _GOOD},
    whole=True,
)
CASE_FAILED = LintRule(
    id="case-failed",
    title="The policy does not do what a case says.",
    why="The rules and what they are meant to do have parted. Such a policy never goes live.",
    mend="Change the rule; or the case, if this is what you mean. What a table does not list is meant to be refused.",
    bad={_FILE: f"{_TABLE}    allow: {{user: [lookup, search]}}\n"},
    good={_FILE: _GOOD},
    whole=True,
)
CASE_RULES = (CASE_SYNTAX, CASE_WORD, CASE_CONTRADICTION, CASE_SIZE, CASE_FAILED)
