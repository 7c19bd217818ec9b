"""Watching the numbering of the log: what the metrics say of it, and the note in ``/readyz``.

It decides nothing: a log that is not numbered is written and durable all the same, and it is its proof that waits.
"""

import asyncio
import time
from typing import Protocol

import structlog

from actions.errors import ChamberlainError
from server.repositories.database import Database
from server.repositories.tree_progress import MOST_WAITING, holder, progress

SECONDS = 5.0
LATE_SECONDS = 10.0
"""No transaction of ours lasts so long: what has waited longer waits for somebody else, or for a sequencer."""


class TreeMeter(Protocol):
    def audit_tree(self, size: int, waiting: int, signed_at: float) -> None: ...


class TreeLate(Exception):
    """Records wait for their number; the message says how many and for what."""


async def tell(database: Database) -> str:
    """How far the numbering is. Raises ``TreeLate`` when it is late."""
    found = await progress(database)
    if found.waited < LATE_SECONDS:
        return f"{found.size} records are numbered and signed, {found.waiting} wait"
    many = f"{found.waiting} records" if found.waiting < MOST_WAITING else f"{MOST_WAITING} records or more"
    holds = await holder(database)
    why = f"{holds} must end first" if holds else "no transaction keeps them, so no sequencer is at work"
    raise TreeLate(f"{many} wait for their number, the first for {found.waited:.0f} s: {why}")


class TreeWatch:
    """Feeds the metrics of one worker; ``run`` it in one worker of an installation."""

    def __init__(self, database: Database, meter: TreeMeter) -> None:
        self._database = database
        self._meter = meter
        self._log = structlog.get_logger("chamberlain.tree")

    async def run(self) -> None:
        """Until cancelled. What fails is tried again; the age of the last checkpoint grows meanwhile."""
        while True:
            try:
                await self.once()
            except ChamberlainError as error:
                self._log.warning("tree not looked at", reason=error.reason)
            await asyncio.sleep(SECONDS)

    async def once(self) -> None:
        found = await progress(self._database)
        self._meter.audit_tree(found.size, found.waiting, time.monotonic() - found.age)
