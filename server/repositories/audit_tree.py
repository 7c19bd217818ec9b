"""The log's tree as it is read: checkpoints with those who vouch for them, the hashes that proofs are made of, and the
leaves beside the records that they were made from.

Rows of the tree are never changed, so a checkpoint that was read once holds for all that is read below its size
afterwards: no function needs a transaction. Each takes what runs its statements, a ``Database``'s ``fetch`` or
``reading(unit)``. Decides nothing about who may see what.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    SmallInteger,
    Text,
    Uuid,
    and_,
    bindparam,
    column,
    func,
    select,
)

from audit.log import audit_record
from audit.merkle import EMPTY, WIDTH, Node, Span, folded, joined, span_of, subtrees
from audit.record import Phase
from audit.tree import audit_checkpoints, audit_cosignatures, audit_leaves, audit_nodes
from server.repositories.database import Query, Row
from server.repositories.vouching import Reads, must_be_signed, true_lines


class TreeBroken(RuntimeError):
    """The tables of the tree lack what was proven to be there: somebody has taken it out."""


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with all who vouch for it."""

    size: int
    root: bytes
    at: datetime
    note: str
    """The signed note; the lines of its witnesses are appended."""
    witnesses: tuple[str, ...]
    """The keys of its witnesses, as people pass them on."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One entry of the log."""

    index: int
    action_id: UUID
    phase: Phase
    leaf: bytes | None
    """The leaf bytes; None where the record was dropped when its time was over."""
    hash: bytes


def _of_its_witnesses(name: str) -> ColumnElement[Any]:
    """A column of a checkpoint's cosignatures, the earliest first."""
    theirs = select(audit_cosignatures.c[name]).where(audit_cosignatures.c.size == audit_checkpoints.c.size)
    in_order = theirs.order_by(audit_cosignatures.c.at, audit_cosignatures.c.witness)
    return func.array(in_order.scalar_subquery(), type_=ARRAY(Text))


_SIZE = bindparam("size", type_=BigInteger)
_CHECKPOINT = select(
    audit_checkpoints.c.size,
    audit_checkpoints.c.root,
    audit_checkpoints.c.note,
    audit_checkpoints.c.at,
    _of_its_witnesses("line").label("lines"),
    _of_its_witnesses("witness").label("witnesses"),
)
_LATEST = Query(
    _CHECKPOINT.where(audit_checkpoints.c.size == select(func.max(audit_checkpoints.c.size)).scalar_subquery())
)
_all = audit_checkpoints.alias("every")
_COVERING = Query(
    _CHECKPOINT.where(
        audit_checkpoints.c.size
        == func.coalesce(
            select(func.max(audit_cosignatures.c.size)).where(audit_cosignatures.c.size >= _SIZE).scalar_subquery(),
            select(func.max(_all.c.size)).where(_all.c.size >= _SIZE).scalar_subquery(),
        )
    )
)
_span = (
    func.unnest(
        bindparam("places", type_=ARRAY(Integer)),
        bindparam("levels", type_=ARRAY(SmallInteger)),
        bindparam("firsts", type_=ARRAY(BigInteger)),
        bindparam("widths", type_=ARRAY(Integer)),
    )
    .table_valued(
        column("place", Integer), column("level", SmallInteger), column("first", BigInteger), column("width", Integer)
    )
    .render_derived(name="span")
)


def _hashes_in(kept: FromClause, *on: ColumnElement[bool]) -> Query:
    there = and_(kept.c.index >= _span.c.first, kept.c.index < _span.c.first + _span.c.width, *on)
    return Query(
        select(_span.c.place, kept.c.hash).select_from(_span.join(kept, there)).order_by(_span.c.place, kept.c.index)
    )


_OF_LEAVES = _hashes_in(audit_leaves)
_OF_NODES = _hashes_in(audit_nodes, audit_nodes.c.tile_level == _span.c.level)
_same_record = and_(audit_record.c.action_id == audit_leaves.c.action_id, audit_record.c.phase == audit_leaves.c.phase)
_LEAVES = Query(
    select(
        audit_leaves.c.index,
        audit_leaves.c.action_id,
        audit_leaves.c.phase,
        audit_record.c.leaf,
        audit_leaves.c.hash,
    )
    .select_from(audit_leaves.outerjoin(audit_record, _same_record))
    .where(
        audit_leaves.c.index >= bindparam("first", type_=BigInteger),
        audit_leaves.c.index < bindparam("first", type_=BigInteger) + bindparam("count", type_=BigInteger),
    )
    .order_by(audit_leaves.c.index)
)
_ID, _PHASE = bindparam("id", type_=Uuid), bindparam("phase", type_=Text)
_INDEX = Query(select(audit_leaves.c.index).where(audit_leaves.c.action_id == _ID, audit_leaves.c.phase == _PHASE))
_INDEXES = Query(select(audit_leaves.c.phase, audit_leaves.c.index).where(audit_leaves.c.action_id == _ID))


