"""The rules of role bindings: no one grants more than they hold, nor for longer; the last superadmin's stays."""

from collections.abc import Mapping, Set
from datetime import UTC, datetime
from typing import Any

from actions.action import Lineage
from actions.directory import SUPERADMIN
from actions.entities.role_binding import SPECS, RoleBinding
from actions.errors import Denied, Fault, Invalid
from actions.processor import Given
from actions.vocabulary import ScopeType
from server.repositories.database import Row
from server.repositories.role_bindings import RoleBindingRepository
from server.repositories.unit import Unit
from server.repositories.users import UserRepository
from server.services.base import Service


class RoleBindingService(Service[RoleBinding]):
    def __init__(self, bindings: RoleBindingRepository, users: UserRepository) -> None:
        super().__init__(bindings, SPECS)
        self._users = users

    def values(self, unit: Unit, given: Given[Any]) -> Mapping[str, object]:
        """A binding is made in the scope that the address names."""
        lineage, wanted = unit.permit.lineage, given.input
        _refuse_past(wanted.expires_at)
        unit.require_grant(wanted.role, lineage, wanted.expires_at)
        return {
            **super().values(unit, given),
            "scope_type": lineage.scope.type.value,
            "granted_by": unit.permit.action.principal.id,
        }

    def needs_transaction(self, values: Mapping[str, object]) -> bool:
        return bool(values)

    async def before_change(self, unit: Unit, row: Row, values: Mapping[str, object]) -> None:
        if "expires_at" in values:
            until = values["expires_at"]
            assert until is None or isinstance(until, datetime)  # the input model saw to it  # noqa: S101
            _refuse_past(until)
            unit.require_grant(row["role"], self.lies_within(row), until)
        if unit.in_transaction and row["role"] == SUPERADMIN:
            await self._users.guard_superadmins(unit)

    async def after_change(self, unit: Unit, row: Row) -> None:
        if row["role"] == SUPERADMIN:
            await self._users.keep_a_superadmin(unit)

    async def after_create(self, unit: Unit, row: Row) -> None:
        await self._guard_account(unit, row, frozenset())

    async def _guard_account(self, unit: Unit, row: Row, changed: frozenset[str]) -> None:
        """Law 5: what somebody holds in a scope is not decided by those who reach less far there; and nobody lifts a
        deny off themselves."""
        held_in = self.lies_within(row)
        await unit.require_reach(row["user_id"], over=held_in)
        own = row["user_id"] == unit.permit.action.principal.id
        if own and unit.permit.authority.grows_without(row["role"], held_in):
            raise Denied("the caller would reach further without it", "You cannot lift what holds you back.")

    def stale(self, row: Row, changed: Set[str]) -> tuple[str, ...]:
        return (f"bindings:{row['user_id']}",)

    def lies_within(self, row: Row) -> Lineage:
        """The scope that the role is held in: where the row lies, the holder's own scope apart. From somebody who is
        deleted a role can be taken, from something that is deleted not."""
        lies = self.repository.lineage(row)
        return Lineage(tuple(scope for scope in lies.scopes if scope.type is not ScopeType.USER))


def _refuse_past(moment: datetime | None) -> None:
    if moment is not None and moment <= datetime.now(UTC):
        raise Invalid("The end has passed.", reason="in-the-past", errors=[Fault("/expires_at", "lies in the past")])
