"""Erasing what the log says of a person: their key goes, and every record of them stays as it was, to the byte."""

import os
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from actions.action import ADMIN_SCOPE, Lineage
from actions.entities.audit_subject import ERASE, SPECS, AuditSubject
from actions.errors import Conflict, NotFound
from actions.hooks import FieldChange
from actions.processor import Given, Offer
from actions.standard import Spec
from actions.vocabulary import GET
from audit.redaction import KEY_BYTES, NOBODY
from server.keyring import KeyRing
from server.repositories.audit_subjects import AuditSubjectRepository
from server.repositories.database import Row
from server.repositories.subject_keys import sealed_purpose
from server.repositories.unit import Unit


class AuditSubjectService:
    def __init__(self, subjects: AuditSubjectRepository, ring: KeyRing) -> None:
        self._subjects = subjects
        self._ring = ring
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers = {GET: self.get, ERASE: self.erase}
        return (Offer(spec, handlers[spec.operation]) for spec in self.specs)

    async def get(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return AuditSubject(**await self._found(unit, given.target_id))

    async def erase(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """A person's key goes. That of callers without an identity is replaced: they go on calling."""
        subject = given.target_id
        await unit.begin()
        row = await self._found(unit, subject)
        if not row["readable"]:
            raise Conflict("It is erased already.", reason="erased")
        if subject == NOBODY:
            erased = await self._subjects.replace(unit, subject, self._new_key())
        else:
            if await self._subjects.is_user(unit, subject):
                # Whatever is done with or by a user who is there would be sealed again.
                raise Conflict("This user is there still. Delete and purge it first.", reason="user-exists")
            erased = await self._subjects.erase(unit, subject)
        assert erased is not None  # it is locked  # noqa: S101
        unit.changes((FieldChange("erased_at", row["erased_at"], erased["erased_at"]),), None)
        return AuditSubject(**erased)

    async def _found(self, unit: Unit, subject: UUID) -> Row:
        row = await self._subjects.get(unit, subject)
        if row is None:
            raise NotFound
        unit.targets(subject, Lineage((ADMIN_SCOPE,)))
        return row

    def _new_key(self) -> bytes:
        return self._ring.seal(os.urandom(KEY_BYTES), sealed_purpose(NOBODY))
