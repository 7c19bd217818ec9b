"""The rules of key pairs: secrets are made here, shown once, and kept sealed; one key pair of a user is the default."""

import secrets
from collections.abc import Mapping, Set
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from actions.entities.keypair import ACTIVATE, DEACTIVATE, ROTATE, SPECS, TALLY, IssuedKeypair, Keypair, Tallied
from actions.processor import Given, Handler
from actions.vocabulary import Operation, ScopeType
from server.keyring import KeyRing
from server.repositories.database import Row
from server.repositories.keypairs import KeypairRepository
from server.repositories.unit import Unit
from server.services.base import Changes, Service

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def new_access_key() -> str:
    """20 letters and digits: the public name of a key pair."""
    return "AK" + "".join(secrets.choice(_LETTERS) for _ in range(18))


def new_secret_key() -> str:
    """40 characters, 240 random bits."""
    return secrets.token_urlsafe(30)


def sealed_purpose(access_key: str) -> str:
    """What a secret is sealed for: it opens for no other access key."""
    return f"keypair:{access_key}"


class KeypairService(Service[Keypair]):
    def __init__(self, keypairs: KeypairRepository, ring: KeyRing) -> None:
        super().__init__(keypairs, SPECS)
        self._keypairs = keypairs
        self._ring = ring

    def handlers(self) -> Mapping[Operation, Handler[Unit]]:
        return {
            **super().handlers(),
            ROTATE: self.rotate,
            ACTIVATE: self.activate,
            DEACTIVATE: self.deactivate,
            TALLY: self.tally,
        }

    async def create(self, unit: Unit, given: Given[Any]) -> BaseModel:
        user = unit.permit.lineage.id_of(ScopeType.USER)
        assert user is not None  # key pairs are made in a user's scope only  # noqa: S101
        await unit.require_reach(user)
        self._refuse_nulls(given)
        await unit.begin()
        if given.input.is_default:
            await self._keypairs.choosing_default(unit, user)
        access_key, secret = new_access_key(), new_secret_key()
        unit.issues("sealed_secret", "secret_key", secret)
        values = {
            "user_id": user,
            "domain_id": unit.permit.lineage.id_of(ScopeType.DOMAIN),
            "access_key": access_key,
            "sealed_secret": self._seal(access_key, secret),
            "is_default": given.input.is_default,
        }
        row = await self.insert(unit, values)
        if given.input.is_default:
            await self._keypairs.only_default(unit, user, row["id"])
        return self._issued(row, secret)

    async def rotate(self, unit: Unit, given: Given[Any]) -> BaseModel:
        secret = new_secret_key()
        row = await self.repository.own(unit, given.target_id)
        unit.issues("sealed_secret", "secret_key", secret)
        row = await self.change(unit, given, {"sealed_secret": self._seal(row["access_key"], secret)})
        return self._issued(row, secret)

    async def activate(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return self.repository.item(unit, await self.change(unit, given, {"is_active": True}))

    async def deactivate(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return self.repository.item(unit, await self.change(unit, given, {"is_active": False}))

    async def tally(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await unit.begin()
        uses = [(UUID(use.keypair_id), use.queries, use.last_used) for use in given.input.uses]
        return Tallied(keypairs=await self._keypairs.tally(unit, uses))

    def needs_transaction(self, values: Mapping[str, object]) -> bool:
        return bool(values.get("is_default"))

    async def hold(self, unit: Unit, wanted: Changes) -> None:
        """A user is held before any of its key pairs. A default that is chosen changes the one before it, too."""
        await self._keypairs.hold_users(unit, wanted.keys())

    async def after_change(self, unit: Unit, row: Row) -> None:
        if row["is_default"] and "is_default" in unit.changed:
            await self._keypairs.only_default(unit, row["user_id"], row["id"])

    def stale(self, row: Row, changed: Set[str]) -> tuple[str, ...]:
        return (f"credential:{row['access_key']}",)

    def _seal(self, access_key: str, secret: str) -> bytes:
        return self._ring.seal(secret.encode(), sealed_purpose(access_key))

    def _issued(self, row: Row, secret: str) -> BaseModel:
        return IssuedKeypair.model_validate({**row, "secret_key": secret})
