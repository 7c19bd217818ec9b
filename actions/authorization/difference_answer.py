"""What ``policy diff`` answers with: what changed, by the line that made it change, and whom it touches."""

from enum import StrEnum
from uuid import UUID

from pydantic import Field

from actions.auditing import Level, Redaction
from actions.authorization.answers import Cell, PolicyLine, Verdict
from actions.model import Output
from actions.vocabulary import ScopeType


class DifferenceKind(StrEnum):
    """What became of a role on a cell.

    *Gained*: it is allowed now. *Lost*: it is allowed no longer. *Barred*: an explicit deny came, which takes the cell
    away from whoever is allowed it by another role. *Unbarred*: such a deny went.
    """

    GAINED = "gained"
    LOST = "lost"
    BARRED = "barred"
    UNBARRED = "unbarred"

    @classmethod
    def of(cls, before: Verdict, after: Verdict) -> "DifferenceKind":
        if after is Verdict.ALLOW:
            return cls.GAINED
        if before is Verdict.ALLOW:
            return cls.LOST
        return cls.BARRED if after is Verdict.DENY else cls.UNBARRED

    @property
    def widens(self) -> bool:
        """Whether somebody may do more by it, and not less."""
        return self in (DifferenceKind.GAINED, DifferenceKind.UNBARRED)


