"""The rules of the linter as their page shows them: each under its id, with examples and what is said of a bad one."""

import re

from actions.authorization.linting.all_rules import GROUPS
from actions.authorization.linting.rule import Example, LintRule
from tests.policy.lint_examples import findings

_LINES_AT_MOST = 14
_UNSEEN = re.compile("[^\n\x20-\x7e\u00a1-\u1fff\uac00-\ud7a3]")


def lint_rules() -> str:
    """Every rule, group by group."""
    return "\n".join(f"## {group}\n\n" + "\n".join(_section(rule) for rule in rules) for group, rules in GROUPS.items())


def _section(rule: LintRule) -> str:
    told = "\n".join(f"{found}\n    {found.hint}" for found in findings(rule, rule.bad) if found.rule_id == rule.id)
    return (
        f"### {rule.id}\n\n"
        f"**{rule.title}** *({rule.severity})*\n\n"
        f"{rule.why}\n\n{rule.mend}\n\n"
        f"Bad:\n\n{_shown(rule, rule.bad)}\n```\n{told}\n```\n\n"
        f"Good:\n\n{_shown(rule, rule.good)}"
    )


def _shown(rule: LintRule, said: Example) -> str:
    return "".join(_file(name, text, rule.whole) for name, text in said.items())


def _file(name: str, text: str | None, whole: bool) -> str:
    if text is None:
        return f"There is no `{name}`.\n"
    if not text:
        return f"`{name}` has nothing in it.\n"
    lines = text.removesuffix("\n").split("\n")
    if len(lines) > _LINES_AT_MOST:
        lines = [*lines[:3], f"... and {len(lines) - 3:,} more lines"]
    shown = "\n".join(_UNSEEN.sub(_name, line) for line in lines) + "\u27e8end\u27e9" * (not text.endswith("\n"))
    return f"`{name}`{'' if whole else ', at its end'}:\n\n```\n{shown}\n```\n"


def _name(found: re.Match[str]) -> str:
    """What cannot be seen, or is no character at all, by its number."""
    number = ord(found.group())
    return f"\u27e80x{number - 0xDC00:02X}\u27e9" if 0xDC80 <= number <= 0xDCFF else f"\u27e8U+{number:04X}\u27e9"
