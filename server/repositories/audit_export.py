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
from audit.merkle import consistency, subtrees
from audit.tree import audit_checkpoints, audit_cosignatures, audit_heads, audit_leaves, audit_logs
from server.repositories import audit_tree
from server.repositories.audit_records import LATE
from server.repositories.database import Query, Row
from server.repositories.unit import Unit
from server.repositories.vouching import kept_keys, reading, signed_among

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
_VOUCHED = select(func.max(audit_cosignatures.c.size)).scalar_subquery()
_UNVOUCHED = Query(
    select(_CHECKPOINT.at)
    .where(_VOUCHED < _END, _CHECKPOINT.size > _VOUCHED)
    .order_by(_CHECKPOINT.size)
    .limit(literal_column("1"))
)
# Of the checkpoints along the way, the last one within each of so many steps: each is found by one look into an index,
# and none of the millions between is read.
_step = (
    func.generate_series(literal_column("1"), literal_column(str(CHECKPOINTS)))
    .table_valued("number")
    .render_derived(name="step")
)
_reached = _START + cast((_END - _START) * _step.c.number / literal_column(str(CHECKPOINTS)), BigInteger)
_all = audit_checkpoints.alias("every")
_STEPS = select(
    select(func.max(_all.c.size)).where(_all.c.size > _START, _all.c.size <= _reached).scalar_subquery().label("size")
).select_from(_step)
_CHECKPOINTS = Query(select(_CHECKPOINT.note).where(_CHECKPOINT.size.in_(_STEPS)).order_by(_CHECKPOINT.size))
_ORIGIN = Query(select(audit_logs.c.origin))


@dataclass(frozen=True, slots=True)
class Moment:
    """A snapshot of the database: which transactions had begun, and when it was."""

    snapshot: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Proof:
    """What ties the leaves of a range to a checkpoint: one that a witness vouches for, if there is any."""

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

    async def unvouched_since(self, unit: Unit, end: int) -> datetime | None:
        """When the first checkpoint was signed that no witness has vouched for yet, if none has for ``end`` leaves.
        None where one has, and where no witness ever did."""
        row = await unit.read(_UNVOUCHED, end=end)
        return None if row is None else row["at"]

    async def entries(self, unit: Unit, first: int) -> list[Row]:
        """The next leaves: ``index, hash``, and ``leaf, sealed`` where the record is still there."""
        return await unit.read_all(_ENTRIES, first=first)

    async def proof(self, unit: Unit, span: range) -> Proof:
        """What shows that the leaves of a range are in the log. There is a checkpoint that covers it. Raises
        ``audit_tree.TreeBroken`` and ``NotVouched``."""
        reads = reading(unit)
        covering = await audit_tree.checkpoint_at_least(reads, span.stop)
        assert covering is not None  # noqa: S101
        before, onwards = list(subtrees(0, span.start)), consistency(span.stop, covering.size)
        hashes = await audit_tree.proof_hashes(reads, [*([node] for node in before), *onwards])
        along = await unit.read_all(_CHECKPOINTS, start=span.start, end=span.stop)
        keys = await kept_keys(reads)
        return Proof(
            origin=(await _one(unit, _ORIGIN))["origin"],
            checkpoint=covering.note,
            before=hashes[: len(before)],
            consistency=hashes[len(before) :],
            checkpoints=await signed_among(keys, [row["note"] for row in along]),
            keys=keys.public,
        )


async def _one(unit: Unit, query: Query, **values: object) -> Row:
    row = await unit.read(query, **values)
    assert row is not None  # noqa: S101
    return row


def _shifted(moment: datetime, by: timedelta) -> datetime:
    """A moment a little earlier or later, within the times that there are."""
    return min(max(moment, _ANCIENT - by), _FAR - by) + by


def _least_id(moment: datetime) -> UUID:
    """The least id that an action which begins at a moment can have: ids grow with time (UUID version 7)."""
    milliseconds = min(max(int(moment.timestamp() * 1000), 0), 2**48 - 1)
    return UUID(int=milliseconds << 80)
