"""The audit log as it is read. Writing it is ``audit``'s business, and changing it nobody's.

A domain sees a record if the record's scope or its target lies in the domain. The other one of the two may lie
elsewhere: where it does, a search by it finds nothing here, just as the record will not show it.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from operator import eq
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    type_coerce,
    union_all,
)
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.types import TypeDecorator

from actions.action import ADMIN_SCOPE, Lineage, Scope
from actions.errors import NotFound, Unavailable
from actions.query import COUNT_LIMIT, Condition, Group, Order, Querier, Shape, Total
from actions.vocabulary import ScopeType
from audit.log import audit_record
from audit.tree import audit_leaves
from server.repositories.base import SCOPE
from server.repositories.database import Query, Row
from server.repositories.rows import domains, keypairs, projects, subject_keys, users
from server.repositories.search import Found, SearchStatement
from server.repositories.unit import Unit

_PLACES = ("scope_project_id", "scope_user_id", "target_project_id", "target_user_id")
"""What says where scope or target lie, in a domain that is named beside it."""
_ID = bindparam("id", type_=Uuid)


class _Hashes(TypeDecorator[str]):
    """Keyed hashes with spaces between them, equal to each one that is among them: as the index has them."""

    impl = Text
    cache_ok = True

    class comparator_factory(TypeDecorator.Comparator[str]):
        def operate(self, op: Any, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
            if op is not eq:
                raise ValueError("a keyed hash is looked for as a whole")
            hashes: ColumnElement[str | None] = self.expr.clause
            held = func.string_to_array(hashes, literal_column("' '"))
            return and_(hashes.is_not(None), held.op("@>")(array([cast(other[0], Text)])))


_LATEST = Query(
    select(audit_record.c.leaf, audit_record.c.at)
    .order_by(audit_record.c.action_id.desc(), audit_record.c.phase.desc())  # ids grow with time
    .limit(bindparam("count", type_=Integer))
)
_HEAD = Query(select(func.coalesce(func.max(audit_leaves.c.index), -1).label("head")))
SEARCH_SECONDS = 4.0
"""How long a search may take: a little less than any statement may, so that it is this that is told."""
LATE = timedelta(minutes=1)
"""How much earlier a record may have been made than its transaction ended. Ours end within seconds; the rest is for
clocks that disagree."""
_ANY = any_(bindparam("ids", type_=ARRAY(Uuid)))
_INSIDE = Query(
    union_all(
        select(domains.c.id).where(domains.c.id == SCOPE, domains.c.id == _ANY),
        *(
            select(table.c.id).where(table.c.domain_id == SCOPE, table.c.id == _ANY)
            for table in (projects, users, keypairs)
        ),
    )
)
_KEYS = Query(select(subject_keys).where(subject_keys.c.subject_id == _ANY, subject_keys.c.wrapped != b""))
_INDEXES = Query(
    select(audit_leaves.c.action_id, audit_leaves.c.phase, audit_leaves.c.index).where(audit_leaves.c.action_id == _ANY)
)


def _is_its_leaf(record: FromClause) -> ColumnElement[bool]:
    return (audit_leaves.c.action_id == record.c.action_id) & (audit_leaves.c.phase == record.c.phase)


def _seen(scope_type: ScopeType, record: FromClause) -> ColumnElement[bool]:
    if scope_type is ScopeType.DOMAIN:
        return or_(record.c.scope_domain_id == SCOPE, record.c.target_domain_id == SCOPE)
    return true()


def _field(scope_type: ScopeType, record: FromClause) -> Callable[[str], ColumnElement[Any]]:
    fields: dict[str, ColumnElement[Any]] = {
        "id": record.c.action_id,
        "index": audit_leaves.c.index,
        "hash": type_coerce(record.c.hashes, _Hashes()),
        "deleted": false(),
    }

    def field(name: str) -> ColumnElement[Any]:
        column = fields[name] if name in fields else record.c[name]
        if scope_type is ScopeType.DOMAIN and name in _PLACES:
            return case((record.c[f"{name.partition('_')[0]}_domain_id"] == SCOPE, column))
        return column

    return field


class AuditRecordRepository:
    def __init__(self) -> None:
        self._search = lru_cache(maxsize=256)(_search)
        self._walk = lru_cache(maxsize=256)(_walk)
        self._get = {
            scope_type: Query(
                select(audit_record, audit_leaves.c.index)
                .select_from(audit_record.outerjoin(audit_leaves, _is_its_leaf(audit_record)))
                .where(audit_record.c.action_id == _ID, _seen(scope_type, audit_record))
                .order_by(audit_record.c.at, audit_record.c.phase)
            )
            for scope_type in (ScopeType.ADMIN, ScopeType.DOMAIN)
        }

    async def get(self, unit: Unit, action_id: UUID) -> list[Row]:
        """Every record of an action that the scope sees, in the order in which they were made. Raises ``NotFound``."""
        rows = await unit.read_all(self._get[unit.permit.lineage.scope.type], id=action_id)
        if not rows:
            raise NotFound
        unit.targets(action_id, _lineage(rows[-1]))
        return rows

    async def search(self, unit: Unit, querier: Querier) -> Found:
        """One page. It is counted first: how much there is decides how the page is looked for. Only what is looked for
        by the index alone need not be, where nobody asks for the total."""
        querier = replace(querier, conditions=(*querier.conditions, *_not_begun_later(querier)))
        scope_type, shape = unit.permit.lineage.scope.type, querier.shape
        by_index = shape.orders[0].field == "index"
        straight = by_index and all(part == "index" for part in _fields(shape.conditions))
        statement = self._search(scope_type, shape)
        in_order = self._walk(scope_type, shape) if by_index else statement
        values = statement.values(querier)
        exact = querier.total is Total.EXACT
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                if straight and querier.total is Total.NONE:
                    rows = await unit.read_all(in_order.page, **values)
                    seen = min(len(rows), querier.limit)
                    return Found.of(rows, statement, querier, querier.offset + seen if seen else 0, False)
                counted = await unit.read(statement.exact_count if exact else statement.count, **values)
                total: int = counted["total"] if counted else 0
                few = total <= COUNT_LIMIT
                page = statement.page_of_few if few and not straight else in_order.page
                rows = await unit.read_all(page, **values) if total else []
        except TimeoutError as error:
            raise Unavailable(
                "The search looks through too much of the log. Narrow it, best by `at`.", reason="search-too-wide"
            ) from error
        return Found.of(rows, statement, querier, total if few or exact else COUNT_LIMIT, few or exact)

    async def indexes(self, unit: Unit, rows: Sequence[Row]) -> list[int | None]:
        """The index of each of these records, given by ``id`` and ``phase``; None while it has none."""
        if not rows:
            return []
        found = await unit.read_all(_INDEXES, ids=[row["id"] for row in rows])
        known = {(row["action_id"], row["phase"]): row["index"] for row in found}
        return [known.get((row["id"], row["phase"])) for row in rows]

    async def head(self, unit: Unit) -> int:
        """The index that was given last; -1 if there is none."""
        row = await unit.read(_HEAD)
        assert row is not None  # an aggregate always has a row  # noqa: S101
        head: int = row["head"]
        return head

    async def between(
        self, unit: Unit, conditions: Sequence[Condition | Group], after: int, until: int, count: int
    ) -> list[Row]:
        """The records that meet the conditions beyond the index ``after`` and up to ``until``, the first ``count`` of
        them: ``id, phase, leaf, index``. What it costs goes by how far apart the two are, and by nothing else."""
        span = (Condition("index", "greater_than", after), Condition("index", "less_than_or_equal", until))
        querier = Querier((*conditions, *span), (Order("index"),), count - 1)  # a page is asked for with one more
        walk = self._walk(unit.permit.lineage.scope.type, querier.shape)
        return await unit.read_all(walk.page, **walk.values(querier))

    async def inside(self, unit: Unit, ids: Collection[UUID]) -> frozenset[UUID]:
        """Which of these things lie in the domain that is the unit's scope. What has been purged lies nowhere."""
        if not ids:
            return frozenset()
        return frozenset(row["id"] for row in await unit.read_all(_INSIDE, ids=list(ids)))

    async def keys(self, unit: Unit, subjects: Collection[UUID]) -> list[Row]:
        """The wrapped keys of those people who have one: ``subject_id, wrapped, created_at``."""
        return await unit.read_all(_KEYS, ids=list(subjects)) if subjects else []

    async def latest(self, unit: Unit, count: int) -> list[dict[str, Any]]:
        """The public part of the latest records, oldest first, whether they have an index or not. What is sealed stays
        sealed."""
        rows = await unit.read_all(_LATEST, count=count)
        return [orjson.loads(row["leaf"]) for row in sorted(rows, key=lambda row: row["at"])]


