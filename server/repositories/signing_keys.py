"""Signing keys in the database. Their private halves are sealed; no standard statement reads one."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, bindparam, exists, func, literal_column, select, update

from actions.entities.signing_key import SIGNING_KEYS, SigningKey
from server.repositories.base import Repository
from server.repositories.database import Database, Query, Row
from server.repositories.rows import signing_keys
from server.repositories.unit import Unit

_SIGNING = signing_keys.c.not_after.is_(None) & signing_keys.c.deleted_at.is_(None)
_TURN = 0x6B_65_79
_LOCK = Query(select(func.pg_advisory_xact_lock(literal_column(str(_TURN)))))
_PRESENT = Query(
    select(signing_keys.c.id, signing_keys.c.sealed_private_key, signing_keys.c.created_at)
    .where(_SIGNING)
    .order_by(signing_keys.c.created_at.desc(), signing_keys.c.id.desc())
    .limit(1)
)
_STEP_DOWN = Query(
    update(signing_keys)
    .where(_SIGNING)
    .values(
        not_after=bindparam("at", type_=DateTime(timezone=True)),
        sealed_private_key=b"",
        version=signing_keys.c.version + 1,
        updated_at=func.now(),
    )
    .returning(signing_keys.c.id)
)
_YOUNG = Query(
    select(
        exists(
            select(signing_keys.c.id).where(
                _SIGNING, signing_keys.c.created_at > bindparam("since", type_=DateTime(timezone=True))
            )
        ).label("there")
    )
)


async def has_key_made_since(database: Database, moment: datetime) -> bool:
    """Whether the key that signs was made after a moment."""
    row = await database.fetchrow(_YOUNG, {"since": moment})
    return row is not None and bool(row["there"])


class SigningKeyRepository(Repository[SigningKey]):
    def __init__(self) -> None:
        super().__init__(SIGNING_KEYS, SigningKey, signing_keys, {})

    async def take_turns(self, unit: Unit) -> None:
        """Call before another key begins to sign: two that are made at once take turns."""
        await unit.read(_LOCK)

    async def present(self, unit: Unit) -> Row | None:
        """The key that signs: ``id``, ``sealed_private_key``, ``created_at``."""
        return await unit.read(_PRESENT)

    async def step_down(self, unit: Unit, at: datetime) -> UUID | None:
        """Let the key that signs sign no more, and verify until ``at``; returns which it was."""
        row = await unit.write(_STEP_DOWN, at=at)
        return row["id"] if row else None
