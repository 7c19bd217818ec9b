"""What wraps the pipeline: the ``Hook`` protocol, and the ``Outcome`` that an action's course is written into.

Hooks see every action, refused and crashed ones too. The outcome is the single account of a request that the audit
record, the metrics and the log line are made from, so that they cannot tell different stories.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple, Protocol
from uuid import UUID

from pydantic import BaseModel

from actions.action import AnyAction, Decision, Lineage
from actions.auditing import AuditPolicy
from actions.batch import Mode, failing, placed
from actions.errors import (
    LEFT_EARLY,
    AuditUnavailable,
    BrokenOff,
    ChamberlainError,
    Denied,
    Internal,
    OutcomeUnknown,
    Undecided,
)
from actions.streams import Progress
from audit.log import LogUnavailable
from audit.pulse import Pulse
from audit.record import Phase


class Result(StrEnum):
    """How an action ended. ``undecided``: deciding itself failed, so it was refused.
    ``unknown``: the database did not say whether the change was made. ``broken-off``: a stream's reader was not sent
    all that was asked for."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    DENIED = "denied"
    UNDECIDED = "undecided"
    FAILED = "failed"
    UNKNOWN = "unknown"
    BROKEN_OFF = "broken-off"


@dataclass(frozen=True, slots=True)
class UsedThing:
    """A thing that the input named, and what the policy said of using it (law 4).

    ``held`` is what it was decided with: for each scope of the thing's lineage its type and the roles that counted
    there. None where there is no such thing, and so nothing was decided.
    """

    field: str
    entity: str
    key: str
    decision: Decision | None
    operation: str
    held: tuple[tuple[str, frozenset[str]], ...] | None


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of the target before and after. ``confidentiality`` is '', 'personal' or 'secret'.

    Of a secret the values are the secret itself, or nothing that tells of it. No record holds them: a keyed hash of a
    ``new`` one at most, if it is a text and the audit policy wants it.
    """

    name: str
    old: object = field(repr=False)
    new: object = field(repr=False)
    confidentiality: str = ""


class Noted(NamedTuple):
    """What whoever answers a question says of it: in words that were understood, so that they can stand in the open."""

    field: str
    value: object


@dataclass(frozen=True, slots=True)
class PartOf:
    """Which batch an account belongs to, and its place there."""

    batch: UUID
    place: int


@dataclass(slots=True)
class Outcome:
    """The account of one action, filled in as it runs. Durations are in seconds."""

    action: AnyAction
    started: float = field(default_factory=time.perf_counter)
    lineage: Lineage | None = None
    decision: Decision | None = None
    roles: frozenset[str] = frozenset()
    """Those that counted when it was decided."""
    audit: AuditPolicy | None = None
    """How much of it is recorded, as the policy has it that decides; None while none was asked: then all is."""
    uses: list[UsedThing] = field(default_factory=list)
    target: str | None = None
    target_lineage: Lineage | None = None
    question: BaseModel | None = field(default=None, repr=False)
    """What was asked beyond the address, once it is an input: None where there is nothing more, or all of it is
    ``noted`` in words that say it better."""
    noted: tuple[Noted, ...] = ()
    changes: tuple[FieldChange, ...] = ()
    subject: UUID | None = None
    """Whose personal data the changes hold: the key they are sealed under."""
    claimed: str = ""
    """Who a caller that could not prove it said it was. Sealed: people type passwords there."""
    result: Result = Result.PENDING
    error: ChamberlainError | None = None
    crash: BaseException | None = None
    phase: Phase = Phase.DONE
    """The phase of the record that is still to be written. ``OUTCOME``: an intent is on disk."""
    recorded: bool = False
    """The record has been committed, in the change's own transaction or by the log."""
    stages: dict[str, float] = field(default_factory=dict)
    mode: Mode | None = None
    """Of a batch."""
    parts: list["Outcome"] = field(default_factory=list)
    """The accounts of a batch's items, in the order of the request."""
    part_of: PartOf | None = None
    sent: int | None = None
    """Of a stream: how many parts it has sent."""

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def succeeded(self) -> None:
        self.result = Result.SUCCEEDED

    def committed(self) -> None:
        """The record is on disk with the change; with a batch's, those of its items."""
        self.recorded = True
        for part in self.parts:
            part.recorded = True
            if part.result is Result.PENDING:
                part.succeeded()

    def ended_by(self, error: BaseException) -> None:
        """Note what stopped the action. A crash shows to the caller as ``Internal``; the log gets the cause."""
        if not isinstance(error, ChamberlainError):
            self.crash, error = error, Internal()
        elif isinstance(error, Undecided | OutcomeUnknown):
            self.crash = error.__cause__
        self.error = error
        self.result = next(result for kind, result in _RESULTS if isinstance(error, kind))

    def item_failed(self, place: int, error: ChamberlainError) -> None:
        """Note that an item of this batch is not done (law 9). In a partial one the others go on without it.

        Raises what an atomic batch fails with; and in either, what is no item's fault.
        """
        part = self.parts[place]
        if self.mode is Mode.PARTIAL and error.face < Internal.status:
            part.ended_by(placed(error, place))
            return
        self.target, self.target_lineage = part.target, part.target_lineage
        raise failing(placed(error, place), place) if error.face < Internal.status else error


