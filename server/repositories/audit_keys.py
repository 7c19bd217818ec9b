"""Keys of the audit log in the database. Their private halves are sealed; no standard statement reads one."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import ColumnElement, DateTime, bindparam, func, literal_column, or_, select, update

from actions.entities.audit_key import AUDIT_KEYS, AuditKey
from audit.note import Signer
from audit.tree import audit_logs
from server.repositories.base import Repository
from server.repositories.database import Connection, Database, Query, Row
from server.repositories.rows import audit_keys
from server.repositories.unit import Unit

_SIGNING: ColumnElement[bool] = or_(audit_keys.c.not_after.is_(None), audit_keys.c.not_after > func.clock_timestamp())
_OVER = audit_keys.c.not_after <= func.clock_timestamp()
_HAS_SECRET = audit_keys.c.sealed_private_key != b""
_TURN = 0x61_6B_65_79
_LOCK = Query(select(func.pg_advisory_xact_lock(literal_column(str(_TURN)))))
_ORIGIN = Query(select(audit_logs.c.origin))
_SIGNERS = Query(
    select(audit_keys.c.id, audit_keys.c.sealed_private_key)
    .where(_SIGNING, _HAS_SECRET)
    .order_by(audit_keys.c.created_at.desc(), audit_keys.c.id.desc())
)
_PUBLIC = Query(select(audit_keys.c.public_key).order_by(audit_keys.c.created_at, audit_keys.c.id))
_LATEST = Query(
    select(audit_keys.c.id, audit_keys.c.created_at)
    .where(audit_keys.c.not_after.is_(None))
    .order_by(audit_keys.c.created_at.desc(), audit_keys.c.id.desc())
    .limit(1)
)
_changed = {"version": audit_keys.c.version + 1, "updated_at": func.now()}
_STEP_DOWN = Query(
    update(audit_keys)
    .where(audit_keys.c.not_after.is_(None))
    .values(not_after=bindparam("at", type_=DateTime(timezone=True)), **_changed)
    .returning(audit_keys.c.id)
)
_PUT_AWAY = Query(
    update(audit_keys).where(_OVER, _HAS_SECRET).values(sealed_private_key=b"", **_changed).returning(audit_keys.c.id)
)
_WORK = Query(
    select(
        or_(
            ~select(audit_keys.c.id).where(audit_keys.c.not_after.is_(None)).exists(),
            select(audit_keys.c.id).where(_OVER, _HAS_SECRET).exists(),
        ).label("there")
    )
)


class Opens(Protocol):
    def open(self, sealed: bytes, purpose: str) -> bytes: ...


def sealed_purpose(key: UUID) -> str:
    """What a private key is sealed for: it opens as no other."""
    return f"audit_key:{key}"


def signers(ring: Opens) -> Callable[[Connection, str], Awaitable[Sequence[Signer]]]:
    """What the sequencer asks: the keys that sign now."""
    opened: dict[UUID, Ed25519PrivateKey] = {}

    async def now(connection: Connection, origin: str) -> Sequence[Signer]:
        rows = await connection.fetch(_SIGNERS.sql, *_SIGNERS.arguments({}))
        for row in rows:
            if row["id"] not in opened:
                secret = ring.open(row["sealed_private_key"], sealed_purpose(row["id"]))
                opened[row["id"]] = Ed25519PrivateKey.from_private_bytes(secret)
        return [Signer(origin, opened[row["id"]]) for row in rows]

    return now


async def has_key_work(database: Database) -> bool:
    """Whether there is no key that signs, or one to put away."""
    row = await database.fetchrow(_WORK, {})
    return row is not None and bool(row["there"])


async def public_keys(unit: Unit) -> list[str]:
    """The public halves of all keys that the log was ever signed with, the oldest first, as people pass them on."""
    return [row["public_key"] for row in await unit.read_all(_PUBLIC)]


class AuditKeyRepository(Repository[AuditKey]):
    def __init__(self) -> None:
        super().__init__(AUDIT_KEYS, AuditKey, audit_keys, {})

    async def take_turns(self, unit: Unit) -> None:
        """Call before another key is made: two that are made at once take turns."""
        await unit.read(_LOCK)

    async def origin(self, unit: Unit) -> str:
        """The name of the log."""
        row = await unit.read(_ORIGIN)
        assert row is not None  # the migration wrote it  # noqa: S101
        return str(row["origin"])

    async def latest(self, unit: Unit) -> Row | None:
        """The key that signs without an end: ``id``, ``created_at``."""
        return await unit.read(_LATEST)

    async def step_down(self, unit: Unit, at: datetime) -> Row | None:
        """Let the key that signs without an end sign until ``at``; returns its ``id``."""
        return await unit.write(_STEP_DOWN, at=at)

    async def put_away(self, unit: Unit) -> Row | None:
        """Take the private half of what signs no more; returns the ``id`` of one."""
        return await unit.write(_PUT_AWAY)
