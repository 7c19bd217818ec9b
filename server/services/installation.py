"""The installation's first start, all of it in one transaction, and the local way back in."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from actions.action import ADMIN_SCOPE, Lineage, Scope
from actions.directory import SUPERADMIN
from actions.entities.installation import BOOTSTRAP, RECOVER, RESEAL, SPECS, SWEEP, Credentials, Swept
from actions.errors import Conflict, NotFound
from actions.hooks import FieldChange
from actions.processor import Given, Offer
from actions.standard import Spec
from actions.vocabulary import ScopeType
from audit.record import new_id
from server.keyring import KeyRing
from server.passwords import Passwords
from server.repositories.installation import InstallationRepository
from server.repositories.unit import Unit
from server.services.keypairs import new_access_key, new_secret_key, sealed_purpose
from server.services.resealing import Resealing
from server.services.users import MEMBER


class InstallationService:
    def __init__(
        self, installation: InstallationRepository, passwords: Passwords, ring: KeyRing, resealing: Resealing
    ) -> None:
        self._installation = installation
        self._passwords = passwords
        self._ring = ring
        self._resealing = resealing
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        words = {BOOTSTRAP: self.bootstrap, RECOVER: self.recover, SWEEP: self.sweep, RESEAL: self._resealing.reseal}
        for spec in self.specs:
            asks_password = spec.operation in (BOOTSTRAP, RECOVER)
            yield Offer(spec, words[spec.operation], self._hash if asks_password else None)

    async def _hash(self, given: Given[Any]) -> str:
        return await self._passwords.hash(given.input.password.get_secret_value())

    async def bootstrap(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await unit.begin()
        if not await self._installation.is_empty(unit):
            raise Conflict("There are users here already.", reason="not-empty")
        domain, project, user = new_id(), new_id(), new_id()
        name = given.input.username
        await self._installation.add_domain(unit, domain)
        await self._installation.add_project(unit, project, domain)
        await self._installation.add_user(
            unit,
            id=user,
            domain_id=domain,
            username=name,
            email=f"{name}@localhost.localdomain",
            full_name="The first superadmin",
            status="active",
            password_hash=given.prepared,
        )
        await self._installation.bind(unit, new_id(), user, SUPERADMIN)
        await self._installation.bind(unit, new_id(), user, MEMBER, domain)
        return await self._issue(unit, user, domain, name)

    async def recover(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await unit.begin()
        found = await self._installation.find(unit, given.input.username)
        if found is None:
            raise NotFound("There is no user of that name.")
        await self._installation.revive(unit, found, str(given.prepared))
        await self._installation.make_superadmin(unit, new_id(), found["id"])
        unit.makes_stale(f"user:{found['id']}", f"bindings:{found['id']}", f"domain:{found['domain_id']}")
        return await self._issue(unit, found["id"], found["domain_id"], found["username"])

    async def sweep(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await unit.begin()
        signatures = await self._installation.forget_signatures(unit)
        return Swept(signatures=signatures, logins=await self._installation.clear_logins(unit))

    async def _issue(self, unit: Unit, user: UUID, domain: UUID, name: str) -> Credentials:
        access_key, secret = new_access_key(), new_secret_key()
        await self._installation.add_keypair(
            unit,
            id=new_id(),
            user_id=user,
            domain_id=domain,
            access_key=access_key,
            sealed_secret=self._ring.seal(secret.encode(), sealed_purpose(access_key)),
            is_default=False,
        )
        unit.targets(user, Lineage((Scope(ScopeType.USER, user), Scope(ScopeType.DOMAIN, domain), ADMIN_SCOPE)))
        unit.issues("sealed_secret", "secret_key", secret)
        unit.changes((FieldChange("access_key", None, access_key), FieldChange("role", None, SUPERADMIN)), user)
        return Credentials(user_id=user, username=name, access_key=access_key, secret_key=secret)