def _fields(parts: Sequence[Condition | Group]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Group):
            yield from _fields(part.members)
        else:
            yield part.field


def _not_begun_later(querier: Querier) -> Iterator[Condition]:
    """What follows from a time that the records were made before: their actions had begun, so their ids are no greater
    than that time's. It lets a search begin there, and not with the newest."""
    for part in querier.conditions:
        if isinstance(part, Condition) and part.field == "at" and part.operator == "before":
            assert isinstance(part.value, datetime)  # noqa: S101
            seconds = part.value.timestamp() + LATE.total_seconds()
            milliseconds = min(max(int(seconds * 1000), 0), 2**48 - 1)
            yield Condition("id", "less_than_or_equal", UUID(int=(milliseconds << 80) | (2**80 - 1)))


def _search(scope_type: ScopeType, shape: Shape) -> SearchStatement:
    """A search whose way the planner is to find: by the block ranges, or along the primary key. What it says of the
    index decides whether the leaves are joined at all, and whether a record without an index is shown: not in an order
    that it has no place in."""
    columns = (audit_record.c.action_id.label("id"), audit_record.c.phase, audit_record.c.leaf)
    visible: Select[Any] = select(*columns).where(_seen(scope_type, audit_record))
    ordered = any(order.field == "index" for order in shape.orders)
    if ordered or "index" in _fields(shape.conditions):
        joined = audit_record.join(audit_leaves, _is_its_leaf(audit_record), isouter=not ordered)
        visible = visible.add_columns(audit_leaves.c.index).select_from(joined)
    return _statement(scope_type, shape, visible, audit_record)


