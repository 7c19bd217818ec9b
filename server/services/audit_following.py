"""Following the log: by index, which no late commit can slip below, so that nothing is missed and nothing comes twice.

A follower knows how far it has come and nothing else. Each of its parts looks at a bounded stretch of the log, however
little of it is wanted and however far behind it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import orjson

from actions.entities.audit_record import AuditRecord, Tailed
from actions.errors import Fault, Invalid
from actions.query import Condition, Group
from actions.streams import Part, Progress
from server.repositories.audit_records import AuditRecordRepository
from server.repositories.database import Row
from server.repositories.unit import Unit

POLL_SECONDS = 0.5
"""How often a follower asks for what is new: nothing tells it, since telling would cost every writer."""
STRETCH = 5000
"""Records of the log that one part looks at."""
PAGE = 200
"""Records that one part tells of."""

Shown = Callable[[Unit, Sequence[Row]], Awaitable[list[AuditRecord]]]
"""From rows to what the scope may see of them."""


class Walk:
    """A way through the log, from behind the index ``at`` to its end, and on as that moves. None: from the end on."""

    def __init__(
        self, records: AuditRecordRepository, conditions: Sequence[Condition | Group] = (), at: int | None = None
    ) -> None:
        self._records = records
        self._conditions = tuple(conditions)
        self._head = -1
        self._found = 0
        self._last: int | None = None
        self.at = at

    async def step(self, unit: Unit) -> list[Row]:
        """The next records that meet the conditions: none, perhaps, of a stretch. Raises ``Invalid`` where the log ends
        before the place that the walk begins at: it is not the log that place was told of."""
        self._head = await self._records.head(unit)
        if self.at is None:
            self.at = self._head
        if self.at > self._head:
            fault = Fault("/after", f"is beyond the end of the log, whose last record is {self._head}")
            raise Invalid("The log does not reach that far.", reason="beyond-the-end", errors=[fault])
        if self.at == self._head:
            return []
        until = min(self._head, self.at + STRETCH)
        rows = await self._records.between(unit, self._conditions, self.at, until, PAGE)
        self.at = rows[-1]["index"] if len(rows) == PAGE else until
        if rows:
            self._found, self._last = self._found + len(rows), rows[-1]["index"]
        return rows

    def progress(self) -> Progress:
        """It has no end, so whoever leaves has had enough of it."""
        return Progress(True, self._found, self._last)

    async def wait(self) -> None:
        at_the_end = self.at is None or self.at >= self._head
        await asyncio.sleep(POLL_SECONDS if at_the_end else 0)


class TailFollower:
    """The tail of the log as a stream: first the latest records, then each one once it is numbered."""

    def __init__(self, records: AuditRecordRepository, count: int) -> None:
        self._records = records
        self._count = count
        self._walk: Walk | None = None

    async def part(self, unit: Unit) -> Tailed | None:
        if self._walk is None:
            self._walk = Walk(self._records, at=max(-1, await self._records.head(unit) - self._count))
        rows = await self._walk.step(unit)
        return Tailed(records=[orjson.loads(row["leaf"]) for row in rows]) if rows else None

    async def wait(self) -> None:
        if self._walk is not None:
            await self._walk.wait()

    def progress(self) -> Progress:
        return self._walk.progress() if self._walk is not None else Progress(True, 0)


class WatchFollower:
    """What a search would find, as a stream. Its first part says where it begins; then each record once it is numbered.

    Where it has gone far and found none, a part without records says so: who comes back need not go that way again.
    """

    def __init__(self, walk: Walk, shown: Shown) -> None:
        self._walk = walk
        self._shown = shown
        self._told: int | None = None

    async def part(self, unit: Unit) -> Part[AuditRecord] | None:
        rows = await self._walk.step(unit)
        assert self._walk.at is not None  # it has taken a step  # noqa: S101
        if not rows and self._told is not None and self._walk.at - self._told < STRETCH:
            return None
        self._told = self._walk.at
        marks = [str(row["index"]) for row in rows]
        return Part[AuditRecord](items=await self._shown(unit, rows), marks=marks, mark=str(self._told))

    async def wait(self) -> None:
        await self._walk.wait()

    def progress(self) -> Progress:
        return self._walk.progress()
