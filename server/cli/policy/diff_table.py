"""A difference for people at a terminal: under each line what it changes, green for more and red for less."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from actions.authorization.difference_answer import (
    DifferenceCause,
    DifferenceEdit,
    DifferenceEffect,
    DifferenceGroup,
    PolicyDifference,
)
from server.cli.output import plain_console, unsteered
from server.cli.policy import diff_words as words
from server.cli.policy.words import counted, short

_SIGNS = {DifferenceEdit.ADDED: "+", DifferenceEdit.REMOVED: "-", DifferenceEdit.CHANGED: "~"}


def show(found: PolicyDifference, old: str, new: str) -> None:
    """Print it to standard output. ``old`` and ``new`` are what the versions are called."""
    console: Console = plain_console()
    for line in _lines(found, old, new):
        console.print(line, soft_wrap=not console.is_terminal)


def _lines(found: PolicyDifference, old: str, new: str) -> Iterator[Text]:
    yield Text(unsteered(f"from {old} ({short(found.old)}) to {new} ({short(found.new)})"), "dim")
    yield from _recording(found)
    for group in found.groups:
        yield Text()
        yield from _group(group)
    if found.roles:
        yield Text()
    for role in found.roles:
        sign = _SIGNS[role.edit]
        yield Text.assemble((f"{sign} ", "bold"), (role.line.place, "cyan"), f"  {role.role} {words.held(role)}")
    if found.idle:
        yield Text()
        changes = "line differs and changes" if found.idle_count == 1 else "lines differ and change"
        yield Text(f"{found.idle_count} {changes} no cell:")
        yield from (Text("  ").append_text(_cause(cause)) for cause in found.idle)
    yield Text()
    if found.truncated:
        yield Text(
            f"The answer is cut short: it has {counted(found.group_count, 'line')} that change something.", "yellow"
        )
    told = [words.headline(found.totals), words.people(found)]
    last = Text("; ".join(part for part in told if part), "bold")
    if (log := words.recording(found.recording)) is not None:
        last.append(f"; {log}", _colour(loosens=found.recording.loosens))
    yield last


def _recording(found: PolicyDifference) -> Iterator[Text]:
    """Before all else: who reads only the beginning, or only the end, must not miss that the log tells less."""
    recording = found.recording
    if (log := words.recording(recording)) is None:
        return
    yield Text()
    yield Text(f"{log[0].upper()}{log[1:]}", _colour(loosens=recording.loosens))
    for change in recording.changes:
        yield _cause(change.cause)
        said = Text(f"    {counted(change.cell_count, 'cell')} ")
        said.append(words.level(change), "red" if change.loosens else "green")
        yield said.append(f", {told}" if (told := words.outcomes(change)) else "")
        yield from (Text(f"        {scope:<8}{cells}") for scope, cells in words.cells(change))
    for redaction in recording.redactions:
        line = Text.assemble("    ", (f"{redaction.entity}.{redaction.field}", "bold"), ": ")
        yield line.append(words.redaction(redaction), "red" if redaction.loosens else "green")


def _colour(*, loosens: bool) -> str:
    return "bold red" if loosens else "bold green"


def _group(group: DifferenceGroup) -> Iterator[Text]:
    yield _cause(group.cause)
    for effect in group.effects:
        yield from _effect(effect)


def _cause(cause: DifferenceCause) -> Text:
    sign, place, said = _SIGNS[cause.edit], cause.line.place, words.plain(cause.line)
    line = Text.assemble((f"{sign} ", "bold"), (place, "cyan"), "  ", (said, "bold"))
    if cause.before is not None:
        line.append(f"  (was {cause.before.place}: {words.plain(cause.before)})", "dim")
    return line


def _effect(effect: DifferenceEffect) -> Iterator[Text]:
    colour = "green" if effect.kind.widens else "red"
    said = Text(f"    {', '.join(words.roles(effect))} ")
    said.append(f"{words.verb(effect)} {counted(effect.cell_count, 'cell')}{words.note(effect)}", colour)
    if (whom := words.touched(effect)) is not None:
        said.append(f"; touches {whom}")
    if effect.users is not None and effect.users.count:
        said.append(f": {words.some_ids(effect.users)}", "dim")
    yield said
    yield from (Text(f"        {scope:<8}{told}") for scope, told in words.cells(effect))
