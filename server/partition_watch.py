"""Watching that the log has a partition for each month: what the metrics say of it, and the note in ``/readyz``.

It makes none: that takes the role that owns the tables, which only a start of the server has. Nothing is lost without
one, either: what belongs nowhere else lies in the default partition, where it cannot be archived and dropped by month.
"""

import asyncio
from typing import Protocol

import structlog

from actions.errors import ChamberlainError
from server.repositories.database import Database
from server.repositories.partition_reach import MOST_ASTRAY, reach

SECONDS = 60.0


class PartitionMeter(Protocol):
    def audit_partitioned(self, ahead: int, astray: int) -> None: ...


class PartitionsWanting(Exception):
    """A partition is missing, or soon will be; the message says which and what to do."""


async def tell(database: Database) -> str:
    """How far ahead there are partitions. Raises ``PartitionsWanting`` if that is not far enough."""
    found = await reach(database)
    faults = []
    if found.ahead < 0:
        faults.append("the audit log has no partition for the present month")
    elif found.ahead == 0:
        faults.append("the audit log has no partition for the month to come")
    if found.astray:
        many = f"{found.astray} records" if found.astray < MOST_ASTRAY else f"{MOST_ASTRAY} records or more"
        faults.append(f"{many} lie in the default partition, for want of one for their month")
    if faults:
        raise PartitionsWanting(f"{', and '.join(faults)}: restart the server to make what is missing")
    return f"this month's, and those of {found.ahead} months ahead"


class PartitionWatch:
    """Feeds the metrics of one worker; ``run`` it in one worker of an installation."""

    def __init__(self, database: Database, meter: PartitionMeter) -> None:
        self._database = database
        self._meter = meter
        self._log = structlog.get_logger("chamberlain.partitions")

    async def run(self) -> None:
        """Until cancelled. What fails is tried again."""
        while True:
            try:
                await self.once()
            except ChamberlainError as error:
                self._log.warning("partitions not looked at", reason=error.reason)
            await asyncio.sleep(SECONDS)

    async def once(self) -> None:
        found = await reach(self._database)
        self._meter.audit_partitioned(found.ahead, found.astray)
