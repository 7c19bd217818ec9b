"""What is different between two audit policies: every action and outcome that would be recorded at another level, by
the rule that makes it so, and every field of which something else would be kept.

Exact: each cell is asked about with each result and each surface, as the log itself will ask. A rule that is moved, or
written otherwise, and changes nothing, is no difference. This module knows no roles and no decisions.
"""

from collections.abc import Iterator

from actions.auditing import RESULTS, SURFACES, AuditPolicy, AuditRule, Level, Redaction, fields_of
from actions.authorization import audit_file
from actions.authorization.answers import Cell, PolicyLine
from actions.authorization.difference_answer import (
    DifferenceCause,
    DifferenceEdit,
    RecordingChange,
    RecordingDifference,
    RedactionChange,
)
from actions.vocabulary import Kind, Permission, ScopeType, Vocabulary

_SCOPES = [*ScopeType]
_Moved = tuple[Level, Level, DifferenceCause]


def recording_difference(old: AuditPolicy, new: AuditPolicy, vocabulary: Vocabulary) -> RecordingDifference:
    """What would be recorded otherwise. What is recorded less comes first."""
    changes = sorted(_changes(old, new, vocabulary), key=lambda change: (not change.loosens, change.cause.line.line))
    redactions = sorted(_redactions(old, new, vocabulary), key=lambda change: not change.loosens)
    less, more = (
        {str(cell) for change in changes if change.loosens is loosens for cell in change.cells}
        for loosens in (True, False)
    )
    return RecordingDifference(
        less=len(less),
        more=len(more),
        fields_less=sum(change.loosens for change in redactions),
        fields_more=sum(not change.loosens for change in redactions),
        changes=changes,
        change_count=len(changes),
        redactions=redactions,
        redaction_count=len(redactions),
    )


def _changes(old: AuditPolicy, new: AuditPolicy, vocabulary: Vocabulary) -> Iterator[RecordingChange]:
    if old.rules == new.rules:
        return
    causes = _Causes(old, new)
    gathered: dict[tuple[_Moved, tuple[str, ...], tuple[str, ...]], list[Permission]] = {}
    for cell in sorted(
        vocabulary, key=lambda cell: (_SCOPES.index(ScopeType(cell.scope)), cell.entity, cell.operation)
    ):
        for moved, outcomes in _of_cell(cell, old, new, causes).items():
            for results, surfaces in _rectangles(outcomes):
                gathered.setdefault((moved, results, surfaces), []).append(cell)
    for ((before, after, cause), results, surfaces), cells in gathered.items():
        yield RecordingChange(
            cause=cause,
            before=before,
            after=after,
            results=list(results),
            surfaces=list(surfaces),
            cells=[Cell.of(cell) for cell in cells],
            cell_count=len(cells),
        )


def _of_cell(
    cell: Permission, old: AuditPolicy, new: AuditPolicy, causes: "_Causes"
) -> dict[_Moved, dict[str, list[str]]]:
    """What moves from one level to another, and why: for each, the results and the surfaces that it is so for."""
    found: dict[_Moved, dict[str, list[str]]] = {}
    for result in RESULTS:
        for surface in SURFACES:
            before, after = old.level(cell, result, surface), new.level(cell, result, surface)
            if before is not after:
                cause = causes.of(old.deciding(cell, result, surface), new.deciding(cell, result, surface))
                found.setdefault((before, after, cause), {}).setdefault(result, []).append(surface)
    return found


def _rectangles(outcomes: dict[str, list[str]]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Results that are so for the same surfaces, together."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for result, surfaces in outcomes.items():
        alike.setdefault(tuple(surfaces), []).append(result)
    return ((tuple(results), surfaces) for surfaces, results in alike.items())


class _Causes:
    """The rule that makes a level another one: new, or gone, or in another place among the others."""

    def __init__(self, old: AuditPolicy, new: AuditPolicy) -> None:
        self._old = {rule: rule.line for rule in reversed(old.rules)}
        self._new = {rule: rule.line for rule in reversed(new.rules)}

    def of(self, before: AuditRule | None, after: AuditRule | None) -> DifferenceCause:
        if after is not None and after not in self._old:
            return DifferenceCause(edit=DifferenceEdit.ADDED, line=_line(after, after.line))
        if before is not None and before not in self._new:
            return DifferenceCause(edit=DifferenceEdit.REMOVED, line=_line(before, before.line))
        moved = after or before
        assert moved is not None  # without a rule in either version both are full  # noqa: S101
        return DifferenceCause(
            edit=DifferenceEdit.CHANGED,
            line=_line(moved, self._new[moved]),
            before=_line(moved, self._old[moved]),
        )


def _line(rule: AuditRule, number: int) -> PolicyLine:
    return PolicyLine(file=audit_file.FILE, line=number, text=str(rule))


def _redactions(old: AuditPolicy, new: AuditPolicy, vocabulary: Vocabulary) -> Iterator[RedactionChange]:
    for entity in sorted({cell.entity for cell in vocabulary}):
        for name, kind in sorted(fields_of(entity, vocabulary).items()):
            unsaid = Redaction.OMIT if kind in (Kind.ISSUED, Kind.CHOSEN) else Redaction.KEEP
            before, after = (policy.redaction(entity, name) or unsaid for policy in (old, new))
            if before is not after:
                yield RedactionChange(entity=entity, field=name, before=before, after=after)
