"""How verdicts look: one mark and one colour each, the same in every table."""

from collections.abc import Iterable, Sequence

from rich.text import Text

from actions.authorization.answers import PolicyLine, Verdict
from server.cli.output import unsteered

MARKS = {Verdict.ALLOW: ("●", "bold green"), Verdict.DENY: ("✕", "bold red"), Verdict.NONE: ("·", "dim")}
_WORDS = {Verdict.ALLOW: "allowed", Verdict.DENY: "denied by name", Verdict.NONE: "no rule allows it"}


def mark(verdict: Verdict) -> Text:
    shown, style = MARKS[verdict]
    return Text(shown, style)


def told(verdict: Verdict) -> Text:
    shown, style = MARKS[verdict]
    return Text(f"{shown} {_WORDS[verdict]}", style)


def legend() -> Text:
    return Text("   ").join(told(verdict) for verdict in Verdict)


def line(rule: PolicyLine | None) -> Text:
    """A rule with its place."""
    return (
        Text("")
        if rule is None
        else Text.assemble((rule.place, "cyan"), "  ", (" ".join(unsteered(rule.text).split()), "dim"))
    )


def plain(text: str, style: str = "") -> Text:
    return Text(unsteered(text), style, overflow="fold")


def stairs(names: Sequence[str], indent: int) -> Iterable[Text]:
    """The heads of narrow columns, each on a step of its own: however long the names are, a column stays one wide."""
    for place, name in enumerate(names):
        yield Text.assemble(" " * indent, ("│ " * place, "dim"), (unsteered(name), "bold"))
