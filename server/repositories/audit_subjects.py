"""The keys of those of whom the log speaks, as far as an action may touch them: to look when one was made, to erase it,
to put another in its place."""

from uuid import UUID

from sqlalchemy import LargeBinary, Uuid, bindparam, exists, func, select, update

from audit.redaction import NOBODY
from server.repositories.database import Query, Row
from server.repositories.rows import subject_keys, users
from server.repositories.unit import Unit

_SUBJECT = bindparam("subject", type_=Uuid)
_SHOWN = (
    subject_keys.c.subject_id.label("id"),
    (subject_keys.c.wrapped != b"").label("readable"),
    subject_keys.c.created_at.label("since"),
    subject_keys.c.erased_at,
)
_GET = Query(select(*_SHOWN).where(subject_keys.c.subject_id == _SUBJECT))
_LOCK = Query(select(*_SHOWN).where(subject_keys.c.subject_id == _SUBJECT).with_for_update())
_IS_THERE = Query(select(exists().where(users.c.id == _SUBJECT).label("there")))
_NOW = func.clock_timestamp()
_ERASE = Query(
    update(subject_keys)
    .where(subject_keys.c.subject_id == _SUBJECT, subject_keys.c.subject_id != NOBODY)
    .values(wrapped=b"", erased_at=_NOW)
    .returning(*_SHOWN)
)
_REPLACE = Query(
    update(subject_keys)
    .where(subject_keys.c.subject_id == _SUBJECT)
    .values(wrapped=bindparam("key", type_=LargeBinary), created_at=_NOW, erased_at=_NOW)
    .returning(*_SHOWN)
)


class AuditSubjectRepository:
    async def get(self, unit: Unit, subject: UUID) -> Row | None:
        """``id, readable, since, erased_at``; inside a transaction it is locked."""
        return await unit.read(_LOCK if unit.in_transaction else _GET, subject=subject)

    async def is_user(self, unit: Unit, subject: UUID) -> bool:
        """Whether there is such a user, a deleted one included."""
        row = await unit.read(_IS_THERE, subject=subject)
        return row is not None and bool(row["there"])

    async def erase(self, unit: Unit, subject: UUID) -> Row | None:
        """Forget a person's key. The row stays, so that none is made again."""
        return await unit.write(_ERASE, subject=subject)

    async def replace(self, unit: Unit, subject: UUID, key: bytes) -> Row | None:
        """Put another wrapped key in the place of one."""
        return await unit.write(_REPLACE, subject=subject, key=key)
