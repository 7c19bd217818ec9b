"""Role bindings: who holds which role where, perhaps until a time. Membership of a domain or project is a binding.

A binding is made in the scope that its address names, and cannot be moved. Deleting one revokes it for good.
"""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from actions.model import Input, Kept, Name, Time
from actions.query import DateTimeFilter, EnumFilter, Filter, StringFilter, UUIDFilter
from actions.standard import Standard
from actions.vocabulary import CREATE, DELETE, GET, PURGE, SEARCH, UPDATE, Controls, Entity, ScopeType, Use

ROLE_BINDING = Entity("role_binding", "role_bindings", governs=True)


class RoleBinding(Kept):
    user_id: UUID
    role: str
    scope_type: ScopeType
    scope_id: UUID | None = Field(description="Null in the admin scope.")
    expires_at: datetime | None
    granted_by: UUID | None = Field(description="Null when the system made it.")


class NewRoleBinding(Input):
    user_id: UUID
    role: Name
    expires_at: Time | None = Field(default=None, description="Not later than the grantor's own.")


class RoleBindingChange(Input):
    expires_at: Time | None = Field(default=None, description="Null: without an end.")


class RoleBindingFilter(Filter):
    id: UUIDFilter | None = None
    user_id: UUIDFilter | None = None
    role: StringFilter | None = None
    scope_type: EnumFilter[ScopeType] | None = None
    scope_id: UUIDFilter | None = None
    granted_by: UUIDFilter | None = None
    expires_at: DateTimeFilter | None = None
    created_at: DateTimeFilter | None = None
    updated_at: DateTimeFilter | None = None


ROLE_BINDINGS = Standard(
    ROLE_BINDING,
    RoleBinding,
    NewRoleBinding,
    RoleBindingChange,
    RoleBindingFilter,
    ("created_at", "updated_at", "role", "scope_type"),
    uses={"user_id": Use("user", "lookup")},
)
TAKES_OVER = Controls()
"""What somebody holds is part of the account: a role taken away, or given with its denies, shuts its holder out."""
A, D, P, U = ScopeType.ADMIN, ScopeType.DOMAIN, ScopeType.PROJECT, ScopeType.USER

SPECS = (
    *ROLE_BINDINGS.offer(CREATE, A, D, P, controls=TAKES_OVER),
    *ROLE_BINDINGS.offer(GET, A, D, P, U),
    *ROLE_BINDINGS.offer(SEARCH, A, D, P, U),
    *ROLE_BINDINGS.offer(UPDATE, A, D, P, controls=TAKES_OVER),
    *ROLE_BINDINGS.offer(DELETE, A, D, P, controls=TAKES_OVER),
    *ROLE_BINDINGS.offer(PURGE, A, D, P, controls=TAKES_OVER),
)
