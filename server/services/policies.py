"""The rules of policy versions: which one is active, what a rollback leaves behind, and when a folder is listened to.

A rollback leaves the version before it refused: a folder that still holds it, or holds it again, will not bring it
back by itself. Nor does a folder bring back what others have followed, unless it held the active version just before.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from actions.action import ADMIN_LINEAGE
from actions.authorization.signing import NotSigned, is_signature
from actions.authorization.source import PolicySource
from actions.entities.policy import (
    ACTIVATE,
    FILES,
    HISTORY,
    PUBLISH,
    ROLLBACK,
    SPECS,
    ActivationKind,
    PolicyVersion,
    StoredFiles,
)
from actions.errors import Conflict, Fault, Invalid, NotFound
from actions.hooks import FieldChange
from actions.processor import Given, Offer
from actions.query import to_querier
from actions.standard import Spec
from actions.vocabulary import CREATE, GET, SEARCH
from audit.record import new_id
from server.repositories.database import Row
from server.repositories.policies import PolicyRepository
from server.repositories.unit import Unit
from server.services.chosen_policy import compiled
from server.services.policy_gate import PolicyGate

_ORDERS = ("created_at", "id")


class PolicyService:
    def __init__(self, policies: PolicyRepository, gate: PolicyGate) -> None:
        self._policies = policies
        self._gate = gate
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers = {
            CREATE: self.create,
            GET: self.get,
            SEARCH: self.search,
            ACTIVATE: self.activate,
            ROLLBACK: self.rollback,
            FILES: self.files,
            HISTORY: self.history,
            PUBLISH: self.publish,
        }
        prepares = {CREATE: self._checked, ACTIVATE: self._admitted, ROLLBACK: self._way_back}
        return (Offer(spec, handlers[spec.operation], prepares.get(spec.operation)) for spec in self.specs)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def get(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return _version(await self._policies.get(unit, given.target or ""))

    async def search(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return await self._policies.search(unit, to_querier(given.input, _ORDERS))

    async def files(self, unit: Unit, given: Given[Any]) -> BaseModel:
        row = await self._policies.files(unit, given.target or "")
        return StoredFiles(id=given.target or "", files=row["files"], signature=row["signature"])

    async def history(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return await self._policies.history(unit, given.input)

    # -- storing ------------------------------------------------------------------------------------------------------

    async def _checked(self, given: Given[Any]) -> tuple[PolicySource, str | None]:
        """The files as a source, with whose signature they bear. Raises ``Invalid`` for what could not go live."""
        files = {name: text.encode() for name, text in given.input.files.items()}
        source = PolicySource(files, given.input.signature)
        try:
            signer = self._gate.trusted.signer(source.digest, source.signature)
        except NotSigned as error:
            told = "The policy is not signed as this server wants it."
            raise Invalid(told, reason="unsigned", errors=[Fault("/signature", str(error))]) from error
        await compiled(source, "/files")
        try:
            await self._gate.check(source)
        except ValueError as error:
            faults = [Fault("/files", line[:500]) for line in str(error).splitlines()[:20]]
            told = "The policy does not pass its check."
            raise Invalid(told, reason="unusable-policy", errors=faults) from error
        return source, signer

    async def create(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """The same files are the same version: it is there already, and may have come by a better signature."""
        asked, prepared = given.input, given.prepared
        assert isinstance(prepared, tuple)  # by ``_checked``  # noqa: S101
        source, signer = prepared
        await unit.begin()
        unit.targets(source.digest, ADMIN_LINEAGE)
        stored = await self._policies.store(
            unit,
            source.digest,
            asked.files,
            signature=asked.signature,
            signed_by=signer,
            uploaded_by=unit.permit.action.principal.name,
            upload_reason=asked.reason,
        )
        if stored:
            told = (("files", sorted(asked.files)), ("signed_by", signer), ("reason", asked.reason))
            unit.changes(tuple(FieldChange(name, None, new) for name, new in told if new is not None), None)
        return _version(await self._policies.get(unit, source.digest))

    # -- moving the pointer -------------------------------------------------------------------------------------------

    async def _admitted(self, given: Given[Any]) -> None:
        await self._gate.admit(given.target or "")

    async def activate(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await unit.begin()
        active = await self._policies.lock(unit)
        wanted = await self._policies.get(unit, given.target or "")
        return await self._activate(unit, active, wanted["id"], ActivationKind.ACTIVATED, given.input.reason)

    async def _way_back(self, given: Given[Any]) -> str:
        """The version that a rollback leads to. Raises ``Conflict`` where there is none, or none that may decide."""
        digest = given.input.to or await self._gate.before()
        if digest is None:
            told = "No version was active before the present one that is not refused."
            raise Conflict(told, reason="nothing-before")
        try:
            await self._gate.admit(digest)
        except NotFound:
            told = "There is no such policy version."
            raise Invalid(told, reason="unknown-version", errors=[Fault("/to", "names no stored version")]) from None
        return digest

    async def rollback(self, unit: Unit, given: Given[Any]) -> BaseModel:
        wanted = str(given.prepared)
        await unit.begin()
        active = await self._policies.lock(unit)
        if given.input.to is None and await self._policies.before(unit) != wanted:
            raise Conflict("Another version has become active meanwhile. Look again.", reason="moved")
        if active is None or not await self._policies.was_before(unit, wanted):
            told = "That version was not active before the present one. It can be activated by name."
            raise Conflict(told, reason="not-before")
        await self._policies.refuse(unit, active)
        return await self._activate(unit, active, wanted, ActivationKind.ROLLED_BACK, given.input.reason)

    async def publish(self, unit: Unit, given: Given[Any]) -> BaseModel:
        asked = given.input
        signer = self._gate.signer(asked.digest, asked.signature)
        signature = asked.signature if asked.signature and is_signature(asked.signature) else None
        await unit.begin()
        active = await self._policies.lock(unit)
        unit.targets(asked.digest, ADMIN_LINEAGE)
        await self._policies.store(unit, asked.digest, asked.files, signature=signature, signed_by=signer)
        version = await self._policies.get(unit, asked.digest)
        if asked.digest == active:
            return _version(version)  # another server's folder was quicker
        if version["refused"]:
            raise Conflict("A rollback left this version; only activating it by name brings it back.", reason="refused")
        if version["activated_at"] is not None and active != asked.before:
            told = (
                "Other versions have followed this one, and the folder did not hold the active one before; only "
                "activating it by name brings it back."
            )
            raise Conflict(told, reason="superseded")
        return await self._activate(unit, active, asked.digest, ActivationKind.PUBLISHED, asked.reason)

    async def _activate(
        self, unit: Unit, active: str | None, digest: str, kind: ActivationKind, reason: str
    ) -> BaseModel:
        unit.targets(digest, ADMIN_LINEAGE)
        unit.changes((FieldChange("active", active, digest), FieldChange("reason", None, reason)), None)
        by = unit.permit.action.principal.name
        activation = {"id": new_id(), "digest": digest, "by": by, "reason": reason, "kind": kind.value}
        await self._policies.activate(unit, activation)
        unit.makes_stale(f"policy:{digest}")
        return _version(await self._policies.get(unit, digest))


def _version(row: Row) -> PolicyVersion:
    return PolicyVersion.model_validate(dict(row))
