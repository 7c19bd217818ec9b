"""Who holds which roles where, as classes of users who hold the same: what the users touched by a change are told from.

The database counts; a class is a row, however many users are in it.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    distinct,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from actions.authorization.touched import FIRST, Holders, Point
from actions.directory import OWNER
from actions.vocabulary import ScopeType
from server.repositories.database import Query
from server.repositories.in_force import MAY_SIGN_IN, PEOPLE, counts_in, holds
from server.repositories.rows import domains, projects, role_bindings, users
from server.repositories.unit import Unit

_SPACE, _COMMA = " ", ","  # in no role's name
_binding, _ROLES = role_bindings.c, bindparam("roles", type_=ARRAY(Text))
_somebody = (
    select(users.c.id, users.c.domain_id)
    .select_from(PEOPLE)
    .where(
        MAY_SIGN_IN,
        or_(
            literal(OWNER) == any_(_ROLES),
            users.c.id.in_(
                select(_binding.user_id).where(_binding.deleted_at.is_(None), _binding.role == any_(_ROLES))
            ),
        ),
    )
    .cte("somebody")
)
"""Every user in force who may hold one of the roles."""
_held = (
    select(_binding.user_id, _binding.role, _binding.scope_type, _binding.domain_id, _binding.project_id)
    .join(_somebody, _somebody.c.id == _binding.user_id)
    .outerjoin(domains, domains.c.id == _binding.domain_id)
    .outerjoin(projects, projects.c.id == _binding.project_id)
    .where(
        holds(_binding),
        domains.c.deleted_at.is_(None),
        projects.c.deleted_at.is_(None),
    )
    .cte("held")
)
"""All that they hold now, in scopes where anything is decided: those that are not deleted."""
_place = union_all(
    select(_held.c.user_id, _held.c.scope_type, _held.c.domain_id, _held.c.project_id).distinct(),
    select(_somebody.c.id, literal(ScopeType.USER.value), _somebody.c.domain_id, null()),
).cte("place")
"""Where each of them holds something, and each one's own scope."""
_counts_there: ColumnElement[bool] = and_(
    _held.c.user_id == _place.c.user_id,
    counts_in(_held.c, _place.c.domain_id, _place.c.project_id),
)
_standing = (
    select(
        _place.c.user_id,
        _place.c.scope_type,
        func.string_agg(distinct(_held.c.role), aggregate_order_by(literal(_COMMA), _held.c.role)).label("roles"),
    )
    .select_from(_place.outerjoin(_held, _counts_there))
    .group_by(_place.c.user_id, _place.c.scope_type, _place.c.domain_id, _place.c.project_id)
    .cte("standing")
)
"""The roles that count in each place: those held in it and above it."""
_point: ColumnElement[str] = _standing.c.scope_type + literal(_SPACE) + func.coalesce(_standing.c.roles, literal(""))
_user = (
    select(_standing.c.user_id, func.array_agg(distinct(_point), type_=ARRAY(Text)).label("points"))
    .group_by(_standing.c.user_id)
    .cte("standing_of_user")
)
_CLASSES = Query(
    select(
        _user.c.points,
        func.count().label("total"),
        func.array_agg(aggregate_order_by(_user.c.user_id, _user.c.user_id), type_=ARRAY(Uuid))[1:FIRST].label("first"),
    ).group_by(_user.c.points)
)


class PolicyDiffRepository:
    async def holders(self, unit: Unit, roles: Collection[str], now: datetime) -> list[Holders]:
        """Every user in force who may hold one of some roles, by what they hold now."""
        if not roles:
            return []
        rows = await unit.read_all(_CLASSES, roles=sorted(roles), now=now)
        return [Holders(frozenset(map(_point_of, row["points"])), row["total"], tuple(row["first"])) for row in rows]


def _point_of(text: str) -> Point:
    scope_type, _, roles = text.partition(_SPACE)
    held = frozenset(roles.split(_COMMA)) if roles else frozenset[str]()
    return Point(ScopeType(scope_type), held | {OWNER} if scope_type == ScopeType.USER else held)
