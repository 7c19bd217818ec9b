"""Watching the numbering of the log: what the metrics say of it, and the note in ``/readyz``.

It decides nothing: a log that is not numbered is written and durable all the same, and it is its proof that waits.
"""

import asyncio
import time
from typing import Protocol

import structlog

from actions.errors import ChamberlainError
from server.repositories.audit_tree import latest_checkpoint
from server.repositories.database import Database
from server.repositories.tree_progress import MOST_WAITING, holder, progress
from server.repositories.vouching import LogKeys, NotVouched, kept_keys

SECONDS = 5.0
LATE_SECONDS = 10.0
"""No transaction of ours lasts so long: what has waited longer waits for somebody else, or for a sequencer."""

NAMED = 5
"""Strange keys that are named."""


class TreeMeter(Protocol):
    def audit_tree(self, size: int, waiting: int, signed_at: float, unvouched: int) -> None: ...


class TreeLate(Exception):
    """Records wait for their number, or something stands among what proves them that nobody vouches for; the message
    says what."""


async def tell(database: Database) -> str:
    """How far the numbering is. Raises ``TreeLate`` when something is wrong with it."""
    found = await progress(database)
    keys = await kept_keys(database.fetch)
    faults = await _unvouched(database, keys)
    if not any(row["sealed_private_key"] and not row["over"] for row in keys.own):
        faults.append("the log has no key that signs, so nothing is numbered")
    if found.waited >= LATE_SECONDS:
        many = f"{found.waiting} records" if found.waiting < MOST_WAITING else f"{MOST_WAITING} records or more"
        holds = await holder(database)
        why = f"{holds} must end first" if holds else "no transaction keeps them, so no sequencer is at work"
        faults.append(f"{many} wait for their number, the first for {found.waited:.0f} s: {why}")
    if faults:
        raise TreeLate("; ".join(faults))
    return f"{found.size} records are numbered and signed, {found.waiting} wait"


async def _unvouched(database: Database, keys: LogKeys) -> list[str]:
    """What stands among the log's keys and checkpoints that no key of the log vouches for, a sentence each. Whoever has
    the application's rights can write such a row; nobody is shown it."""
    faults = []
    if strange := keys.strange:
        named = ", ".join(str(row["id"]) for row in strange[:NAMED]) + ", ..." * (len(strange) > NAMED)
        faults.append(f"{len(strange)} keys are none of the log's, and somebody else wrote them: {named}")
    try:
        await latest_checkpoint(database.fetch)
    except NotVouched as error:
        faults.append(error.detail)
    return faults


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
        unvouched = await _unvouched(self._database, await kept_keys(self._database.fetch))
        for fault in unvouched:
            self._log.error("not vouched for", reason=fault)
        self._meter.audit_tree(found.size, found.waiting, time.monotonic() - found.age, len(unvouched))
