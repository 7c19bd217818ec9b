"""The rules of users: membership comes with creation, the last superadmin stays, passwords never leave."""

from collections.abc import Collection, Mapping, Set
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from actions.action import ADMIN_SCOPE, Lineage, Scope
from actions.entities import ALL_SPECS
from actions.entities.user import (
    CHANGE_PASSWORD,
    CHECK,
    LOOKUP,
    RESET_PASSWORD,
    SPECS,
    WHOAMI,
    AllowedActions,
    Authorized,
    HeldRole,
    Identity,
    User,
    UserStatus,
)
from actions.errors import Conflict, Fault, Invalid, NotFound
from actions.hooks import FieldChange
from actions.processor import Given, Handler, Prepare
from actions.query import Condition, Order, Querier
from actions.vocabulary import CREATE, Operation, ScopeType
from audit.record import new_id
from server.passwords import Passwords
from server.repositories.database import Row
from server.repositories.logins import LoginRepository
from server.repositories.role_bindings import RoleBindingRepository
from server.repositories.unit import Unit
from server.repositories.users import UserRepository
from server.services.base import Changes, Service

MEMBER = "domain_member"
_NAMESAKES = 10
"""So many users of one name in different domains, or of one address in different cases, are looked at."""
_IN_OR_OUT = frozenset({"status", "deleted_at"})
"""What decides whether a user gets in at all."""


