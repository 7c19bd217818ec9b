"""The audit log as it is read. Writing it is ``audit``'s business, and changing it nobody's."""

from typing import Any

import orjson
from sqlalchemy import Integer, bindparam, select

from audit.log import audit_record
from server.repositories.database import Query
from server.repositories.unit import Unit

_LATEST = Query(
    select(audit_record.c.leaf)
    .order_by(audit_record.c.action_id.desc(), audit_record.c.phase.desc())  # ids grow with time
    .limit(bindparam("count", type_=Integer))
)


class AuditRecordRepository:
    async def latest(self, unit: Unit, count: int) -> list[dict[str, Any]]:
        """The public part of the latest records, oldest first. What is sealed stays sealed."""
        rows = await unit.read_all(_LATEST, count=count)
        return [orjson.loads(row["leaf"]) for row in reversed(rows)]
