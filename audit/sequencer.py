"""The sequencer: gives every committed record its index, and signs what stands so far.

The order is a fact of the database: by transaction, then by action. A record gets its index once every transaction
that began before its own has ended, so none can slip in below one that was numbered. Whoever does the numbering comes
to the same numbers; that one of several processes does it, under an advisory lock, only spares the others the work.
Should two believe that they lead, the second finds the index taken and begins anew.

The numbering is a function of the database, which this program may call; it cannot write the tree by itself, so what
stands in it follows from the records. What the process adds is the signature, in the same transaction. What somebody
else had numbered and did not sign, it signs.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias
from uuid import UUID

import asyncpg
import structlog

from audit.checkpoint import Checkpoint
from audit.note import Signer, signed
from audit.writer import Connect

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Signers = Callable[[Connection, str], Awaitable[Sequence[Signer]]]
"""The keys that sign now, by the name of the log; asked for in the transaction that signs."""

TICK_SECONDS = 0.25
"""How often the leader looks for what is new: at once for what a full batch left, never for what came meanwhile, since
a transaction, its signatures and its sync to disk cost the same for one record as for hundreds."""
FOLLOW_SECONDS = 1.0
"""How often the others try to become leader."""
SILENCE_SECONDS = 2.5
"""A leader from whom the database has not heard for so long hangs: its connection is ended, and the lock with it."""
BATCH = 2000
"""Records in one transaction."""
RECALL_SECONDS = 60.0
"""How often the leader looks whether a record stands where none can be left, as it does when it begins to lead."""
RECALLED = 5000
"""Of how many of the newest records it does so."""

_LOCK = 0x74_72_65_65
_LEAD = f"SELECT pg_try_advisory_lock({_LOCK})"
_END_HANGING_LEADER = f"""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE locktype = 'advisory' AND classid = 0 AND objid = {_LOCK} AND objsubid = 1 AND granted
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (state <> 'active' OR wait_event_type = 'Client')
    AND clock_timestamp() - state_change > make_interval(secs => $1)
"""  # noqa: S608
_FIRST = UUID(int=0)
_HEAD = """
    SELECT origin, xid::text AS horizon, xid > pg_snapshot_xmax(pg_current_snapshot()) AS ahead
    FROM audit_log, audit_head
"""
# A record of a transaction that is yet to come, as the counter has it, was restored from elsewhere: it is committed.
_YET_TO_COME = "record.xid >= pg_snapshot_xmax(pg_current_snapshot())"
_NOT_NUMBERED = """
    NOT EXISTS (SELECT FROM audit_leaf AS leaf WHERE leaf.action_id = record.action_id AND leaf.phase = record.phase)
"""
_LEFT_OUT = f"""
    SELECT EXISTS (
        SELECT FROM (
            SELECT action_id, phase, xid FROM audit_record ORDER BY action_id DESC, phase DESC LIMIT {RECALLED}
        ) AS record
        WHERE (record.xid < $1::text::xid8 OR {_YET_TO_COME}) AND {_NOT_NUMBERED}
    )
"""  # noqa: S608

_NUMBER = """
    SELECT added, more, last_xid::text, last_id, last_phase, size, root, signed
    FROM number_audit_records($1, $2, $3::text::xid8, $4, $5)
"""
_SIGN = "SELECT add_audit_checkpoint($1)"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order of the records: what comes after it may have no number yet."""

    xid: int
    action_id: UUID = _FIRST
    phase: str = ""


class SequencerMeter(Protocol):
    """What the sequencer reports of itself, transaction by transaction."""

    def audit_sequenced(self, seconds: float, records: int, size: int) -> None: ...


class Sequencer:
    """One in each worker; ``async with`` it for its lifetime, and ``run`` it. All but one wait for the lock."""

    def __init__(self, connect: Connect, signers: Signers, meter: SequencerMeter) -> None:
        self._connect = connect
        self._signers = signers
        self._meter = meter
        self._connection: Connection | None = None
        self._recall_at = 0.0
        self._left_out: Place | None = None
        """Where to go on looking for records that the counter of transactions does not lead to; None if there are
        none."""
        self._more = False
        """Whether a full batch left some."""
        self.leads = False
        self._log = structlog.get_logger("chamberlain.sequencer")

    async def __aenter__(self) -> "Sequencer":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._step_down()

    async def run(self) -> None:
        """Until cancelled. Whatever goes wrong is tried again."""
        while True:
            try:
                await self._turn()
            except Exception as error:
                self._log.warning("sequencer put off", reason=type(error).__name__)
                self._step_down()
            await asyncio.sleep(TICK_SECONDS if self.leads else FOLLOW_SECONDS)

    async def catch_up(self) -> None:
        """Number and sign all that can be, whoever leads. Raises what goes wrong."""
        while await self.step() or self._more:
            pass

    async def step(self) -> int:
        """One transaction; returns how many records got their index. Raises what goes wrong."""
        started = asyncio.get_running_loop().time()
        connection = await self._ready()
        try:
            async with connection.transaction():
                added, size = await self._number(connection)
        except BaseException:
            self._left_out, self._recall_at, self._more = None, 0.0, False  # it may have looked further than it came
            raise
        if added:
            self._meter.audit_sequenced(asyncio.get_running_loop().time() - started, added, size)
        return added

    async def _turn(self) -> None:
        connection = await self._ready()
        if not self.leads:
            self.leads = await connection.fetchval(_LEAD)
            if not self.leads:
                await connection.execute(_END_HANGING_LEADER, SILENCE_SECONDS)
                return
        await self.step()
        while self._more:
            await self.step()

    async def _number(self, connection: Connection) -> tuple[int, int]:
        """How many records got their index, and how many have one."""
        head = await connection.fetchrow(_HEAD)
        assert head is not None  # the migration wrote it  # noqa: S101
        signers = await self._signers(connection, head["origin"])
        if not signers:
            self._more = False
            return 0, 0
        await self._recall(connection, head["horizon"], counter_went_back=head["ahead"])
        start = self._left_out or Place(0)
        left_out = self._left_out is not None
        found = await connection.fetchrow(_NUMBER, BATCH, left_out, str(start.xid), start.action_id, start.phase)
        assert found is not None  # it is one row whatever there is  # noqa: S101
        if left_out:
            more = Place(int(found["last_xid"]), found["last_id"], found["last_phase"]) if found["more"] else None
            self._left_out = more
        self._more = found["more"]
        if found["size"] and not found["signed"]:
            checkpoint = Checkpoint(head["origin"], found["size"], found["root"])
            await connection.execute(_SIGN, str(signed(checkpoint.text(), signers)))
        return found["added"], found["size"]

    async def _recall(self, connection: Connection, horizon: str, *, counter_went_back: bool) -> None:
        """Look whether a record was left out: where the log was restored into another cluster, the counter of
        transactions is another one, and what is new may stand below the horizon, or what is old above all that is."""
        now = asyncio.get_running_loop().time()
        if counter_went_back or now >= self._recall_at:
            if self._left_out is None and await connection.fetchval(_LEFT_OUT, horizon):
                self._left_out = Place(0)
            self._recall_at = now + RECALL_SECONDS

    async def _ready(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._step_down()
            self._connection = await self._connect()
        return self._connection

    def _step_down(self) -> None:
        self.leads, self._left_out, self._recall_at, self._more = False, None, 0.0, False
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.terminate()
            self._connection = None
