"""Intents whose outcome never came: what a sweeper closes."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import DateTime, Integer, Uuid, bindparam, exists, func, select, tuple_

from audit.log import audit_record
from audit.record import Phase
from server.repositories.database import Database, Query, Row

AT_ONCE = 100
_BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)
_later = audit_record.alias("later")
_OPEN = Query(
    select(audit_record)
    .where(
        audit_record.c.phase == Phase.INTENT.value,
        tuple_(audit_record.c.at, audit_record.c.action_id)
        > tuple_(bindparam("after", type_=DateTime(timezone=True)), bindparam("after_id", type_=Uuid)),
        audit_record.c.at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("seconds", type_=Integer)),
        ~exists(
            select(_later.c.phase).where(
                _later.c.action_id == audit_record.c.action_id, _later.c.phase != Phase.INTENT.value
            )
        ),
    )
    .order_by(audit_record.c.at, audit_record.c.action_id)
    .limit(AT_ONCE)
)


async def open_intents(database: Database, seconds: int, after: Row | None = None) -> list[Row]:
    """Intents older than so many seconds that no other record of their action closes: the oldest that come ``after``
    one of them, at most ``AT_ONCE``."""
    at, action_id = (after["at"], after["action_id"]) if after is not None else _BEFORE_ALL
    return await database.fetch(_OPEN, {"seconds": seconds, "after": at, "after_id": action_id})
