"""Exporting the log: which range is meant, whether all of it can be proven yet, and then its leaves, part by part."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from actions.entities.audit_export import SPECS, ExportPart, ExportQuestion
from actions.errors import Conflict, Fault, Invalid, Unavailable
from actions.processor import Given, Offer
from actions.standard import Spec
from actions.streams import Part, Progress
from server.repositories.audit_export import AuditExportRepository, Moment
from server.repositories.database import WRITE_SECONDS
from server.repositories.unit import Unit
from server.services.audit_leaves import Leaves
from server.services.question_record import note

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 10.0
"""How long an export waits for the last of its records to get an index: it takes a second."""
WITNESS_SECONDS = 5.0
"""How old a checkpoint is for which an export does not wait any more until a witness vouches: that takes a second."""
SETTLED_AFTER = timedelta(seconds=2 * WRITE_SECONDS)
"""No transaction of ours lasts so long: nothing is added any more to what was made before that."""


class AuditExportService:
    def __init__(self, exports: AuditExportRepository) -> None:
        self._exports = exports
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        yield from (Offer(spec, self.glance, follow=self.follow) for spec in self.specs)

    async def glance(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """The first part, for whoever asks once and does not follow. It does not wait: if no end is named, it is where
        the newest checkpoint ends."""
        part = await Export(self._exports, _asked(given), waits=False).part(unit)
        assert part is not None  # noqa: S101
        return part

    def follow(self, given: Given[Any]) -> "Export":
        return Export(self._exports, _asked(given), waits=True)


class Export:
    """One export under way, from its first part to its last."""

    def __init__(self, exports: AuditExportRepository, question: ExportQuestion, *, waits: bool) -> None:
        self._exports = exports
        self._asked = question
        self._waits = waits
        self._asked_at: Moment | None = None
        self._deadline = 0.0
        self._meant: range | None = None
        self._leaves: Leaves | None = None
        """What is given out, once it is known."""

    async def part(self, unit: Unit) -> Part[ExportPart] | None:
        if self._leaves is None:
            self._meant = span = self._meant or await self._range(unit)
            if span is None or await self._is_about_to_be_vouched_for(unit, span):
                return None
            note(unit, "range", first=span.start, end=span.stop)
            self._leaves = Leaves(self._exports, span, sealed=self._asked.sealed)
        part = await self._leaves.part(unit)
        if part is None:
            return None
        mark = str(part.entries[-1].index) if part.entries else ""
        return Part[ExportPart](items=[part], marks=[mark], mark=mark)

    async def wait(self) -> None:
        await (asyncio.sleep(POLL_SECONDS) if self._leaves is None else self._leaves.wait())

    def progress(self) -> Progress:
        return Progress(False, 0) if self._leaves is None else self._leaves.progress()

    async def _range(self, unit: Unit) -> range | None:
        """The range that is meant; None while it has to be waited for. Raises ``Invalid`` if there is none."""
        question = self._asked
        covered = question.end is not None and question.end <= await self._exports.size(unit)
        if not covered and await self._has_to_wait(unit):
            return None
        size = await self._exports.size(unit)
        if _by_time(question):
            span = await self._exports.in_time(unit, question.since, question.until, size)
            span = span or _nothing("since" if question.since else "until", "nothing is recorded of that time")
        else:
            first, end = question.first or 0, size if question.end is None else question.end
            if end > size:
                raise _wrong("end", f"the log has {size} entries")
            span = range(first, end) or _nothing("first", "no entry lies between `first` and `end`")
        if question.after is None:
            return span
        return range(max(span.start, question.after + 1), span.stop) or _nothing("after", "nothing of it comes later")

    async def _has_to_wait(self, unit: Unit) -> bool:
        """Whether some of what is meant has no index yet. Raises ``Unavailable`` when that takes too long."""
        now = await self._exports.now(unit)
        until = self._asked.until
        if until is None:
            if not self._waits:
                return False
            until = now.at if self._asked_at is None else self._asked_at.at
        if self._asked_at is None:
            self._asked_at = now
            self._deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        numbering, running = await self._exports.waiting(unit, self._asked_at, until)
        if not numbering and (not running or until < now.at - SETTLED_AFTER):
            return False
        told = "Some of the records have no index yet, so no checkpoint covers them"
        if not self._waits:
            raise Conflict(f"{told}. It takes about a second: ask again.", reason="not-numbered")
        if asyncio.get_running_loop().time() > self._deadline:
            why = "a transaction of somebody's is open" if running else "no server numbers them"
            raise Unavailable(f"{told}, and it takes longer than it should: {why}.", reason="not-numbered")
        return True

    async def _is_about_to_be_vouched_for(self, unit: Unit, span: range) -> bool:
        """Whether there is a witness, and it is worth to wait for it. One that has not answered for long is not."""
        since = await self._exports.unvouched_since(unit, span.stop) if self._waits else None
        return since is not None and (await self._exports.now(unit)).at - since < timedelta(seconds=WITNESS_SECONDS)


def _asked(given: Given[Any]) -> ExportQuestion:
    """The question, if there can be such a range. Raises ``Invalid``, before a stream opens."""
    question: ExportQuestion = given.input
    if _by_time(question) and (question.first is not None or question.end is not None):
        raise _wrong("first", "name it by index, or by time (`since`, `until`), not by both")
    if question.end is not None and (question.first or 0) >= question.end:
        raise _wrong("first", "no entry lies between `first` and `end`")
    if question.since is not None and question.until is not None and question.since >= question.until:
        raise _wrong("since", "no time lies between `since` and `until`")
    return question


def _by_time(question: ExportQuestion) -> bool:
    return question.since is not None or question.until is not None


def _wrong(field: str, told: str) -> Invalid:
    return Invalid(f"There is no such range: {told}.", reason="no-such-range", errors=[Fault(f"/{field}", told)])


def _nothing(field: str, told: str) -> range:
    raise _wrong(field, told)
