"""The keyed hash of a value that somebody asks for. It needs no row, and leaves nothing behind but its own record."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from actions.entities.audit_hash import SPECS, HashedValue
from actions.processor import Given, Offer
from actions.standard import Spec
from audit.keyed import KeyedHashes
from server.keyring import HASHES, KeyRing
from server.repositories.unit import Unit


class AuditHashService:
    def __init__(self, ring: KeyRing) -> None:
        self._hashes = KeyedHashes(ring.derived(HASHES))
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        return (Offer(spec, self.hash) for spec in self.specs)

    async def hash(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return HashedValue(hash=self._hashes.of(given.input.value.get_secret_value()))
