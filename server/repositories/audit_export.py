"""A range of the audit log's leaves, with what ties it to a checkpoint, read from the tables of the tree.

The order of indexes is that of transactions, and a record is made while its transaction runs or shortly before: so
records stand almost in the order of time. Where a time lies among them is found by halving; the rest is a short walk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    SmallInteger,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    select,
)

from audit.log import Xid8, audit_record
from audit.merkle import Node, consistency, folded, joined, span_of, subtrees
from audit.tree import audit_checkpoints, audit_cosignatures, audit_heads, audit_leaves, audit_logs, audit_nodes
from server.repositories.audit_records import LATE
from server.repositories.database import Query, Row
from server.repositories.unit import Unit
from server.repositories.vouching import cosigned, kept_keys, must_be_signed, reading, signed_among

PAGE = 500
"""Entries in one part."""
CHECKPOINTS = 1000
"""Of those along the range, how many are told at most."""
_TIME, _ANCIENT, _FAR = DateTime(timezone=True), datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_LEAF, _RECORD, _CHECKPOINT = audit_leaves.c, audit_record.c, audit_checkpoints.c
_OF_LEAF = (_RECORD.action_id == _LEAF.action_id) & (_RECORD.phase == _LEAF.phase)


def _xid(name: str) -> ColumnElement[int]:
    return cast(bindparam(name, type_=Text), Xid8)


_NOW = Query(
    select(cast(func.pg_snapshot_xmax(func.pg_current_snapshot()), Text).label("snapshot"), func.now().label("at"))
)
_HORIZON = select(audit_heads.c.xid).scalar_subquery()
_WAITING = Query(
    select(
        exists()
        .where(
            _RECORD.xid >= _HORIZON,
            _RECORD.xid < _xid("snapshot"),
            _RECORD.at < bindparam("until", type_=_TIME),
            ~exists().where(_OF_LEAF).correlate(audit_record),
        )
        .label("numbering"),
        (func.pg_snapshot_xmin(func.pg_current_snapshot()) < _xid("snapshot")).label("running"),
    )
)
_SIZE = Query(select(func.coalesce(func.max(_CHECKPOINT.size), 0).label("size")))
# Where a limit is part of the text PostgreSQL knows that few rows are wanted, and looks their records up one by one.
_PROBE = Query(
    select(_LEAF.index, _LEAF.action_id)
    .where(_LEAF.index >= bindparam("index", type_=BigInteger), _LEAF.phase == "done")
    .order_by(_LEAF.index)
    .limit(literal_column("1"))
)
_MADE_IN_TIME = case(
    (_RECORD.at.is_(None), _LEAF.action_id.between(bindparam("low", type_=Uuid), bindparam("high", type_=Uuid))),
    else_=(_RECORD.at >= bindparam("since", type_=_TIME)) & (_RECORD.at < bindparam("until", type_=_TIME)),
)
_IN_TIME = (
    select(_LEAF.index)
    .select_from(audit_leaves.outerjoin(audit_record, _OF_LEAF))
    .where(
        _LEAF.index >= bindparam("low_index", type_=BigInteger),
        _LEAF.index < bindparam("high_index", type_=BigInteger),
        _MADE_IN_TIME,
    )
    .limit(literal_column("1"))
)
_FIRST_IN_TIME, _LAST_IN_TIME = Query(_IN_TIME.order_by(_LEAF.index)), Query(_IN_TIME.order_by(_LEAF.index.desc()))
_ENTRIES = Query(
    select(_LEAF.index, _LEAF.hash, _RECORD.leaf, _RECORD.sealed)
    .select_from(audit_leaves.outerjoin(audit_record, _OF_LEAF))
    .where(_LEAF.index >= bindparam("first", type_=BigInteger))
    .order_by(_LEAF.index)
    .limit(literal_column(str(PAGE)))
)
_START, _END = bindparam("start", type_=BigInteger), bindparam("end", type_=BigInteger)
_LEAF_HASHES = Query(select(_LEAF.hash).where(_LEAF.index >= _START, _LEAF.index < _END).order_by(_LEAF.index))
_NODE_HASHES = Query(
    select(audit_nodes.c.hash)
    .where(
        audit_nodes.c.tile_level == bindparam("tile_level", type_=SmallInteger),
        audit_nodes.c.index >= _START,
        audit_nodes.c.index < _END,
    )
    .order_by(audit_nodes.c.index)
)
_COSIGNATURES = Query(
    select(audit_cosignatures.c.witness, audit_cosignatures.c.line)
    .where(audit_cosignatures.c.size == _END)
    .order_by(audit_cosignatures.c.witness)
)
# One that a witness vouches for is worth more than a later one that the log alone does.
_COVERING = Query(
    select(_CHECKPOINT.size, _CHECKPOINT.note)
    .where(_CHECKPOINT.size >= _END)
    .order_by(
        exists().where(audit_cosignatures.c.size == _CHECKPOINT.size).correlate(audit_checkpoints).desc(),
        _CHECKPOINT.size.desc(),
    )
    .limit(1)
)
_place = func.row_number().over(order_by=_CHECKPOINT.size.desc()).label("place")
_ALONG = (
    select(_CHECKPOINT.size, _place, func.count().over().label("number"))
    .where(_CHECKPOINT.size > _START, _CHECKPOINT.size <= _END)
    .subquery()
)
_CHECKPOINTS = Query(
    select(_CHECKPOINT.size, _CHECKPOINT.note)
    .join(_ALONG, _ALONG.c.size == _CHECKPOINT.size)
    .where((_ALONG.c.place - 1) % ((_ALONG.c.number + CHECKPOINTS - 1) // CHECKPOINTS) == 0)
    .order_by(_CHECKPOINT.size)
)
_ORIGIN = Query(select(audit_logs.c.origin))


@dataclass(frozen=True, slots=True)
class Moment:
    """A snapshot of the database: which transactions had begun, and when it was."""

    snapshot: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Proof:
    """What ties the leaves of a range to a checkpoint; the hashes as they are."""

    origin: str
    checkpoint: str
    before: Sequence[bytes]
    consistency: Sequence[bytes]
    checkpoints: Sequence[str]
    keys: Sequence[str]


class AuditExportRepository:
    async def now(self, unit: Unit) -> Moment:
        row = await _one(unit, _NOW)
        return Moment(row["snapshot"], row["at"])

    async def size(self, unit: Unit) -> int:
        """How many leaves the newest checkpoint covers."""
        return int((await _one(unit, _SIZE))["size"])

    async def waiting(self, unit: Unit, moment: Moment, until: datetime) -> tuple[bool, bool]:
        """Of what was made before ``until`` by transactions that had begun at that moment: whether some of it has no
        index yet, and whether one of those transactions still runs, so that there may be more of it."""
        row = await _one(unit, _WAITING, snapshot=moment.snapshot, until=until)
        return row["numbering"], row["running"]

    async def in_time(self, unit: Unit, since: datetime | None, until: datetime | None, size: int) -> range:
        """The smallest range of the first ``size`` indexes that holds every record made in a time.

        A record that was dropped counts by the time at which its action began, which its id tells.
        """
        since, until = since or _ANCIENT, until or _FAR
        low, _ = await self._around(unit, _shifted(since, -2 * LATE), size)
        _, high = await self._around(unit, _shifted(until, 2 * LATE), size)
        values = {"low_index": low, "high_index": high, "since": since, "until": until}
        values |= {"low": _least_id(since), "high": UUID(int=max(_least_id(until).int - 1, 0))}
        first = await unit.read(_FIRST_IN_TIME, **values)
        last = await unit.read(_LAST_IN_TIME, **values)
        return range(first["index"], last["index"] + 1) if first and last else range(0)

    async def _around(self, unit: Unit, moment: datetime, size: int) -> tuple[int, int]:
        """Two indexes around where a moment lies, by what the ids of actions tell: whoever comes before the first one
        began earlier, and whoever comes at the second or after it began no earlier, but for what is shorter than
        ``LATE``: how long a request takes, a transaction lasts, and by how much clocks differ."""
        low, high, beyond = 0, size, size
        sought = _least_id(moment)
        while low < high:
            middle = (low + high) // 2
            row = await unit.read(_PROBE, index=middle)
            if row is None or row["action_id"] >= sought:
                high, beyond = middle, min(row["index"], size) if row else size
            else:
                low = min(row["index"] + 1, high)
        return low, beyond

    async def entries(self, unit: Unit, first: int) -> list[Row]:
        """The next leaves: ``index, hash``, and ``leaf, sealed`` where the record is still there."""
        return await unit.read_all(_ENTRIES, first=first)

    async def proof(self, unit: Unit, span: range) -> Proof:
        """What shows that the leaves of a range are in the log. There is a checkpoint that covers it. Raises
        ``NotVouched``."""
        covering = await _one(unit, _COVERING, end=span.stop)
        keys = await kept_keys(reading(unit))
        await must_be_signed(reading(unit), covering["size"], covering["note"])
        vouching = await unit.read_all(_COSIGNATURES, end=covering["size"])
        nodes = consistency(span.stop, covering["size"])
        along = await unit.read_all(_CHECKPOINTS, start=span.start, end=span.stop)
        return Proof(
            origin=(await _one(unit, _ORIGIN))["origin"],
            checkpoint=cosigned(covering["note"], vouching),
            before=[await _hash(unit, node) for node in subtrees(0, span.start)],
            consistency=[joined([await _hash(unit, node) for node in side]) for side in nodes],
            checkpoints=await signed_among(keys, [row["note"] for row in along]),
            keys=keys.public,
        )


async def _one(unit: Unit, query: Query, **values: object) -> Row:
    row = await unit.read(query, **values)
    assert row is not None  # noqa: S101
    return row


async def _hash(unit: Unit, node: Node) -> bytes:
    """The hash of a node, from those that are kept."""
    level, first, width = span_of(node)
    query = _NODE_HASHES if level else _LEAF_HASHES
    return folded([row["hash"] for row in await unit.read_all(query, tile_level=level, start=first, end=first + width)])


def _shifted(moment: datetime, by: timedelta) -> datetime:
    """A moment a little earlier or later, within the times that there are."""
    return min(max(moment, _ANCIENT - by), _FAR - by) + by


def _least_id(moment: datetime) -> UUID:
    """The least id that an action which begins at a moment can have: ids grow with time (UUID version 7)."""
    milliseconds = min(max(int(moment.timestamp() * 1000), 0), 2**48 - 1)
    return UUID(int=milliseconds << 80)
