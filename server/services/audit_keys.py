"""The rules of the audit log's keys: one signs without an end, one before it for a while yet and vouches for it, and
what signs no more has lost its private half."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel

from actions.entities.audit_key import RENEW, ROTATE, SPECS, AuditKey
from actions.errors import Conflict
from actions.hooks import FieldChange
from actions.processor import Given, Handler
from actions.vocabulary import Operation
from audit.keychain import endorsement
from audit.note import Signer
from audit.record import new_id
from server.keyring import KeyRing
from server.repositories.audit_keys import AuditKeyRepository, Opener, sealed_purpose
from server.repositories.database import Row
from server.repositories.unit import Unit
from server.repositories.vouching import LogKeys
from server.services.base import Service

OVERLAP = timedelta(days=7)
"""How long a key that was succeeded signs along: time for whoever checks the log to hear of the new one."""


class AuditKeyService(Service[AuditKey]):
    def __init__(self, keys: AuditKeyRepository, ring: KeyRing) -> None:
        super().__init__(keys, SPECS)
        self._keys = keys
        self._ring = ring
        self._opener = Opener(ring)

    def handlers(self) -> Mapping[Operation, Handler[Unit]]:
        return {**super().handlers(), ROTATE: self.rotate, RENEW: self.renew}

    async def rotate(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await self._take_turns(unit)
        return await self._succeed(unit, await self._keys.kept(unit))

    async def renew(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await self._take_turns(unit)
        keys = await self._keys.kept(unit)
        going_on = [row for row in keys.own if row["not_after"] is None and row["sealed_private_key"]]
        if not going_on:  # before any is put away: it has to vouch for the next
            return await self._succeed(unit, keys)
        if (away := await self._keys.put_away(unit)) is not None:
            unit.outcome.changes += (FieldChange("put_away", None, str(away["id"])),)
        return self.repository.item(unit, await self.repository.get(unit, going_on[-1]["id"]))

    async def _succeed(self, unit: Unit, keys: LogKeys) -> BaseModel:
        """Make another key, which those before it vouch for. Raises ``Conflict`` where none of them can."""
        row = await self._make(unit, keys)
        self.repository.tell_created(unit, row)
        for succeeded in keys.own:
            if succeeded["not_after"] is None:
                await self._keys.step_down(unit, succeeded["id"], datetime.now(UTC) + OVERLAP)
                unit.outcome.changes += (FieldChange("succeeds", None, str(succeeded["id"])),)
        return self.repository.item(unit, row)

    async def _take_turns(self, unit: Unit) -> None:
        await unit.begin()
        await self._keys.take_turns(unit)

    async def _make(self, unit: Unit, keys: LogKeys) -> Row:
        key, private, origin = new_id(), Ed25519PrivateKey.generate(), await self._keys.origin(unit)
        verifier = Signer(origin, private).verifier
        vouching = self._opener.signers(origin, keys.own)
        if not vouching and await self._keys.was_signed(unit):
            raise Conflict(
                "None of the log's keys can be opened, so none can vouch for another one.", reason="no-key-opens"
            )
        values = {
            "id": key,
            "public_key": str(verifier),
            "sealed_private_key": self._ring.seal(private.private_bytes_raw(), sealed_purpose(key)),
            "endorsement": endorsement(verifier, vouching) if vouching else None,
        }
        return await self.repository.insert(unit, values)
