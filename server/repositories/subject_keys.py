"""The keys that personal data in the audit log is sealed under: one a person, wrapped by the key ring."""

import os
from typing import Protocol
from uuid import UUID

from sqlalchemy import Uuid, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from audit.redaction import KEY_BYTES
from server.repositories.database import Database, Query
from server.repositories.rows import subject_keys

_READ = Query(select(subject_keys.c.wrapped).where(subject_keys.c.subject_id == bindparam("subject", type_=Uuid)))
_MAKE = Query(
    insert(subject_keys)
    .values(subject_id=bindparam("subject", type_=Uuid), wrapped=bindparam("wrapped"))
    .on_conflict_do_nothing()
)


class Wraps(Protocol):
    def seal(self, plaintext: bytes, purpose: str) -> bytes: ...
    def open(self, sealed: bytes, purpose: str) -> bytes: ...


def sealed_purpose(subject: UUID) -> str:
    """What the key ring binds a subject's wrapped key to."""
    return f"subject:{subject}"


class SubjectKeys:
    """Implements ``audit.redaction.SubjectKeyStore``."""

    def __init__(self, database: Database, ring: Wraps) -> None:
        self._database = database
        self._ring = ring

    async def subject_key(self, subject: UUID) -> bytes:
        purpose = sealed_purpose(subject)
        row = await self._database.fetchrow(_READ, {"subject": subject})
        if row is None:
            wrapped = self._ring.seal(os.urandom(KEY_BYTES), purpose)
            await self._database.fetch(_MAKE, {"subject": subject, "wrapped": wrapped})
            row = await self._database.fetchrow(_READ, {"subject": subject})
        if row is None:
            raise RuntimeError("a subject's key vanished while it was being made")
        return self._ring.open(row["wrapped"], purpose)
