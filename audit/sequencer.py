"""The sequencer: gives every committed record its index, and signs what stands so far.

The order is a fact of the database: by transaction, then by action. A record gets its index once every transaction
that began before its own has ended, so none can slip in below one that was numbered. Whoever does the numbering comes
to the same numbers; that one of several processes does it, under an advisory lock, only spares the others the work.
Should two believe that they lead, the second finds the index taken and begins anew.

Numbering and signing are one transaction: what is signed is in the tree, and what is in the tree was signed.
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
from audit.merkle import HEIGHT, WIDTH, Edge, Node, edge_spans
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
_ORIGIN = "SELECT origin FROM audit_log"
_HEAD = """
    SELECT size, horizon::text AS horizon, horizon > pg_snapshot_xmax(pg_current_snapshot()) AS ahead
    FROM audit_checkpoint ORDER BY size DESC LIMIT 1
"""
_LEAVES = "SELECT hash FROM audit_leaf WHERE index >= $1 AND index < $1 + $2 ORDER BY index"
_NODES = "SELECT hash FROM audit_node WHERE tile_level = $3 AND index >= $1 AND index < $1 + $2 ORDER BY index"
_SETTLED = "record.xid < pg_snapshot_xmin(pg_current_snapshot())"
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


def _number(which: str) -> str:
    """Number what is meant and has no number, beginning with index ``$2``: of the ``$3`` records, and what else is of
    their transactions, that come after the place ``$1``, ``$4``, ``$5`` of transaction, action and phase.

    The transactions come from their index, in order: however many records wait, a round looks at no more of them.
    """
    after = f"""
        (record.xid, record.action_id, record.phase COLLATE "C") > ($1::text::xid8, $4::uuid, $5::text) AND ({which})
    """
    return f"""
    WITH ahead AS (
        SELECT record.xid FROM audit_record AS record WHERE {after} ORDER BY record.xid LIMIT $3
    ), bound AS (
        SELECT max(xid) AS xid, count(*) = $3 AS more FROM ahead
    ), fresh AS (
        SELECT record.xid, record.action_id, record.phase, sha256('\\x00'::bytea || record.leaf) AS hash
        FROM audit_record AS record
        WHERE {after} AND record.xid <= (SELECT xid FROM bound) AND {_NOT_NUMBERED}
        ORDER BY record.xid, record.action_id, record.phase COLLATE "C"
        LIMIT $3
    ), added AS (
        INSERT INTO audit_leaf (index, action_id, phase, hash)
        SELECT $2 + row_number() OVER (ORDER BY xid, action_id, phase COLLATE "C") - 1, action_id, phase, hash
        FROM fresh
        RETURNING index, hash
    ), last AS (
        SELECT * FROM fresh ORDER BY fresh.xid DESC, fresh.action_id DESC, fresh.phase COLLATE "C" DESC LIMIT 1
    )
    SELECT (SELECT array_agg(hash ORDER BY index) FROM added) AS hashes, bound.xid::text AS bound, bound.more,
        last.xid::text AS xid, last.action_id, last.phase, pg_snapshot_xmin(pg_current_snapshot())::text AS settled
    FROM bound LEFT JOIN last ON true
    """  # noqa: S608


_NUMBER, _NUMBER_RESTORED = _number(_SETTLED), _number(f"{_SETTLED} OR {_YET_TO_COME}")
_ADD_NODES = """
    INSERT INTO audit_node (tile_level, index, hash) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])
