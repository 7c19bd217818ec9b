"""The keys that personal data in the audit log is sealed under: one a person, wrapped by the key ring."""

import os
from collections.abc import Collection, Mapping
from typing import Protocol
from uuid import UUID

from sqlalchemy import ARRAY, LargeBinary, Uuid, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from audit.redaction import KEY_BYTES
from server.repositories.database import Database, Query
from server.repositories.rows import subject_keys

_SUBJECTS = bindparam("subjects", type_=ARRAY(Uuid))
_WRAPPED = bindparam("wrapped", type_=ARRAY(LargeBinary))
_READ = Query(
    select(subject_keys.c.subject_id, subject_keys.c.wrapped).where(subject_keys.c.subject_id == any_(_SUBJECTS))
)
_MAKE = Query(
    insert(subject_keys)
    .from_select(["subject_id", "wrapped"], select(func.unnest(_SUBJECTS), func.unnest(_WRAPPED)))
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

    async def subject_keys(self, subjects: Collection[UUID]) -> Mapping[UUID, bytes]:
        found = await self._read(subjects)
        # Made in the order of their ids: two who make the same ones at once would wait for each other.
        if missing := sorted(subject for subject in subjects if subject not in found):
            wrapped = [self._ring.seal(os.urandom(KEY_BYTES), sealed_purpose(subject)) for subject in missing]
            await self._database.fetch(_MAKE, {"subjects": missing, "wrapped": wrapped})
            found |= await self._read(missing)
        if len(found) < len(set(subjects)):
            raise RuntimeError("a subject's key vanished while it was being made")
        return {subject: self._ring.open(key, sealed_purpose(subject)) for subject, key in found.items() if key}

    async def _read(self, subjects: Collection[UUID]) -> dict[UUID, bytes]:
        rows = await self._database.fetch(_READ, {"subjects": list(subjects)})
        return {row["subject_id"]: row["wrapped"] for row in rows}
