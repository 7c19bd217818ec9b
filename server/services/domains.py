"""The rules of domains: none is purged while anything lies in it, and none goes that holds the last superadmin."""

from collections.abc import Mapping, Set

from actions.entities.domain import SPECS, Domain
from server.repositories.database import Row
from server.repositories.domains import DomainRepository
from server.repositories.unit import Unit
from server.repositories.users import UserRepository
from server.services.base import Changes, Service


class DomainService(Service[Domain]):
    def __init__(self, domains: DomainRepository, users: UserRepository) -> None:
        super().__init__(domains, SPECS)
        self._domains = domains
        self._users = users

    def needs_transaction(self, values: Mapping[str, object]) -> bool:
        return "deleted_at" in values

    async def hold(self, unit: Unit, wanted: Changes) -> None:
        await self._users.guard_superadmins(unit)

    async def after_change(self, unit: Unit, row: Row) -> None:
        if row["deleted"]:
            await self._users.keep_a_superadmin(unit)

    async def before_purge(self, unit: Unit, row: Row) -> None:
        await self._domains.contents.refuse_any(unit, row["id"])

    def stale(self, row: Row, changed: Set[str]) -> tuple[str, ...]:
        return (f"domain:{row['id']}",) if "deleted_at" in changed or "name" in changed else ()
