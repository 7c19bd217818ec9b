"""Keys of the audit log in the database. Their private halves are sealed; no standard statement reads one."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel
from sqlalchemy import ARRAY, DateTime, Select, Uuid, any_, bindparam, func, literal_column, select, update

from actions.entities.audit_key import AUDIT_KEYS, AuditKey
from actions.errors import NotFound
from actions.query import Page, Querier
from audit.note import Signer
from audit.tree import audit_checkpoints, audit_logs
from server.keyring import KeyRingError
from server.repositories.base import Repository
from server.repositories.database import Connection, Database, Query, Row
from server.repositories.rows import audit_keys
from server.repositories.search import SearchStatement, page_of
from server.repositories.unit import Unit
from server.repositories.vouching import KEYS, LogKeys, kept_keys, log_keys, reading

_OVER = audit_keys.c.not_after <= func.clock_timestamp()
_HAS_SECRET = audit_keys.c.sealed_private_key != b""
_TURN = 0x61_6B_65_79
_LOCK = Query(select(func.pg_advisory_xact_lock(literal_column(str(_TURN)))))
_ORIGIN = Query(select(audit_logs.c.origin))
_SIGNED = Query(select(select(audit_checkpoints.c.size).exists().label("there")))
_changed = {"version": audit_keys.c.version + 1, "updated_at": func.now()}
_STEP_DOWN = Query(
    update(audit_keys)
    .where(audit_keys.c.not_after.is_(None), audit_keys.c.id == bindparam("id", type_=Uuid))
    .values(not_after=bindparam("at", type_=DateTime(timezone=True)), **_changed)
    .returning(audit_keys.c.id)
)
_PUT_AWAY = Query(
    update(audit_keys).where(_OVER, _HAS_SECRET).values(sealed_private_key=b"", **_changed).returning(audit_keys.c.id)
)


class Opens(Protocol):
    def open(self, sealed: bytes, purpose: str) -> bytes: ...


def sealed_purpose(key: UUID) -> str:
    """What a private key is sealed for: it opens as no other."""
    return f"audit_key:{key}"


class Opener:
    """Opens the private halves of the log's keys, each once."""

    def __init__(self, ring: Opens) -> None:
        self._ring = ring
        self._opened: dict[UUID, Ed25519PrivateKey] = {}
        self._log = structlog.get_logger("chamberlain.keys")

    def signers(self, origin: str, rows: Sequence[Row]) -> list[Signer]:
        """What of these keys can sign, the newest first. One that does not open is told of and passed over."""
        found = []
        for row in reversed(rows):
            if row["sealed_private_key"] and (private := self._private(row)) is not None:
                found.append(Signer(origin, private))
        return found

    def _private(self, row: Row) -> Ed25519PrivateKey | None:
        key: UUID = row["id"]
        if key not in self._opened:
            try:
                secret = self._ring.open(row["sealed_private_key"], sealed_purpose(key))
            except KeyRingError as error:
                self._log.error("a key of the audit log does not open", key=str(key), reason=str(error))
                return None
            self._opened[key] = Ed25519PrivateKey.from_private_bytes(secret)
        return self._opened[key]


def signers(ring: Opens) -> Callable[[Connection, str], Awaitable[Sequence[Signer]]]:
    """What the sequencer asks: the keys of the log that sign now."""
    opener = Opener(ring)

    async def now(connection: Connection, origin: str) -> Sequence[Signer]:
        keys = log_keys(await connection.fetch(KEYS.sql, *KEYS.arguments({})))
        return opener.signers(origin, [row for row in keys.own if not row["over"]])

    return now


async def has_key_work(database: Database) -> bool:
    """Whether the log has no key that signs without an end, or one to put away."""
    keys = await kept_keys(database.fetch)
    goes_on = any(row["not_after"] is None and row["sealed_private_key"] for row in keys.own)
    return not goes_on or any(row["over"] and row["sealed_private_key"] for row in keys.own)


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

    async def was_signed(self, unit: Unit) -> bool:
        """Whether there is a checkpoint, so that what comes needs to be vouched for."""
        row = await unit.read(_SIGNED)
        return row is not None and bool(row["there"])

    async def kept(self, unit: Unit) -> LogKeys:
        """All that are kept, as rows of ``server.repositories.vouching``."""
        return await kept_keys(reading(unit))

    async def get(self, unit: Unit, key: UUID) -> Row:
        """A key of the log. Raises ``NotFound``, for one that merely stands among them as well."""
        row = await super().get(unit, key)
        if key not in {own["id"] for own in (await self.kept(unit)).own}:
            raise NotFound
        return row

    async def search(self, unit: Unit, querier: Querier) -> BaseModel:
        """Of the log's keys alone."""
        own = bindparam("own", [row["id"] for row in (await self.kept(unit)).own], type_=ARRAY(Uuid))
        visible: Select[Any] = select(*self._columns).where(self.table.c.id == any_(own))
        statement = SearchStatement(querier.shape, visible, self.field, self.table.c.id)
        shown: type[Page[Any]] = unit.permit.action.spec.output  # type: ignore[assignment]
        return await page_of(unit, statement, querier, shown, dict)

    async def step_down(self, unit: Unit, key: UUID, at: datetime) -> None:
        """Let a key that signs without an end sign until ``at``."""
        await unit.write(_STEP_DOWN, id=key, at=at)

    async def put_away(self, unit: Unit) -> Row | None:
        """Take the private half of what signs no more; returns the ``id`` of one."""
        return await unit.write(_PUT_AWAY)
