"""Who holds which roles where, as classes of users who hold the same: what the users touched by a change are told from.

The database counts; a class is a row, however many users are in it.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Select, Text, and_, any_, bindparam, case, func, or_, select, union_all
from sqlalchemy.dialects.postgresql import aggregate_order_by

from actions.authorization.touched import FIRST, Holders, Point
from actions.directory import OWNER
from actions.vocabulary import ScopeType
from server.repositories.database import Query, Row
from server.repositories.rows import domains, projects, role_bindings, users
from server.repositories.unit import Unit

_binding, _ROLES = role_bindings.c, bindparam("roles", type_=ARRAY(Text))
_somebody = (
    select(users.c.id, users.c.domain_id)
    .join(domains, users.c.domain_id == domains.c.id)
    .where(
        users.c.deleted_at.is_(None),
        domains.c.deleted_at.is_(None),
        or_(
            any_(_ROLES) == OWNER,
            users.c.id.in_(
                select(_binding.user_id).where(_binding.deleted_at.is_(None), _binding.role == any_(_ROLES))
            ),
        ),
    )
    .cte("somebody")
)
"""Every user who may hold one of the roles, and is not deleted, nor is its domain."""
_held = (
    select(_binding.user_id, _binding.role, _binding.scope_type, _binding.domain_id, _binding.project_id)
    .join(_somebody, _somebody.c.id == _binding.user_id)
    .outerjoin(domains, domains.c.id == _binding.domain_id)
    .outerjoin(projects, projects.c.id == _binding.project_id)
    .where(
        _binding.deleted_at.is_(None),
        or_(_binding.expires_at.is_(None), _binding.expires_at > func.now()),
        domains.c.deleted_at.is_(None),
        projects.c.deleted_at.is_(None),
    )
    .cte("held")
)
"""All that they hold now, in scopes where anything is decided: those that are not deleted."""
