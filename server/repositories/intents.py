"""Intents whose outcome never came: what a sweeper closes."""

from sqlalchemy import Integer, bindparam, exists, func, select

from audit.log import audit_record
from audit.record import Phase
from server.repositories.database import Database, Query, Row

_later = audit_record.alias("later")
_OPEN = Query(
    select(audit_record)
    .where(
        audit_record.c.phase == Phase.INTENT.value,
        audit_record.c.at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("seconds", type_=Integer)),
        ~exists(
            select(_later.c.phase).where(
                _later.c.action_id == audit_record.c.action_id, _later.c.phase != Phase.INTENT.value
            )
        ),
    )
    .limit(100)
)


async def open_intents(database: Database, seconds: int) -> list[Row]:
    """At most 100 intents older than so many seconds that no other record of their action closes."""
    return await database.fetch(_OPEN, {"seconds": seconds})