class DifferenceEdit(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class DifferenceCause(Output):
    """A line that only one of the versions has, or that says the opposite in the other."""

    edit: DifferenceEdit
    line: PolicyLine = Field(description="Where it stands: in the new version, or in the old one if it was removed.")
    before: PolicyLine | None = Field(default=None, description="What a changed line said in the old version.")


class TouchedUsers(Output):
    count: int
    first: list[UUID] = Field(description="The first few of them, by id.")


class DifferenceEffect(Output):
    """One change of verdict for some roles on some cells: each of these roles, on each of these cells."""

    kind: DifferenceKind
    before: Verdict
    after: Verdict
    roles: list[str]
    role_count: int
    cells: list[Cell]
    cell_count: int
    users: TouchedUsers | None = Field(
        default=None, description="The users who hold one of the roles, and gain or lose one of the cells by it."
    )


class DifferenceGroup(Output):
    """All that one line makes different."""

    cause: DifferenceCause
    effects: list[DifferenceEffect]


class RoleDifference(Output):
    """A role that was declared, or is no longer, or may be held elsewhere."""

    role: str
    edit: DifferenceEdit
    line: PolicyLine
    before: list[ScopeType] = Field(description="The types of scope in which it could be held.")
    after: list[ScopeType]

    @property
    def widens(self) -> bool:
        return not set(self.after) <= set(self.before)

    @property
    def narrows(self) -> bool:
        return not set(self.before) <= set(self.after)


class RecordingChange(Output):
    """Some actions that would be recorded at another level than before, because of one rule of the audit policy."""

    cause: DifferenceCause = Field(
        description="The rule that decides; or the one that did, where none speaks of it now."
    )
    before: Level
    after: Level
    results: list[str] = Field(description="How the actions ended that this is about.")
    surfaces: list[str] = Field(description="What they came by.")
    cells: list[Cell]
    cell_count: int

    @property
    def loosens(self) -> bool:
        """Whether less is recorded by it."""
        return _LEVELS.index(self.after) < _LEVELS.index(self.before)


class RedactionChange(Output):
    """A field of which something else would be recorded than before."""

    entity: str
    field: str
    before: Redaction
    after: Redaction

    @property
    def loosens(self) -> bool:
        """Whether less is recorded by it."""
        return _REDACTIONS.index(self.after) < _REDACTIONS.index(self.before)


class RecordingDifference(Output):
    """What changes in how much is recorded: whatever the audit policy says, and whatever it is silent about."""

    less: int = Field(default=0, description="Cells of which, in some outcome, less would be recorded.")
    more: int = Field(default=0, description="Cells of which, in some outcome, more would be recorded.")
    fields_less: int = Field(default=0, description="Fields of which less would be recorded.")
    fields_more: int = Field(default=0, description="Fields of which more would be recorded.")
    changes: list[RecordingChange] = Field(default_factory=list)
    change_count: int = 0
    redactions: list[RedactionChange] = Field(default_factory=list)
    redaction_count: int = 0

    @property
    def is_empty(self) -> bool:
        return self.change_count == self.redaction_count == 0

    @property
    def loosens(self) -> bool:
        """Whether anything would leave less behind in the log than before."""
        return bool(self.less or self.fields_less)


_LEVELS = [*Level]
_REDACTIONS = [*Redaction]


class DifferenceUsers(Output):
    """Whoever may do something, somewhere, that they might not before; and whoever may not any longer."""

    gain: TouchedUsers
    lose: TouchedUsers


class DifferenceTotals(Output):
    """How many pairs of a role and a cell there are of each kind."""

    gained: int = 0
    lost: int = 0
    barred: int = 0
    unbarred: int = 0


class PolicyDifference(Output):
    """Everything that changes from the old version to the new one."""

    old: str = Field(description="The digest of the old version.")
    new: str = Field(description="The digest of the new version.")
    totals: DifferenceTotals
    groups: list[DifferenceGroup] = Field(description="What changes, by the line that makes it change.")
    group_count: int
    roles: list[RoleDifference]
    role_count: int
    idle: list[DifferenceCause] = Field(description="Lines that only one version has, and that change no cell.")
    idle_count: int
    recording: RecordingDifference = Field(description="What would be recorded otherwise.")
    users: DifferenceUsers | None = Field(
        default=None, description="Null: the users were not looked at, for want of a database or of the right to see."
    )
    truncated: bool = Field(default=False, description="There is more than is shown; the counts are of everything.")

    @property
    def is_empty(self) -> bool:
        """Whether every decision is the same, every role may be held where it could be, and all is recorded as it
        was."""
        return self.group_count == self.role_count == 0 and self.recording.is_empty

    @property
    def widens(self) -> bool:
        """Whether anybody may do more, or may come to hold a role in a place where nobody could; or may do something
        that leaves less in the log."""
        more = bool(self.totals.gained or self.totals.unbarred) or self.recording.loosens
        return more or any(role.widens for role in self.roles)

    @property
    def narrows(self) -> bool:
        return bool(self.totals.lost or self.totals.barred) or any(role.narrows for role in self.roles)


def bounded(found: PolicyDifference, *, groups: int, parts: int) -> PolicyDifference:
    """At most so many groups, and so many roles and cells in them together; the rest is only counted. What is recorded
    less goes before all else."""
    recording, left = _bounded(found.recording, groups, parts)
    kept: list[DifferenceGroup] = []
    for group in found.groups[:groups] if left else ():
        effects = []
        for effect in group.effects:
            roles = effect.roles[:left]
            cells = effect.cells[: left - len(roles)]
            left -= len(roles) + len(cells)
            effects.append(effect.model_copy(update={"roles": roles, "cells": cells}))
        kept.append(group.model_copy(update={"effects": effects}))
        if left == 0:
            break
    shown = {"groups": kept, "roles": found.roles[:groups], "idle": found.idle[:groups], "recording": recording}
    cut = found.model_copy(update=shown)
    return cut if cut == found else cut.model_copy(update={"truncated": True})


def _bounded(found: RecordingDifference, groups: int, parts: int) -> tuple[RecordingDifference, int]:
    """The same for what is recorded, and how many parts are left then."""
    kept: list[RecordingChange] = []
    for change in found.changes[:groups]:
        cells = change.cells[:parts]
        parts -= len(cells)
        kept.append(change.model_copy(update={"cells": cells}))
        if parts == 0:
            break
    return found.model_copy(update={"changes": kept, "redactions": found.redactions[:groups]}), parts
