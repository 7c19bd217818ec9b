"""The audit log as it is read. Writing it is ``audit``'s business, and changing it nobody's.

A domain sees a record if the record's scope or its target lies in the domain. The other one of the two may lie
elsewhere: where it does, a search by it finds nothing here, just as the record will not show it.
"""

from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Uuid,
    any_,
    bindparam,
    case,
    false,
    or_,
    select,
    true,
    union_all,
)

from actions.action import ADMIN_SCOPE, Lineage, Scope
from actions.errors import NotFound
from actions.query import Order, Querier, Shape
from actions.vocabulary import ScopeType
from audit.log import audit_record
from server.repositories.base import SCOPE
from server.repositories.database import Query, Row
from server.repositories.rows import domains, keypairs, projects, subject_keys, users
from server.repositories.search import SearchStatement, page_of
from server.repositories.unit import Unit

_SEEN: dict[ScopeType, ColumnElement[bool]] = {
    ScopeType.ADMIN: true(),
    ScopeType.DOMAIN: or_(audit_record.c.scope_domain_id == SCOPE, audit_record.c.target_domain_id == SCOPE),
}
_FIELDS: dict[str, ColumnElement[Any]] = {"id": audit_record.c.action_id, "deleted": false()}
_OF_A_PLACE = {
    name: audit_record.c[f"{name.partition('_')[0]}_domain_id"]
    for name in ("scope_project_id", "scope_user_id", "target_project_id", "target_user_id")
}
"""What says where scope or target lie, with the column of the domain that it has to be."""
_LATEST = Query(
    select(audit_record.c.leaf)
    .order_by(audit_record.c.action_id.desc(), audit_record.c.phase.desc())  # ids grow with time
    .limit(bindparam("count", type_=Integer))
)
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
_KEYS = Query(select(subject_keys).where(subject_keys.c.subject_id == _ANY))


def _field(scope_type: ScopeType) -> Callable[[str], ColumnElement[Any]]:
    def field(name: str) -> ColumnElement[Any]:
        column = _FIELDS[name] if name in _FIELDS else audit_record.c[name]
        if scope_type is ScopeType.DOMAIN and name in _OF_A_PLACE:
            return case((_OF_A_PLACE[name] == SCOPE, column))
        return column

    return field


class AuditRecordRepository:
    def __init__(self) -> None:
        self._search = lru_cache(maxsize=256)(_search)
        self._get = {
            scope_type: Query(
                select(audit_record)
                .where(audit_record.c.action_id == bindparam("id", type_=Uuid), seen)
                .order_by(audit_record.c.at, audit_record.c.phase)
            )
            for scope_type, seen in _SEEN.items()
        }

    async def get(self, unit: Unit, action_id: UUID) -> list[Row]:
        """Every record of an action that the scope sees, in the order in which they were made. Raises ``NotFound``."""
        rows = await unit.read_all(self._get[unit.permit.lineage.scope.type], id=action_id)
        if not rows:
            raise NotFound
        unit.targets(action_id, _lineage(rows[-1]))
        return rows

    async def search(self, unit: Unit, querier: Querier) -> tuple[list[Row], int, str | None]:
        """One page, the total (beyond ``COUNT_LIMIT``, one more than that, unless it is to be exact), and the cursor of
        the next page."""
        statement = self._search(unit.permit.lineage.scope.type, querier.shape)
        values = statement.values(querier)
        rows = await unit.read_all(statement.page, **values)
        page, cursor = page_of(rows, querier, statement.orders)
        if querier.cursor is None and cursor is None and (page or not querier.offset):
            return list(page), querier.offset + len(page), None  # the last page tells how many there are
        total = await unit.read(statement.exact_count if querier.exact_total else statement.count, **values)
        return list(page), total["total"] if total else 0, cursor

    async def inside(self, unit: Unit, ids: Collection[UUID]) -> frozenset[UUID]:
        """Which of these things lie in the domain that is the unit's scope. What has been purged lies nowhere."""
        if not ids:
            return frozenset()
        return frozenset(row["id"] for row in await unit.read_all(_INSIDE, ids=list(ids)))

    async def keys(self, unit: Unit, subjects: Collection[UUID]) -> list[Row]:
        """The wrapped keys of those people who have one: ``subject_id, wrapped, created_at``."""
        return await unit.read_all(_KEYS, ids=list(subjects)) if subjects else []

    async def latest(self, unit: Unit, count: int) -> list[dict[str, Any]]:
        """The public part of the latest records, oldest first. What is sealed stays sealed."""
        rows = await unit.read_all(_LATEST, count=count)
        return [orjson.loads(row["leaf"]) for row in reversed(rows)]


def _search(scope_type: ScopeType, shape: Shape) -> SearchStatement:
    columns = (audit_record.c.action_id.label("id"), audit_record.c.phase, audit_record.c.leaf)
    visible = select(*columns).where(_SEEN[scope_type])
    # The phases of an action lie beside each other in the primary key, which is read in either direction as it is.
    last = Order("phase", shape.orders[0].ascending)
    return SearchStatement(shape, visible, _field(scope_type), audit_record.c.phase, last)


def _lineage(row: Row) -> Lineage:
    """Where a record lies: in the domain of its target, or else of its scope, so that who reads it is seen there."""
    domain = row["target_domain_id"] or row["scope_domain_id"]
    return Lineage((Scope(ScopeType.DOMAIN, domain), ADMIN_SCOPE) if domain else (ADMIN_SCOPE,))