async def latest_checkpoint(reads: Reads) -> SignedCheckpoint | None:
    """The newest checkpoint; None before the first. Raises ``NotVouched``, as the next one does."""
    return await _signed(reads, await reads(_LATEST, {}))


async def checkpoint_at_least(reads: Reads, size: int) -> SignedCheckpoint | None:
    """The newest checkpoint that covers the first ``size`` leaves and that a witness vouches for. Where no witness does
    yet, the newest of all; None where there are not so many leaves."""
    return await _signed(reads, await reads(_COVERING, {"size": size}))


async def _signed(reads: Reads, rows: Sequence[Row]) -> SignedCheckpoint | None:
    for row in rows:
        await must_be_signed(reads, row["size"], row["note"])
        kept = true_lines(row["note"], list(zip(row["witnesses"], row["lines"], strict=True)))
        note = row["note"] + "".join(f"{line.rstrip()}\n" for _, line in kept)
        return SignedCheckpoint(row["size"], row["root"], row["at"], note, tuple(witness for witness, _ in kept))
    return None


async def span_hashes(reads: Reads, spans: Sequence[Span]) -> list[list[bytes]]:
    """The kept hashes of each span, in order; fewer than its width where the tree does not reach so far."""
    found: list[list[bytes]] = [[] for _ in spans]
    for query, places in (
        (_OF_LEAVES, [place for place, span in enumerate(spans) if span.tile_level == 0]),
        (_OF_NODES, [place for place, span in enumerate(spans) if span.tile_level > 0]),
    ):
        if places:
            wanted = {
                "places": places,
                "levels": [spans[place].tile_level for place in places],
                "firsts": [spans[place].first for place in places],
                "widths": [spans[place].width for place in places],
            }
            for row in await reads(query, wanted):
                found[row["place"]].append(row["hash"])
    return found


async def proof_hashes(reads: Reads, proof: Sequence[Sequence[Node]]) -> list[bytes]:
    """The hashes of a proof as ``audit.merkle`` gives it. Raises ``TreeBroken``."""
    spans = [span_of(node) for subtree in proof for node in subtree]
    kept = await span_hashes(reads, spans)
    for span, hashes in zip(spans, kept, strict=True):
        if len(hashes) != span.width:
            raise TreeBroken(f"the tree lacks hashes of level {span.tile_level} from {span.first} on")
    nodes = map(folded, kept)
    return [joined([next(nodes) for _ in subtree]) for subtree in proof]


async def root_of(reads: Reads, size: int) -> bytes:
    """The root over the first ``size`` leaves, of whatever size, from what is kept. Raises ``TreeBroken``."""
    return (await proof_hashes(reads, [list(subtrees(0, size))]))[0] if size else EMPTY


async def tile(reads: Reads, level: int, index: int, width: int = WIDTH) -> bytes | None:
    """The first ``width`` hashes of a tile, one after the other (C2SP tlog-tiles); None where there are not so many."""
    [hashes] = await span_hashes(reads, [Span(level, index * WIDTH, width)])
    return b"".join(hashes) if len(hashes) == width else None


async def index_of(reads: Reads, action_id: UUID, phase: Phase) -> int | None:
    """The index of a record, whether it is still there or was dropped; None if it has none."""
    rows = await reads(_INDEX, {"id": action_id, "phase": phase.value})
    return rows[0]["index"] if rows else None


async def indexes_of(reads: Reads, action_id: UUID) -> dict[Phase, int]:
    """The indexes of all records of an action that have one."""
    return {Phase(row["phase"]): row["index"] for row in await reads(_INDEXES, {"id": action_id})}


async def leaves(reads: Reads, first: int, count: int) -> list[Leaf]:
    """The entries ``[first, first + count)``, as far as there are so many."""
    rows = await reads(_LEAVES, {"first": first, "count": count})
    return [Leaf(row["index"], row["action_id"], Phase(row["phase"]), row["leaf"], row["hash"]) for row in rows]
