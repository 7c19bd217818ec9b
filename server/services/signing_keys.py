"""The rules of signing keys: one signs, there is always one, and what signs no more has lost its private half."""

from base64 import urlsafe_b64encode
from collections.abc import Mapping, Set
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel

from actions.entities.signing_key import RENEW, ROTATE, SPECS, SigningKey
from actions.hooks import FieldChange
from actions.processor import Given, Handler
from actions.vocabulary import Operation
from audit.record import new_id
from server.keyring import KeyRing
from server.repositories.database import Row
from server.repositories.signing_keys import SigningKeyRepository
from server.repositories.unit import Unit
from server.services.base import Changes, Service
from server.tokens import Terms

_OVERLAP = timedelta(minutes=1)
"""How much longer than its last token a key verifies: for clocks, and for logins that were under way."""


def sealed_purpose(key: UUID) -> str:
    """What a private key is sealed for: it opens as no other."""
    return f"signing_key:{key}"


class SigningKeyService(Service[SigningKey]):
    def __init__(self, keys: SigningKeyRepository, ring: KeyRing, terms: Terms) -> None:
        super().__init__(keys, SPECS)
        self._keys = keys
        self._ring = ring
        self._terms = terms

    def handlers(self) -> Mapping[Operation, Handler[Unit]]:
        return {**super().handlers(), ROTATE: self.rotate, RENEW: self.renew}

    async def rotate(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await self._take_turns(unit)
        return self.repository.item(unit, await self._replace(unit))

    async def renew(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await self._take_turns(unit)
        present = await self._keys.present(unit)
        if present is not None and present["created_at"] > datetime.now(UTC) - self._terms.signing_key:
            return self.repository.item(unit, await self.repository.get(unit, present["id"]))  # another was quicker
        return self.repository.item(unit, await self._replace(unit))

    async def delete(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """At once, and for good. If it is the one that signs, another signs from now on."""
        row = await self.change(unit, given, {"deleted_at": datetime.now(UTC), "sealed_private_key": b""})
        if await self._keys.present(unit) is None:
            made = await self._make(unit)
            unit.outcome.changes += (FieldChange("successor", None, str(made["id"])),)
        return self.repository.item(unit, row)

    def needs_transaction(self, values: Mapping[str, object]) -> bool:
        return True

    async def hold(self, unit: Unit, wanted: Changes) -> None:
        await self._keys.take_turns(unit)

    def stale(self, row: Row, changed: Set[str]) -> tuple[str, ...]:
        return (f"signing_key:{row['id']}",)

    async def _take_turns(self, unit: Unit) -> None:
        await unit.begin()
        await self._keys.take_turns(unit)

    async def _replace(self, unit: Unit) -> Row:
        stepped_down = await self._keys.step_down(unit, datetime.now(UTC) + self._terms.access + _OVERLAP)
        row = await self._make(unit)
        self.repository.tell_created(unit, row)
        if stepped_down is not None:
            unit.makes_stale(f"signing_key:{stepped_down}")
            unit.outcome.changes += (FieldChange("succeeds", None, str(stepped_down)),)
        return row

    async def _make(self, unit: Unit) -> Row:
        key, private = new_id(), Ed25519PrivateKey.generate()
        values = {
            "id": key,
            "public_key": urlsafe_b64encode(private.public_key().public_bytes_raw()).rstrip(b"=").decode(),
            "sealed_private_key": self._ring.seal(private.private_bytes_raw(), sealed_purpose(key)),
        }
        row = await self.repository.insert(unit, values)
        unit.makes_stale(*self.stale(row, set(values)))
        return row