_RESULTS: tuple[tuple[type[ChamberlainError], Result], ...] = (
    (Undecided, Result.UNDECIDED),
    (Denied, Result.DENIED),
    (OutcomeUnknown, Result.UNKNOWN),
    (BrokenOff, Result.BROKEN_OFF),
    (ChamberlainError, Result.FAILED),
)


class Hook(Protocol):
    """Something that is told of every action's beginning and end. Raising at the end turns the answer into that
    error; at the beginning it may not. Who is cancelled while it is told of the end is told again, and does then what
    it has not yet done."""

    def before(self, action: AnyAction) -> None: ...
    async def after(self, outcome: Outcome) -> None: ...


class wrapped:
    """``async with wrapped(hooks, action) as outcome:`` runs a pipeline inside its hooks, listed outermost first; the
    innermost is told first.

    The hooks finish even if the caller hangs up, because a record must not be lost to a cancelled request: the one
    that was waiting then is told once more, in a task of its own, and the others after it. A crash leaves as
    ``Internal``.
    """

    __slots__ = ("_hooks", "_outcome")

    def __init__(self, hooks: Sequence[Hook], action: AnyAction) -> None:
        self._hooks = hooks
        self._outcome = Outcome(action)

    async def __aenter__(self) -> Outcome:
        _announce(self._hooks, self._outcome)
        return self._outcome

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = self._outcome
        if isinstance(error, asyncio.CancelledError):
            if outcome.recorded:
                outcome.succeeded()  # the change was committed; only nobody waits for the answer
            elif outcome.result is not Result.UNKNOWN:
                outcome.ended_by(error)
        elif error is not None:
            outcome.ended_by(error)
        untold = list(self._hooks)
        try:
            await _tell(untold, outcome)
        except asyncio.CancelledError:
            await asyncio.shield(_tell(untold, outcome))  # it goes on by itself, from where it was
            raise
        if error is not None and not isinstance(error, Exception):
            return  # it goes on as it is
        if outcome.error is not None and outcome.error is not error:
            raise outcome.error from error or outcome.error.__cause__


class recordable:
    """What lasts only while the log answers (law 7): begun while it hangs, or overtaken by that, it is not done."""

    __slots__ = ("_outcome", "_watched")

    def __init__(self, outcome: Outcome, pulse: Pulse) -> None:
        self._outcome, self._watched = outcome, pulse.watched()

    def __enter__(self) -> None:
        try:
            self._watched.__enter__()
        except LogUnavailable as error:
            raise AuditUnavailable from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._watched.__exit__(kind, error, trace)
        except LogUnavailable as overtaken:
            outcome = self._outcome
            if outcome.recorded or outcome.phase is Phase.OUTCOME or outcome.result is Result.UNKNOWN:
                # It is done, or may be.
                raise OutcomeUnknown(str(self._outcome.action.id)) from overtaken
            raise AuditUnavailable from overtaken


@asynccontextmanager
async def until_closed(
    hooks: Sequence[Hook], opened: Outcome, progress: Callable[[], Progress]
) -> AsyncIterator[Outcome]:
    """The second account of a stream, from its opening to its end; the hooks are told once, however it ends.

    It has succeeded if its reader left and had all that was asked for. What the stream itself ends by, whoever sends it
    notes in the outcome; whoever cuts it short raises ``BrokenOff``, or fails. An end that cannot be recorded is
    raised, unless a reader that failed has an error of its own.
    """
    outcome = replace(opened, phase=Phase.CLOSED, result=Result.PENDING, recorded=False, stages={}, sent=0)
    left: BaseException | None = None
    _announce(hooks, outcome)
    try:
        yield outcome
    except BaseException as error:
        left = error
    come = progress()
    if outcome.result is Result.PENDING:
        if left is not None:
            outcome.ended_by(left if isinstance(left, BrokenOff) else BrokenOff())
        elif come.complete:
            outcome.succeeded()
        else:
            outcome.ended_by(BrokenOff(LEFT_EARLY))
    if come.records is not None:
        outcome.changes += (FieldChange("sent", None, {"records": come.records, "last": come.last}),)
    ended_by = outcome.error
    await asyncio.shield(_tell(list(hooks), outcome))
    if outcome.error is not None and outcome.error is not ended_by and isinstance(left, ChamberlainError | None):
        raise outcome.error from left
    if left is not None:
        raise left


def _announce(hooks: Sequence[Hook], outcome: Outcome) -> None:
    for hook in hooks:
        hook.before(outcome.action)


async def _tell(untold: list[Hook], outcome: Outcome) -> None:
    """Tell the hooks, the last first; who has been told is taken off the list."""
    while untold:
        try:
            await untold[-1].after(outcome)
        except Exception as error:
            outcome.ended_by(error)
        untold.pop()
