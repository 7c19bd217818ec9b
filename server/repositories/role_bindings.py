"""Role bindings in the database. A binding lies in the scope it is held in.

In a user's scope the user sees all of its own bindings; whoever looks in from above sees those of the user's domain.
"""

from typing import Any

from sqlalchemy import ColumnElement, case, select

from actions.entities.role_binding import ROLE_BINDINGS, RoleBinding
from actions.vocabulary import ScopeType
from server.repositories.base import SCOPE, Repository
from server.repositories.rows import role_bindings, users


class RoleBindingRepository(Repository[RoleBinding]):
    def __init__(self) -> None:
        table = role_bindings.c
        scope_id: ColumnElement[Any] = case(
            (table.scope_type == ScopeType.PROJECT.value, table.project_id), else_=table.domain_id
        )
        super().__init__(
            ROLE_BINDINGS,
            RoleBinding,
            role_bindings,
            {ScopeType.USER: table.user_id, ScopeType.PROJECT: table.project_id, ScopeType.DOMAIN: table.domain_id},
            owns={
                ScopeType.USER: (table.user_id == SCOPE)
                & (table.domain_id == select(users.c.domain_id).where(users.c.id == SCOPE).scalar_subquery())
            },
            sees={ScopeType.USER: table.user_id == SCOPE},
            expressions={"scope_id": scope_id},
        )
