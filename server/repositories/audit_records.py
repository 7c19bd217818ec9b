"""The audit log as it is read. Writing it is ``audit``'s business, and changing it nobody's.

A domain sees a record if the record's scope or its target lies in the domain. The other one of the two may lie
elsewhere: where it does, a search by it finds nothing here, just as the record will not show it.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Integer,
    Text,
    Uuid,
    any_,
    bindparam,
    case,
    cast,
    false,
    func,
    not_,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.types import UserDefinedType

from actions.action import ADMIN_SCOPE, Lineage, Scope
from actions.errors import NotFound, Unavailable
from actions.query import COUNT_LIMIT, Condition, Order, Querier, Shape, Total
from actions.vocabulary import ScopeType
from audit.log import Xid8, audit_record
from server.repositories.base import SCOPE
from server.repositories.database import Query, Row
from server.repositories.rows import domains, keypairs, projects, subject_keys, users
from server.repositories.search import Found, SearchStatement
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
    select(audit_record.c.leaf, audit_record.c.at)
    .order_by(audit_record.c.action_id.desc(), audit_record.c.phase.desc())  # ids grow with time
    .limit(bindparam("count", type_=Integer))
)


class _Snapshot(UserDefinedType[str]):
    """PostgreSQL's account of which transactions had ended at a moment."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "pg_snapshot"


def _ended_by(name: str) -> ColumnElement[bool]:
    return func.pg_visible_in_snapshot(audit_record.c.xid, cast(bindparam(name, type_=Text), _Snapshot))


_NOW = Query(select(cast(func.pg_current_snapshot(), Text).label("snapshot"), func.now().label("at")))
_BEFORE = Query(
    select(audit_record.c.leaf, audit_record.c.at)
    .where(_ended_by("snapshot"))
    .order_by(audit_record.c.action_id.desc(), audit_record.c.phase.desc())
    .limit(bindparam("count", type_=Integer))
)
_PLACE = (audit_record.c.xid, audit_record.c.action_id, audit_record.c.phase)
_SINCE = Query(
    select(audit_record.c.leaf, cast(audit_record.c.xid, Text).label("xid"), *_PLACE[1:])
    .where(
        audit_record.c.at > bindparam("floor", type_=DateTime(timezone=True)),
        _ended_by("until"),
        not_(_ended_by("since")),
        tuple_(*_PLACE)
        > tuple_(cast(bindparam("xid", type_=Text), Xid8), bindparam("id", type_=Uuid), bindparam("phase")),
    )
    .order_by(*_PLACE)
    .limit(bindparam("count", type_=Integer))
)
SEARCH_SECONDS = 4.0
"""How long a search may take: a little less than any statement may, so that it is this that is told."""
PAGE = 500
"""Records in one part of a stream."""
LATE = timedelta(minutes=1)
"""How much earlier a record may have been made than its transaction ended. Ours end within seconds; the rest is for
clocks that disagree. It is what keeps a follower from looking through the whole log for what is new."""
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


