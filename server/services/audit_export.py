"""Exporting the log: which range is meant, whether all of it can be proven yet, and then its leaves, part by part."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import orjson
from pydantic import BaseModel

from actions.entities.audit_export import SPECS, ExportEntry, ExportPart, ExportQuestion, ExportRange
from actions.errors import Conflict, Fault, Invalid, Unavailable
from actions.processor import Given, Offer
from actions.standard import Spec
from server.repositories.audit_export import AuditExportRepository, Moment
from server.repositories.database import WRITE_SECONDS, Row
from server.repositories.unit import Unit
from server.services.question_record import note

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 10.0
"""How long an export waits for the last of its records to get an index: it takes a second."""
SETTLED_AFTER = timedelta(seconds=2 * WRITE_SECONDS)
"""No transaction of ours lasts so long: nothing is added any more to what was made before that."""


class AuditExportService:
    def __init__(self, exports: AuditExportRepository) -> None:
        self._exports = exports
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        yield from (Offer(spec, self.begin, follow=self.follow) for spec in self.specs)

    async def begin(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """The first part. It does not wait: if no end is named, it is where the newest checkpoint ends."""
        part = await Export(self._exports, given.input, waits=False).part(unit)
        assert part is not None  # noqa: S101
        return part

    def follow(self, given: Given[Any]) -> "Export":
        return Export(self._exports, given.input, waits=True)


class Export:
    """One export under way, from its first part to its last."""

    def __init__(self, exports: AuditExportRepository, question: ExportQuestion, *, waits: bool) -> None:
        self._exports = exports
        self._asked = question
        self._waits = waits
        self._asked_at: Moment | None = None
        self._deadline = 0.0
        self._left: range | None = None
        """What is still to be given out, once it is known."""

    async def part(self, unit: Unit) -> ExportPart | None:
        told = None
        if self._left is None:
            span = await self._range(unit)
            if span is None:
                return None
            told = await self._shown(unit, span)
            note(unit, "range", first=span.start, end=span.stop)
            self._left = span
        elif not self._left:
            return None
        rows = (await self._exports.entries(unit, self._left.start))[: len(self._left)]
        come = rows[-1]["index"] + 1 if rows else self._left.stop
        self._left = range(come, self._left.stop)
        return ExportPart(range=told, entries=[self._entry(row) for row in rows], next=come if self._left else None)

    async def wait(self) -> None:
        await (asyncio.Event().wait() if self._left is not None else asyncio.sleep(POLL_SECONDS))

    async def _range(self, unit: Unit) -> range | None:
        """The range that is meant; None while it has to be waited for. Raises ``Invalid`` if there is none."""
        question = self._asked
        by_time = question.since is not None or question.until is not None
        if by_time and (question.first is not None or question.end is not None):
            raise _wrong("first", "name it by index, or by time (`since`, `until`), not by both")
        covered = question.end is not None and question.end <= await self._exports.size(unit)
        if not covered and await self._has_to_wait(unit):
            return None
        size = await self._exports.size(unit)
        if by_time:
            span = await self._exports.in_time(unit, question.since, question.until, size)
            return span or _nothing("since" if question.since else "until", "nothing is recorded of that time")
        first, end = question.first or 0, size if question.end is None else question.end
        if end > size:
            raise _wrong("end", f"the log has {size} entries")
        return range(first, end) or _nothing("first", "no entry lies between `first` and `end`")

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

    async def _shown(self, unit: Unit, span: range) -> ExportRange:
        proof = await self._exports.proof(unit, span)
        return ExportRange(
            origin=proof.origin,
            first=span.start,
            end=span.stop,
            checkpoint=proof.checkpoint,
            before=[one.hex() for one in proof.before],
            consistency=[one.hex() for one in proof.consistency],
            checkpoints=list(proof.checkpoints),
            keys=list(proof.keys),
        )

    def _entry(self, row: Row) -> ExportEntry:
        boxes = row["sealed"] if self._asked.sealed else None
        return ExportEntry(
            index=row["index"],
            hash=row["hash"].hex(),
            leaf=None if row["leaf"] is None else row["leaf"].decode(errors="replace"),
            sealed=None if boxes is None else orjson.loads(boxes),
        )


def _wrong(field: str, told: str) -> Invalid:
    return Invalid(f"There is no such range: {told}.", reason="no-such-range", errors=[Fault(f"/{field}", told)])


def _nothing(field: str, told: str) -> range:
    raise _wrong(field, told)
