"""The port that answers where a scope lies and which roles a principal holds. Nothing else is read before a decision.

The server implements it over the database, with a cache that is trusted only while its invalidation channel is alive.
"""

from typing import Protocol
from uuid import UUID

from actions.action import ADMIN_LINEAGE, Address, Lineage, Principal, PrincipalKind, RoleBinding

SUPERADMIN = "superadmin"
OWNER = "owner"
"""Held by every user in its own user scope; never bound."""
NOBODY_YET = "anonymous"
"""Held in the admin scope by whoever has not said who it is; never bound."""

SYSTEM_BOOTSTRAP = "system_bootstrap"
SYSTEM_RECOVERY = "system_recovery"
SYSTEM_POLICY = "system_policy"
SYSTEM_SWEEPER = "system_sweeper"
SYSTEM_OPERATOR = "system_operator"
SYSTEM_ROLES = (SYSTEM_BOOTSTRAP, SYSTEM_RECOVERY, SYSTEM_POLICY, SYSTEM_SWEEPER, SYSTEM_OPERATOR)
"""Internal work is somebody (law 11): each is held, in the admin scope, by the system principal of its name."""


def implied_bindings(principal: Principal) -> tuple[RoleBinding, ...]:
    """The one binding of a principal that is no user: ``system:policy`` holds ``system_policy`` everywhere."""
    role = principal.name.replace(":", "_")
    held = (NOBODY_YET,) if principal.kind is PrincipalKind.ANONYMOUS else SYSTEM_ROLES
    return (RoleBinding(role, ADMIN_LINEAGE),) if role in held else ()


class Directory(Protocol):
    async def lineage(self, address: Address) -> Lineage | None:
        """The scope at an address and all that contain it; None when there is no such scope."""

    async def bindings(self, principal_id: UUID) -> tuple[RoleBinding, ...]:
        """Every binding a user holds, expired ones included (expiry is compared at decision time)."""

    async def locate(self, entity: str, key: str) -> Lineage | None:
        """Where a thing lies: a scope for itself, any other thing for the scope that owns it. None: no such thing."""