def _walk(scope_type: ScopeType, shape: Shape) -> SearchStatement:
    """A search that goes along the leaves, from one index to the next, and looks at the record of each. The offset is a
    wall that the planner cannot move the conditions across: it would look for the records first."""
    record = (
        select(audit_record)
        .where(_is_its_leaf(audit_record))
        .correlate(audit_leaves)
        .offset(literal_column("0"))
        .lateral("record")
    )
    columns = (record.c.action_id.label("id"), record.c.phase, record.c.leaf, audit_leaves.c.index)
    visible = select(*columns).select_from(audit_leaves.join(record, true())).where(_seen(scope_type, record))
    return _statement(scope_type, shape, visible, record)


def _statement(scope_type: ScopeType, shape: Shape, visible: Select[Any], record: FromClause) -> SearchStatement:
    first = shape.orders[0]
    if first.field == "index":  # no two records have one, so nothing is left for other orders to say
        return SearchStatement(
            replace(shape, orders=()), visible, _field(scope_type, record), audit_leaves.c.index, first
        )
    # The phases of an action lie beside each other in the primary key, which is read in either direction as it is.
    last = Order("phase", first.ascending)
    return SearchStatement(shape, visible, _field(scope_type, record), record.c.phase, last)


def _lineage(row: Row) -> Lineage:
    """Where a record lies: in the domain of its target, or else of its scope, so that who reads it is seen there."""
    domain = row["target_domain_id"] or row["scope_domain_id"]
    return Lineage((Scope(ScopeType.DOMAIN, domain), ADMIN_SCOPE) if domain else (ADMIN_SCOPE,))