def _field(scope_type: ScopeType) -> Callable[[str], ColumnElement[Any]]:
    def field(name: str) -> ColumnElement[Any]:
        column = _FIELDS[name] if name in _FIELDS else audit_record.c[name]
        if scope_type is ScopeType.DOMAIN and name in _OF_A_PLACE:
            return case((_OF_A_PLACE[name] == SCOPE, column))
        return column

    return field


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a follower has come: it has had every record whose transaction had ended in the snapshot ``since``.

    It is on its way to ``until``, unless that is None, and there has come to ``place``. A transaction that takes long
    ends in a later snapshot than those that overtake it, whatever its records' ids are, so none is missed and none
    comes twice.
    """

    since: str
    since_at: datetime
    until: str | None = None
    until_at: datetime | None = None
    place: tuple[str, UUID, str] = ("0", UUID(int=0), "")


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

    async def search(self, unit: Unit, querier: Querier) -> Found:
        """One page. It is counted in any case: how much there is decides how the page is looked for."""
        querier = replace(querier, conditions=(*querier.conditions, *_not_begun_later(querier)))
        statement = self._search(unit.permit.lineage.scope.type, querier.shape)
        values = statement.values(querier)
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                exact = querier.total is Total.EXACT
                counted = await unit.read(statement.exact_count if exact else statement.count, **values)
                total: int = counted["total"] if counted else 0
                few = total <= COUNT_LIMIT
                page = statement.page_of_few if few else statement.page
                rows = await unit.read_all(page, **values) if total else []
        except TimeoutError as error:
            raise Unavailable(
                "The search looks through too much of the log. Narrow it, best by `at`.", reason="search-too-wide"
            ) from error
        return Found.of(rows, statement, querier, total if few or exact else COUNT_LIMIT, few or exact)

    async def inside(self, unit: Unit, ids: Collection[UUID]) -> frozenset[UUID]:
        """Which of these things lie in the domain that is the unit's scope. What has been purged lies nowhere."""
        if not ids:
            return frozenset()
        return frozenset(row["id"] for row in await unit.read_all(_INSIDE, ids=list(ids)))

    async def keys(self, unit: Unit, subjects: Collection[UUID]) -> list[Row]:
        """The wrapped keys of those people who have one: ``subject_id, wrapped, created_at``."""
        return await unit.read_all(_KEYS, ids=list(subjects)) if subjects else []

    async def begin(self, unit: Unit, count: int) -> tuple["Mark", list[dict[str, Any]]]:
        """Where following begins, and the latest records before it, oldest first."""
        now = await unit.read(_NOW)
        assert now is not None  # noqa: S101
        rows = await unit.read_all(_BEFORE, snapshot=now["snapshot"], count=count)
        return Mark(now["snapshot"], now["at"]), _in_time(rows)

    async def after(self, unit: Unit, mark: "Mark") -> tuple["Mark", list[dict[str, Any]]]:
        """What has been committed since a mark, at most ``PAGE`` records of it, and the mark to go on from."""
        if mark.until is None:
            now = await unit.read(_NOW)
            assert now is not None  # noqa: S101
            if now["snapshot"] == mark.since:
                return mark, []  # no transaction has ended meanwhile
            mark = replace(mark, until=now["snapshot"], until_at=now["at"])
        xid, action_id, phase = mark.place
        rows = await unit.read_all(
            _SINCE,
            floor=mark.since_at - LATE,
            since=mark.since,
            until=mark.until,
            xid=xid,
            id=action_id,
            phase=phase,
            count=PAGE,
        )
        records = [orjson.loads(row["leaf"]) for row in rows]
        if len(rows) < PAGE:
            return Mark(mark.until or mark.since, mark.until_at or mark.since_at), records
        last = rows[-1]
        return replace(mark, place=(last["xid"], last["action_id"], last["phase"])), records

    async def latest(self, unit: Unit, count: int) -> list[dict[str, Any]]:
        """The public part of the latest records, oldest first. What is sealed stays sealed."""
        rows = await unit.read_all(_LATEST, count=count)
        return _in_time(rows)


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
    columns = (audit_record.c.action_id.label("id"), audit_record.c.phase, audit_record.c.leaf)
    visible = select(*columns).where(_SEEN[scope_type])
    # The phases of an action lie beside each other in the primary key, which is read in either direction as it is.
    last = Order("phase", shape.orders[0].ascending)
    return SearchStatement(shape, visible, _field(scope_type), audit_record.c.phase, last)


def _in_time(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The public parts, in the order in which the records were made."""
    return [orjson.loads(row["leaf"]) for row in sorted(rows, key=lambda row: row["at"])]


def _lineage(row: Row) -> Lineage:
    """Where a record lies: in the domain of its target, or else of its scope, so that who reads it is seen there."""
    domain = row["target_domain_id"] or row["scope_domain_id"]
    return Lineage((Scope(ScopeType.DOMAIN, domain), ADMIN_SCOPE) if domain else (ADMIN_SCOPE,))
