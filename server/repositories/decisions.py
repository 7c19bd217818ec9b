"""The audit log as it is read for what was decided: whole records, from the newest back, page by page.

Each page is a statement of its own, and between two of them nothing is held: neither a transaction nor a connection.
Grouping in PostgreSQL was tried: taking the records apart there costs three times what it costs here.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ARRAY, DateTime, Integer, Text, Uuid, any_, bindparam, func, select, tuple_

from audit.log import audit_record
from server.repositories.audit_records import LATE
from server.repositories.database import Query
from server.repositories.in_force import holds
from server.repositories.rows import policy_versions, role_bindings
from server.repositories.unit import Unit

PAGE = 500
"""Records in a page: what takes some 5 ms of the event loop's."""
_EARLIEST, _LATEST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
_NOTHING_ABOVE = UUID(int=2**128 - 1)
_KEY = (audit_record.c.action_id, audit_record.c.phase)
_BEFORE = Query(
    select(*_KEY, audit_record.c.leaf)
    .where(
        tuple_(*_KEY) < tuple_(bindparam("id", type_=Uuid), bindparam("phase", type_=Text)),
        audit_record.c.action_id >= bindparam("floor", type_=Uuid),
        audit_record.c.at >= bindparam("since", type_=DateTime(timezone=True)),
        audit_record.c.at < bindparam("until", type_=DateTime(timezone=True)),
    )
    .order_by(*(column.desc() for column in _KEY))
    .limit(bindparam("count", type_=Integer))
)
_VERSIONS = Query(
    select(policy_versions.c.digest, policy_versions.c.files).where(
        policy_versions.c.digest == any_(bindparam("digests", type_=ARRAY(Text)))
    )
)
_BINDINGS = Query(
    select(role_bindings.c.role, func.count().label("held"))
    .where(holds(role_bindings.c))
    .group_by(role_bindings.c.role)
)


@dataclass(frozen=True, slots=True)
class Place:
    """How far back a reader has come: what is left has smaller keys. Ids grow with the time when an action began, so
    reading ends a little before ``since``; of a stream that was opened before, what closed it is not read."""

    id: UUID
    phase: str
    floor: UUID
    since: datetime
    until: datetime


class DecisionRepository:
    @staticmethod
    def newest(since: datetime | None, until: datetime | None) -> Place:
        """Where reading a range of times begins."""
        floor = UUID(int=0) if since is None else _first_id_of(since)
        return Place(_NOTHING_ABOVE, "", floor, since or _EARLIEST, until or _LATEST)

    async def before(self, unit: Unit, place: Place, count: int) -> tuple[list[dict[str, Any]], Place | None]:
        """The next records, ``count`` at most, the newest first, and where to go on; None: there are no more."""
        rows = await unit.read_all(
            _BEFORE,
            id=place.id,
            phase=place.phase,
            floor=place.floor,
            since=place.since,
            until=place.until,
            count=count,
        )
        records = [orjson.loads(row["leaf"]) for row in rows]
        if len(rows) < count:
            return records, None
        last = rows[-1]
        return records, Place(last["action_id"], last["phase"], place.floor, place.since, place.until)

    async def versions(self, unit: Unit, digests: Collection[str]) -> dict[str, dict[str, str]]:
        """The files of those versions that are stored, by digest."""
        rows = await unit.read_all(_VERSIONS, digests=list(digests))
        return {row["digest"]: row["files"] for row in rows}

    async def bindings(self, unit: Unit, now: datetime) -> dict[str, int]:
        """How many hold each role at the moment."""
        return {row["role"]: row["held"] for row in await unit.read_all(_BINDINGS, now=now)}


def _first_id_of(moment: datetime) -> UUID:
    """No action whose record was made at a moment or later has a smaller id, if clocks differ by no more than that."""
    milliseconds = min(max(int((moment.timestamp() - LATE.total_seconds()) * 1000), 0), 2**48 - 1)
    return UUID(int=milliseconds << 80)
