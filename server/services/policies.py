"""The rules of policy versions: which one is active, and what a rollback leaves behind.

A person who activates a version by name leaves the one before it refused: the watched folder, which may still hold
that one, will not bring it back by itself.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from actions.action import ADMIN_LINEAGE, PrincipalKind
from actions.entities.policy import ACTIVATE, PUBLISH, SPECS, PolicyVersion
from actions.errors import Conflict
from actions.hooks import FieldChange
from actions.processor import Given, Offer
from actions.query import to_querier
from actions.standard import Spec
from actions.vocabulary import GET, SEARCH
from audit.record import new_id
from server.repositories.database import Row
from server.repositories.policies import PolicyRepository
from server.repositories.unit import Unit
from server.services.chosen_policy import ChosenPolicy

_ORDERS = ("created_at", "id")


class PolicyService:
    def __init__(self, policies: PolicyRepository, chosen: ChosenPolicy) -> None:
        self._policies = policies
        self._chosen = chosen
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers = {GET: self.get, SEARCH: self.search, ACTIVATE: self.activate, PUBLISH: self.publish}
        prepares = {ACTIVATE: self._usable}
        return (Offer(spec, handlers[spec.operation], prepares.get(spec.operation)) for spec in self.specs)

    async def get(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return _version(await self._policies.get(unit, given.target or ""))

    async def search(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return await self._policies.search(unit, to_querier(given.input, _ORDERS))

    async def _usable(self, given: Given[Any]) -> None:
        """A version may be older than this program, and speak of what it no longer knows."""
        try:
            await self._chosen.check(given.target or "")
        except ValueError as error:
            finding = str(error).partition("\n")[0]
            raise Conflict(f"This program cannot use that version: {finding}", reason="unusable-policy") from error

    async def activate(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await unit.begin()
        active = await self._policies.lock(unit)
        wanted = await self._policies.get(unit, given.target or "")
        if active and active != wanted["id"] and unit.permit.action.principal.kind is PrincipalKind.USER:
            await self._policies.refuse(unit, active)
        return await self._activate(unit, active, wanted["id"], given.input.reason)

    async def publish(self, unit: Unit, given: Given[Any]) -> BaseModel:
        digest = given.input.digest
        await unit.begin()
        active = await self._policies.lock(unit)
        await self._policies.store(unit, digest, given.input.files)
        if (await self._policies.get(unit, digest))["refused"]:
            raise Conflict("A rollback left this version; only activating it by name brings it back.", reason="refused")
        return await self._activate(unit, active, digest, given.input.reason)

    async def _activate(self, unit: Unit, active: str | None, digest: str, reason: str) -> BaseModel:
        unit.targets(digest, ADMIN_LINEAGE)
        unit.changes((FieldChange("active", active, digest), FieldChange("reason", None, reason)), None)
        activation = {"id": new_id(), "digest": digest, "by": unit.permit.action.principal.name, "reason": reason}
        await self._policies.activate(unit, activation)
        unit.makes_stale(f"policy:{digest}")
        return _version(await self._policies.get(unit, digest))


def _version(row: Row) -> PolicyVersion:
    return PolicyVersion.model_validate(dict(row))
