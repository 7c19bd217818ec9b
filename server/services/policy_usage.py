"""Answering from the audit log: replaying it under a policy, finding what nobody needed, drafting the least.

Reading ends at a number of records or after some seconds, whichever is first, and the answer says how far it came.
Whoever follows an answer, on the machine itself, is given one that reaches further back with each part.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pydantic import BaseModel

from actions.authorization.draft import draft
from actions.authorization.index import PolicyIndex
from actions.authorization.recorded import Decided, LogReach, NoRecord, Reading, Tally, Times
from actions.authorization.replay import Replayer
from actions.authorization.source import PolicySource
from actions.authorization.usage import unused, words_in
from actions.entities import permissions_by_action
from actions.entities.policy_usage import DRAFT, REPLAY, SPECS, UNUSED
from actions.errors import Conflict
from actions.processor import Given, Offer
from actions.standard import Spec
from actions.streams import Progress
from server.repositories.decisions import PAGE, DecisionRepository, Place
from server.repositories.unit import Unit
from server.services.chosen_policy import ChosenPolicy
from server.services.question_record import understood

SECONDS = 15.0
"""How long one answer may read: a caller does not wait for ever."""
_VERSIONS_AT_MOST = 100


@dataclass(frozen=True)
class Prepared:
    """The policy that is asked about, and the files that it is made of."""

    index: PolicyIndex
    source: PolicySource


class Fold(Protocol):
    """What becomes of the decisions that are read."""

    def add(self, decided: Decided, times: Times) -> None: ...


class LogReader:
    """Reads a range of the log from the newest record back, as far as it is let, and goes on from there."""

    def __init__(
        self, decisions: DecisionRepository, fold: Fold, since: datetime | None, until: datetime | None
    ) -> None:
        self._decisions = decisions
        self._fold = fold
        self._since, self._until = since, until
        self._place: Place | None = decisions.newest(since, until)
        self._reading = Reading()

    @property
    def at_end(self) -> bool:
        return self._place is None

    async def read(self, unit: Unit, records: int) -> LogReach:
        """As many records more, at most, within ``SECONDS``."""
        deadline = time.monotonic() + SECONDS
        while self._place is not None and records > 0 and time.monotonic() < deadline:
            found, self._place = await self._decisions.before(unit, self._place, min(PAGE, records))
            records -= len(found)
            for record in found:
                self._take(record)
        if self._place is not None and not (await self._decisions.before(unit, self._place, 1))[0]:
            self._place = None  # the last page was full, and the last
        return self._reading.reach(self._since, self._until, truncated=not self.at_end)

    def _take(self, record: dict[str, Any]) -> None:
        try:
            told = self._reading.line(record)
        except NoRecord:  # of a form that this program does not write
            self._reading.pass_over()
        else:
            for decided, times in told:
                self._fold.add(decided, times)


class Asking:
    """A question under way: what it reads, and how it is answered from what was read."""

    def __init__(
        self,
        reader: LogReader,
        records: int,
        answer: Callable[[Unit, LogReach], Awaitable[BaseModel]],
        told: Mapping[str, object],
    ) -> None:
        self._reader = reader
        self._records = records
        self._answer = answer
        self._told = told
        self._begun = False

    async def part(self, unit: Unit) -> BaseModel | None:
        """The answer as far as the log has been read: further with each part. None once all of it has been."""
        if self._begun and self._reader.at_end:
            return None
        self._begun = True
        return await self.answer(unit)

    async def answer(self, unit: Unit) -> BaseModel:
        if not unit.outcome.noted:  # the parts of one stream have one record
            understood(unit, **self._told)
        return await self._answer(unit, await self._reader.read(unit, self._records))

    async def wait(self) -> None:
        await asyncio.Event().wait()  # nothing new comes: what is recorded meanwhile was not asked about

    def progress(self) -> Progress:
        """It sends no records; it has given an answer as soon as it is one about all that was to be read."""
        return Progress(self._begun and self._reader.at_end)


class PolicyUsageService:
    def __init__(self, decisions: DecisionRepository, chosen: ChosenPolicy) -> None:
        self._decisions = decisions
        self._chosen = chosen
        self._actions = permissions_by_action()
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        begin = {REPLAY: self.replay, UNUSED: self.unused, DRAFT: self.draft}
        return (_offer(spec, begin[spec.operation], self._prepare) for spec in self.specs)

    async def _prepare(self, given: Given[Any]) -> Prepared:
        """Reading and compiling a policy waits for a thread, so it is done before a unit of work is open (law 8)."""
        index, source = await self._chosen.with_source(given.input)
        if not source.files:
            told = "What decides now stands in for the active version and is stored nowhere: send its files along."
            raise Conflict(told, reason="not-stored")
        return Prepared(index, source)

    def replay(self, given: Given[Any]) -> Asking:
        asked, replayer = given.input, Replayer(_prepared(given).index, self._actions)

        async def answer(unit: Unit, reach: LogReach) -> BaseModel:
            return replayer.answer(reach, at_most=asked.changes)

        told = {"policy": _prepared(given).index.digest, "since": asked.since, "until": asked.until}
        return Asking(LogReader(self._decisions, replayer, asked.since, asked.until), asked.records, answer, told)

    def unused(self, given: Given[Any]) -> Asking:
        asked, index, tally = given.input, _prepared(given).index, Tally()
        since = _days_before(asked.until or datetime.now(UTC), asked.days)

        async def answer(unit: Unit, reach: LogReach) -> BaseModel:
            files = await self._decisions.versions(unit, tally.policies()[:_VERSIONS_AT_MOST])
            versions = {digest: words_in(texts) for digest, texts in files.items()}
            bindings = await self._decisions.bindings(unit, datetime.now(UTC))
            return unused(index, tally, reach, self._actions, versions=versions, bindings=bindings)

        told = {"policy": index.digest, "since": since, "until": asked.until}
        return Asking(LogReader(self._decisions, tally, since, asked.until), asked.records, answer, told)

    def draft(self, given: Given[Any]) -> Asking:
        asked, policy, tally = given.input, _prepared(given), Tally()

        async def answer(unit: Unit, reach: LogReach) -> BaseModel:
            return draft(policy.index, policy.source, tally, reach, self._actions)

        told = {"policy": policy.index.digest, "since": asked.since, "until": asked.until}
        return Asking(LogReader(self._decisions, tally, asked.since, asked.until), asked.records, answer, told)


def _offer(
    spec: Spec, begin: Callable[[Given[Any]], Asking], prepare: Callable[[Given[Any]], Awaitable[object]]
) -> Offer[Unit]:
    async def handle(unit: Unit, given: Given[Any]) -> BaseModel:
        return await begin(given).answer(unit)

    return Offer(spec, handle, prepare, follow=begin)


def _days_before(moment: datetime, days: int) -> datetime:
    try:
        return moment - timedelta(days=days)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _prepared(given: Given[Any]) -> Prepared:
    assert isinstance(given.prepared, Prepared)  # noqa: S101
    return given.prepared
