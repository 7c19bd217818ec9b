"""A difference as a comment on a pull request: what a reviewer has to know in a few lines, the rest folded away.

A program that posts it finds its earlier comment by ``MARKER``, and replaces it. What does not fit into a comment of
GitHub's is left out, and said to be.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from actions.authorization.difference_answer import (
    DifferenceCause,
    DifferenceEffect,
    DifferenceGroup,
    DifferenceKind,
    PolicyDifference,
    RecordingChange,
    RecordingDifference,
)
from server.cli.output import unsteered
from server.cli.policy import diff_words as words
from server.cli.policy.words import counted, short

MARKER = "<!-- chamberlain policy diff -->"
AT_MOST = 65_536
"""The longest comment that GitHub takes, in characters."""
_RESERVED = 300
_HEADS = {
    DifferenceKind.GAINED: "Gained",
    DifferenceKind.LOST: "Lost",
    DifferenceKind.BARRED: "Barred: whoever holds the role is denied it, whatever their other roles allow",
    DifferenceKind.UNBARRED: "No longer barred: whoever holds the role may do it if another role allows it",
}


@dataclass(frozen=True)
class _Section:
    """Rows between an opening and a closing, all of them or as many as fit."""

    opening: str
    rows: list[str]
    closing: str = "\n"


def markdown(found: PolicyDifference, old: str, new: str) -> str:
    """The comment. ``old`` and ``new`` are what the versions are called."""
    log = words.recording(found.recording)
    head = [MARKER, f"### Policy: {words.headline(found.totals)}{f'; {log}' if log else ''}", ""]
    if found.recording.loosens:  # in the part of a comment that always fits
        less = words.recording(found.recording.model_copy(update={"more": 0, "fields_more": 0})) or ""
        gone = "What is left out is in no record, and no later policy brings it back."
        head += ["> [!CAUTION]", f"> **{less[0].upper()}{less[1:]}.** {gone}", ""]
    head.append(f"From {code(old)} ({code(short(found.old))}) to {code(new)} ({code(short(found.new))}).")
    if (told := words.people(found)) is not None:
        head.append(f"{told[0].upper()}{told[1:]}.")
    text = "\n".join(head) + "\n"
    left, dropped = AT_MOST - len(text) - _RESERVED, 0
    for section in _sections(found):
        frame = len(section.opening) + len(section.closing)
        kept: list[str] = []
        for row in section.rows:
            if len(row) + (0 if kept else frame) > left:
                break
            left -= len(row) + (0 if kept else frame)
            kept.append(row)
        dropped += len(section.rows) - len(kept)
        if kept:
            text += section.opening + "".join(kept) + section.closing
    if dropped or found.truncated:
        told = f"{counted(dropped, 'row')} did not fit" if dropped else "The answer was cut short"
        text += f"\n**This is not all of it.** {told}; `chamberlain policy diff --format json` tells more.\n"
    return text


def _sections(found: PolicyDifference) -> Iterator[_Section]:
    yield from _recording(found.recording)
    with_users = found.users is not None
    for kind, title in _HEADS.items():
        rows = [
            _row(group.cause, effect, with_users=with_users)
            for group in found.groups
            for effect in group.effects
            if effect.kind is kind
        ]
        columns = ["role", "cells", "because of", *(["touches"] if with_users else [])]
        table = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
        yield _Section(f"\n#### {title}\n\n{table}", rows, "")
    declared = [f"- {code(role.role)} {words.held(role)} ({code(role.line.place)})\n" for role in found.roles]
    yield _Section("\n#### Roles\n\n", declared, "")
    cells = [_details(group) for group in found.groups]
    yield _Section("\n<details>\n<summary>Every cell, line by line</summary>\n\n", cells, "</details>\n")
    idle = [f"- {_cause(cause)}\n" for cause in found.idle]
    summary = f"Lines that change no cell ({found.idle_count})"
    yield _Section(f"\n<details>\n<summary>{summary}</summary>\n\n", idle, "\n</details>\n")


def _recording(found: RecordingDifference) -> Iterator[_Section]:
    for loosens, title in ((True, "Recorded less"), (False, "Recorded more")):
        rows = [_recorded(change) for change in found.changes if change.loosens is loosens]
        table = "| level | when | cells | because of |\n|---|---|---|---|\n"
        yield _Section(f"\n#### {title}\n\n{table}", rows, "")
        fields = [
            f"- {code(f'{change.entity}.{change.field}')}: {words.redaction(change)}\n"
            for change in found.redactions
            if change.loosens is loosens
        ]
        yield _Section(f"\n#### Fields: {title[0].lower()}{title[1:]}\n\n", fields, "")


def _recorded(change: RecordingChange) -> str:
    told = "<br>".join(f"*{scope}* {named}" for scope, named in words.cells(change))
    columns = [words.level(change), words.outcomes(change) or "always", f"{change.cell_count}<br>{told}"]
    return f"| {' | '.join(in_table(column) for column in (*columns, _cause(change.cause)))} |\n"


def _row(cause: DifferenceCause, effect: DifferenceEffect, *, with_users: bool) -> str:
    told = "<br>".join(f"*{scope}* {named}" for scope, named in words.cells(effect))
    columns = [_roles(effect), f"{effect.cell_count}{words.note(effect)}<br>{told}", _cause(cause)]
    columns += [words.touched(effect) or ""] if with_users else []
    return f"| {' | '.join(in_table(column) for column in columns)} |\n"


def _details(group: DifferenceGroup) -> str:
    lines = [f"{_cause(group.cause)}\n"]
    for effect in group.effects:
        lines.append(f"- {_roles(effect)}: {effect.kind} {effect.before} → {effect.after}")
        lines += [f"  - *{scope}* {told}" for scope, told in words.cells(effect, spelled_out=True)]
        if effect.users is not None and effect.users.count:
            lines.append(f"  - touches {words.touched(effect)}: {words.some_ids(effect.users)}")
    return "\n".join(lines) + "\n\n"


def _cause(cause: DifferenceCause) -> str:
    was = f" (was {code(cause.before.text)})" if cause.before else ""
    return f"{cause.edit} {code(cause.line.place)} {code(cause.line.text)}{was}"


def _roles(effect: DifferenceEffect) -> str:
    return ", ".join(code(role) if role in effect.roles else role for role in words.roles(effect))


def code(text: str) -> str:
    """A text in the fixed font, as it is: nothing in it is markup, a mention or a line's end."""
    text = unsteered(" ".join(text.split()))
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def in_table(text: str) -> str:
    """A text in a table: there a bar ends a cell, in the fixed font as well."""
    return text.replace("|", "\\|")
