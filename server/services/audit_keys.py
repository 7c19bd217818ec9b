"""The rules of the audit log's keys: one signs without an end, one before it for a while yet, and what signs no more
has lost its private half."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel

from actions.entities.audit_key import RENEW, ROTATE, SPECS, AuditKey
from actions.hooks import FieldChange
from actions.processor import Given, Handler
from actions.vocabulary import Operation
from audit.note import Signer
from audit.record import new_id
from server.keyring import KeyRing
from server.repositories.audit_keys import AuditKeyRepository, sealed_purpose
from server.repositories.database import Row
from server.repositories.unit import Unit
from server.services.base import Service

OVERLAP = timedelta(days=7)
"""How long a key that was succeeded signs along: time for whoever checks the log to hear of the new one."""


class AuditKeyService(Service[AuditKey]):
    def __init__(self, keys: AuditKeyRepository, ring: KeyRing) -> None:
        super().__init__(keys, SPECS)
        self._keys = keys
        self._ring = ring

    def handlers(self) -> Mapping[Operation, Handler[Unit]]:
        return {**super().handlers(), ROTATE: self.rotate, RENEW: self.renew}

    async def rotate(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await self._take_turns(unit)
        succeeded = await self._keys.step_down(unit, datetime.now(UTC) + OVERLAP)
        row = await self._make(unit)
        told = unit.outcome.changes
        self.repository.tell_created(unit, row)
        unit.outcome.changes += told
        if succeeded is not None:
            unit.outcome.changes += (FieldChange("succeeds", None, str(succeeded["id"])),)
        return self.repository.item(unit, row)

    async def renew(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await self._take_turns(unit)
        if (away := await self._keys.put_away(unit)) is not None:
            unit.outcome.changes += (FieldChange("put_away", None, str(away["id"])),)
        latest = await self._keys.latest(unit)
        if latest is None:
            return await self.rotate(unit, given)
        return self.repository.item(unit, await self.repository.get(unit, latest["id"]))

    async def _take_turns(self, unit: Unit) -> None:
        await unit.begin()
        await self._keys.take_turns(unit)

    async def _make(self, unit: Unit) -> Row:
        key, private = new_id(), Ed25519PrivateKey.generate()
        signer = Signer(await self._keys.origin(unit), private)
        values = {
            "id": key,
            "public_key": str(signer.verifier),
            "sealed_private_key": self._ring.seal(private.private_bytes_raw(), sealed_purpose(key)),
        }
        return await self.repository.insert(unit, values)