class UserService(Service[User]):
    def __init__(
        self, users: UserRepository, bindings: RoleBindingRepository, logins: LoginRepository, passwords: Passwords
    ) -> None:
        super().__init__(users, SPECS)
        self._users = users
        self._bindings = bindings
        self._logins = logins
        self._passwords = passwords

    def handlers(self) -> Mapping[Operation, Handler[Unit]]:
        return {
            **super().handlers(),
            RESET_PASSWORD: self.reset_password,
            CHANGE_PASSWORD: self.change_password,
            WHOAMI: self.whoami,
            CHECK: self.check,
            LOOKUP: self.lookup,
        }

    def preparations(self) -> Mapping[Operation, Prepare]:
        """Hashing is slow on purpose, so it is done before a unit of work opens."""

        def hashing(field: str) -> Prepare:
            async def prepare(given: Given[Any]) -> str:
                return await self._passwords.hash(getattr(given.input, field).get_secret_value())

            return prepare

        return {
            CREATE: hashing("password"),
            RESET_PASSWORD: hashing("password"),
            CHANGE_PASSWORD: hashing("new_password"),
        }

    def values(self, unit: Unit, given: Given[Any]) -> Mapping[str, object]:
        values = {**super().values(unit, given), "password_hash": given.prepared}
        del values["password"]
        return values

    async def after_create(self, unit: Unit, row: Row) -> None:
        """Membership of the domain is a binding, made in the same transaction and under law 5."""
        home = Lineage((Scope(ScopeType.DOMAIN, row["domain_id"]), ADMIN_SCOPE))
        unit.require_grant(MEMBER, home, None)
        binding = {
            "id": new_id(),
            "user_id": row["id"],
            "role": MEMBER,
            "scope_type": ScopeType.DOMAIN.value,
            "domain_id": row["domain_id"],
            "granted_by": unit.permit.action.principal.id,
        }
        await self._bindings.insert(unit, binding)
        unit.outcome.changes += (FieldChange("role", None, MEMBER),)

    def needs_transaction(self, values: Mapping[str, object]) -> bool:
        return bool((_IN_OR_OUT | {"password_hash"}) & values.keys())

    async def hold(self, unit: Unit, wanted: Changes) -> None:
        if any(_IN_OR_OUT & values.keys() for values in wanted.values()):
            await self._users.guard_superadmins(unit)

    async def after_change(self, unit: Unit, row: Row) -> None:
        if _IN_OR_OUT & unit.changed and (row["deleted"] or row["status"] != UserStatus.ACTIVE):
            await self._users.keep_a_superadmin(unit)
            await self.end_logins(unit, row["id"])

    async def end_logins(self, unit: Unit, user: UUID) -> None:
        """End a user's logins, that of the request itself apart: whoever knew the old password may be in there."""
        if ended := await self._logins.end_all(unit, user, unit.permit.action.principal.login):
            unit.outcome.changes += (FieldChange("logins_ended", None, ended),)
        unit.makes_stale(f"user:{user}")

    async def hold_belongings(self, unit: Unit, keys: Collection[UUID]) -> None:
        await self._users.hold_belongings(unit, keys)
        await self._logins.hold_all(unit, keys)

    async def hold_affected(self, unit: Unit, wanted: Changes) -> None:
        """The logins that end with their users."""
        if leaving := [key for key, values in wanted.items() if _IN_OR_OUT & values.keys()]:
            await self._logins.hold_all(unit, leaving)

    async def before_purge(self, unit: Unit, row: Row) -> None:
        unit.makes_stale(*(f"credential:{key}" for key in await self._users.access_keys(unit, row["id"])))
        await self._users.purge_belongings(unit, row["id"])

    def stale(self, row: Row, changed: Set[str]) -> tuple[str, ...]:
        if not {"status", "deleted_at", "allowed_client_ip"} & changed:
            return ()
        return (f"user:{row['id']}", f"bindings:{row['id']}")

    async def reset_password(self, unit: Unit, given: Given[Any]) -> BaseModel:
        values = {
            "password_hash": given.prepared,
            "password_changed_at": datetime.now(UTC),
            "need_password_change": True,
        }
        row = await self.change(unit, given, values)
        await self.end_logins(unit, row["id"])
        return self.repository.item(unit, row)

    async def change_password(self, unit: Unit, given: Given[Any]) -> BaseModel:
        stored = await self._users.password_hash(unit, given.target_id)
        if not await self._passwords.verify(stored, given.input.old_password.get_secret_value()):
            raise Invalid(
                "The old password is wrong.", reason="wrong-password", errors=[Fault("/old_password", "is wrong")]
            )
        # Checking is slow and done with no transaction open, so what was checked is held to what is there now.
        await unit.begin()
        await self.repository.own(unit, given.target_id)
        if await self._users.password_hash(unit, given.target_id) != stored:
            raise Conflict("The password is being changed just now.", reason="version-clash")
        values = {
            "password_hash": given.prepared,
            "password_changed_at": datetime.now(UTC),
            "need_password_change": False,
        }
        row = await self.change(unit, given, values)
        await self.end_logins(unit, row["id"])
        return self.repository.item(unit, row)

    async def lookup(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """The one user who is known by that name or address. Of addresses that differ in case alone, the very one."""
        value = given.input.known_as
        field, operator = ("email", "i_equals") if "@" in value else ("username", "equals")
        querier = Querier((Condition(field, operator, value),), (Order("created_at"),), limit=_NAMESAKES)
        found = await self.repository.find(unit, querier)
        found = [row for row in found if row[field] == value] or found
        if not found:
            raise NotFound
        if len(found) > 1:
            raise Conflict(
                "Several users are known by that. Give it letter for letter, in the scope of a domain.",
                reason="ambiguous",
            )
        unit.targets(found[0]["id"], self.repository.lineage(found[0]))
        return self.repository.item(unit, found[0])

    async def check(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return Authorized(echo=given.input.echo)

    async def whoami(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """Who the caller is. Asked in another user's scope it names nobody: the standing at hand is the caller's."""
        if given.target_id != unit.permit.action.principal.id:
            raise NotFound
        row = await self.repository.get(unit, given.target_id)
        standing, principal = unit.permit.authority, unit.permit.action.principal
        places: dict[Scope, Lineage] = {unit.permit.lineage.scope: unit.permit.lineage}
        for binding in standing.live:
            if not await unit.is_deleted(binding.lineage.scope):
                places.setdefault(binding.lineage.scope, binding.lineage)
        return Identity(
            id=row["id"],
            username=row["username"],
            access_key=None if principal.login else principal.credential,
            login_id=principal.login,
            domain_id=row["domain_id"],
            bindings=[
                HeldRole(role=held.role, expires_at=held.expires_at, **_scope(held.lineage.scope))
                for held in standing.live
            ],
            allowed=[
                AllowedActions(actions=_names(standing.allowed(lineage)), **_scope(lineage.scope))
                for lineage in places.values()
            ],
        )


def _scope(scope: Scope) -> dict[str, Any]:
    return {"scope_type": scope.type, "scope_id": scope.id}


def _names(permissions: frozenset[object]) -> list[str]:
    return [spec.name for spec in ALL_SPECS if spec.permission in permissions and not spec.internal]
