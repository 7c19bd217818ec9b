"""A span of the log with what proves it: leaves by their index, hashes of the tree, the checkpoint that covers it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Select, SmallInteger, bindparam, func, select

from audit.archive import Head
from audit.log import audit_record
from audit.merkle import Node, consistency, folded, joined, span_of, subtrees
from audit.tree import audit_checkpoints, audit_cosignatures, audit_leaves, audit_logs, audit_nodes
from server.repositories.database import Query, Row
from server.repositories.unit import Unit
from server.repositories.vouching import cosigned, kept_keys, must_be_signed, reading, signed_among

CHECKPOINTS = 1000
"""Of those that were signed within a span so many are told, evenly far from each other."""

_FIRST, _END = bindparam("first", type_=BigInteger), bindparam("end", type_=BigInteger)


def _hashes(table: Any, *more: Any) -> Select[Any]:
    return select(table.c.hash).where(table.c.index >= _FIRST, table.c.index < _END, *more).order_by(table.c.index)


_LEAVES = Query(_hashes(audit_leaves))
_NODES = Query(_hashes(audit_nodes, audit_nodes.c.tile_level == bindparam("level", type_=SmallInteger)))
_ORIGIN = Query(select(audit_logs.c.origin))
_LATEST = Query(
    select(audit_checkpoints.c.size, audit_checkpoints.c.note).order_by(audit_checkpoints.c.size.desc()).limit(1)
)
_VOUCHING = Query(
    select(audit_cosignatures.c.witness, audit_cosignatures.c.line).where(audit_cosignatures.c.size == _END)
)
_PLACED = (
    select(
        audit_checkpoints.c.note,
        audit_checkpoints.c.size,
        func.row_number().over(order_by=audit_checkpoints.c.size).label("place"),
        func.count().over().label("total"),
    )
    .where(audit_checkpoints.c.size > _FIRST, audit_checkpoints.c.size <= _END)
    .subquery()
)
_SIGNED_WITHIN = Query(
    select(_PLACED.c.note)
    .where(_PLACED.c.place * CHECKPOINTS / _PLACED.c.total != (_PLACED.c.place - 1) * CHECKPOINTS / _PLACED.c.total)
    .order_by(_PLACED.c.size)
)
_RECORDS = Query(
    select(audit_leaves.c.index, audit_leaves.c.hash, audit_record.c.leaf, audit_record.c.sealed)
    .outerjoin(
        audit_record,
        (audit_record.c.action_id == audit_leaves.c.action_id) & (audit_record.c.phase == audit_leaves.c.phase),
    )
    .where(audit_leaves.c.index >= _FIRST, audit_leaves.c.index < _END)
    .order_by(audit_leaves.c.index)
)


class AuditSpanRepository:
    async def head(self, unit: Unit, first: int, end: int) -> Head:
        """What proves the leaves from ``first`` to before ``end``; all of them are numbered. Raises ``NotVouched``."""
        latest, origin = await unit.read(_LATEST), await unit.read(_ORIGIN)
        assert latest is not None  # there are leaves, and so they were signed  # noqa: S101
        assert origin is not None  # the migration wrote it  # noqa: S101
        keys = await kept_keys(reading(unit))
        await must_be_signed(reading(unit), latest["size"], latest["note"])
        vouching = await unit.read_all(_VOUCHING, end=latest["size"])
        between = await unit.read_all(_SIGNED_WITHIN, first=first, end=end)
        return Head(
            origin=origin["origin"],
            first=first,
            end=end,
            checkpoint=cosigned(latest["note"], vouching),
            before=[await self._hash(unit, node) for node in subtrees(0, first)],
            consistency=[await self._joined(unit, nodes) for nodes in consistency(end, latest["size"])],
            checkpoints=await signed_among(keys, [row["note"] for row in between]),
            keys=keys.public,
        )

    async def records(self, unit: Unit, first: int, end: int) -> list[Row]:
        """``index, hash, leaf, sealed`` of each leaf, in order; the last two are null where the record was dropped."""
        return await unit.read_all(_RECORDS, first=first, end=end)

    async def _joined(self, unit: Unit, nodes: Sequence[Node]) -> bytes:
        return joined([await self._hash(unit, node) for node in nodes])

    async def _hash(self, unit: Unit, node: Node) -> bytes:
        level, first, width = span_of(node)
        rows = await unit.read_all(_NODES if level else _LEAVES, first=first, end=first + width, level=level)
        return folded([row["hash"] for row in rows])
