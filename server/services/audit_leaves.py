"""A range of the log's leaves, given out part by part: the one way in which they leave for a folder elsewhere.

Which range is meant, and who may have it, was decided before; there is a checkpoint that covers it.
"""

import asyncio

import orjson

from actions.entities.audit_export import ExportEntry, ExportPart, ExportRange
from actions.errors import Conflict
from actions.streams import Progress
from server.repositories.audit_export import AuditExportRepository
from server.repositories.audit_tree import TreeBroken
from server.repositories.database import Row
from server.repositories.unit import Unit


class Leaves:
    """A range on its way: what it is checked by comes with the first part, and nothing after the last."""

    def __init__(self, exports: AuditExportRepository, span: range, *, sealed: bool) -> None:
        self._exports = exports
        self._span = span
        self._sealed = sealed
        self._next = span.start

    async def part(self, unit: Unit) -> ExportPart | None:
        if self._next == self._span.stop:
            return None
        told = await self._told(unit) if self._next == self._span.start else None
        rows = (await self._exports.entries(unit, self._next))[: self._span.stop - self._next]
        self._next = rows[-1]["index"] + 1 if rows else self._span.stop
        entries = [self._entry(row) for row in rows]
        return ExportPart(range=told, entries=entries, next=self._next if self._next < self._span.stop else None)

    async def wait(self) -> None:
        """It has an end: whoever has taken the last part goes."""
        await asyncio.Event().wait()

    def progress(self) -> Progress:
        given_out = self._next - self._span.start
        return Progress(self._next == self._span.stop, given_out, self._next - 1 if given_out else None)

    async def _told(self, unit: Unit) -> ExportRange:
        """Raises ``Conflict`` where there is nothing to check it by any more."""
        try:
            proof = await self._exports.proof(unit, self._span)
        except TreeBroken as error:
            raise Conflict(f"The range cannot be proven: {error}.", reason="not-provable") from error
        return ExportRange(
            origin=proof.origin,
            first=self._span.start,
            end=self._span.stop,
            checkpoint=proof.checkpoint,
            before=[one.hex() for one in proof.before],
            consistency=[one.hex() for one in proof.consistency],
            checkpoints=list(proof.checkpoints),
            keys=list(proof.keys),
        )

    def _entry(self, row: Row) -> ExportEntry:
        boxes = row["sealed"] if self._sealed else None
        return ExportEntry(
            index=row["index"],
            hash=row["hash"].hex(),
            leaf=None if row["leaf"] is None else row["leaf"].decode(errors="replace"),
            sealed=None if boxes is None else orjson.loads(boxes),
        )
