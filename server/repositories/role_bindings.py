"""Role bindings in the database. A binding lies in the scope it is held in; its user sees it too."""

from typing import Any

from sqlalchemy import ColumnElement, case

from actions.entities.role_binding import ROLE_BINDINGS, RoleBinding
from actions.vocabulary import ScopeType
from server.repositories.base import Repository
from server.repositories.rows import role_bindings


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
            expressions={"scope_id": scope_id},
        )