"""
_ADD_CHECKPOINT = "INSERT INTO audit_checkpoint (size, root, note, horizon) VALUES ($1, $2, $3, $4::text::xid8)"


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
        self._edge = Edge()
        self._connection: Connection | None = None
        self._recall_at = 0.0
        self._place: Place | None = None
        """Where to go on; None when all that was ready has its number."""
        self._left_out = False
        """Whether there are records that the counter of transactions does not lead to."""
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
        while await self.step() or self._place is not None:
            pass

    async def step(self) -> int:
        """One transaction; returns how many records got their index. Raises what goes wrong."""
        started = asyncio.get_running_loop().time()
        connection = await self._ready()
        try:
            async with connection.transaction():
                added = await self._number(connection)
        except BaseException:
            self._edge, self._place = Edge(), None  # they may have come further than the database
            raise
        if added:
            self._meter.audit_sequenced(asyncio.get_running_loop().time() - started, added, self._edge.size)
        return added

    async def _turn(self) -> None:
        connection = await self._ready()
        if not self.leads:
            self.leads = await connection.fetchval(_LEAD)
            if not self.leads:
                await connection.execute(_END_HANGING_LEADER, SILENCE_SECONDS)
                return
        await self.step()
        while self._place is not None:
            await self.step()

    async def _number(self, connection: Connection) -> int:
        head = await connection.fetchrow(_HEAD)
        size, horizon = (head["size"], head["horizon"]) if head else (0, "0")
        if self._edge.size != size:
            self._edge, self._place = await _edge(connection, size), None
        signers = await self._signers(connection, origin := await connection.fetchval(_ORIGIN))
        if not signers:
            return 0
        await self._recall(connection, horizon, counter_went_back=bool(head and head["ahead"]))
        start = self._place or Place(0 if self._left_out else int(horizon))
        statement = _NUMBER_RESTORED if self._left_out else _NUMBER
        found = await connection.fetchrow(statement, str(start.xid), size, BATCH, start.action_id, start.phase)
        assert found is not None  # it is one row whatever there is  # noqa: S101
        hashes: Sequence[bytes] = found["hashes"] or ()
        if len(hashes) == BATCH:  # it may have left records of its last transaction behind
            self._place = Place(int(found["xid"]), found["action_id"], found["phase"])
        else:
            self._place = Place(int(found["bound"]) + 1) if found["more"] else None
        self._left_out &= self._place is not None
        if not hashes:
            return 0
        await _add_nodes(connection, await self._add(hashes))
        checkpoint = Checkpoint(origin, self._edge.size, self._edge.root())
        # Beyond the counter no horizon goes: the transaction of a restored record says nothing of this one.
        settled = int(found["settled"])
        reached = settled if self._place is None else min(self._place.xid, settled)
        note = str(signed(checkpoint.text(), signers))
        await connection.execute(_ADD_CHECKPOINT, checkpoint.size, checkpoint.root, note, str(reached))
        return len(hashes)

    async def _recall(self, connection: Connection, horizon: str, *, counter_went_back: bool) -> None:
        """Look whether a record was left out: where the log was restored into another cluster, the counter of
        transactions is another one, and what is new may stand below the horizon, or what is old above all that is."""
        now = asyncio.get_running_loop().time()
        if counter_went_back or now >= self._recall_at:
            if not self._left_out and await connection.fetchval(_LEFT_OUT, horizon):
                self._left_out, self._place = True, None
            self._recall_at = now + RECALL_SECONDS

    async def _add(self, hashes: Sequence[bytes]) -> list[tuple[Node, bytes]]:
        """Add leaves to the edge, a tile at a time: others of this worker wait for no more than that."""
        complete: list[tuple[Node, bytes]] = []
        for start in range(0, len(hashes), WIDTH):
            for hashed in hashes[start : start + WIDTH]:
                complete += self._edge.add(hashed)
            await asyncio.sleep(0)
        return complete

    async def _ready(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._step_down()
            self._connection = await self._connect()
        return self._connection

    def _step_down(self) -> None:
        self.leads, self._left_out, self._recall_at = False, False, 0.0
        self._edge, self._place = Edge(), None
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.terminate()
            self._connection = None


async def _edge(connection: Connection, size: int) -> Edge:
    """The edge of the tree as it is kept."""
    levels = []
    for level, first, width in edge_spans(size):
        found = await (
            connection.fetch(_NODES, first, width, level) if level else connection.fetch(_LEAVES, first, width)
        )
        if len(found) != width:
            raise RuntimeError(f"the tree of {size} leaves lacks hashes of level {level} from {first} on")
        levels.append([row["hash"] for row in found])
    return Edge(size, levels)


async def _add_nodes(connection: Connection, complete: Sequence[tuple[Node, bytes]]) -> None:
    if complete:
        levels = [node.level // HEIGHT for node, _ in complete]
        indexes = [node.place for node, _ in complete]
        await connection.execute(_ADD_NODES, levels, indexes, [hashed for _, hashed in complete])
