"""Whom a rule is about: the state of one user, and how many others hold some roles. It decides nothing."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, and_, any_, bindparam, cast, func, literal, select, union
from sqlalchemy.dialects.postgresql import aggregate_order_by

from actions.action import Lineage
from actions.authorization.grants import Holders
from actions.directory import OWNER
from actions.vocabulary import ScopeType
from server.repositories.database import Query, Row
from server.repositories.in_force import BOUND, MAY_SIGN_IN, PEOPLE, counts_in, holds
from server.repositories.rows import role_bindings, users
from server.repositories.unit import Unit

FIRST = 5
"""How many of those who hold some roles are named."""
_DOMAIN, _PROJECT = bindparam("domain", type_=Uuid), bindparam("project", type_=Uuid)
_ROLES, _BUT = bindparam("roles", type_=ARRAY(Text)), bindparam("but", type_=Uuid)
_OWNER = bindparam("owner", type_=Uuid)
_OTHERS = and_(MAY_SIGN_IN, users.c.id.is_distinct_from(_BUT))
_HELD = holds(role_bindings.c)
_COUNTS_HERE = counts_in(role_bindings.c, _DOMAIN, _PROJECT)
_counting = union(
    select(role_bindings.c.user_id, role_bindings.c.role).select_from(BOUND).where(_HELD, _COUNTS_HERE, _OTHERS),
    select(users.c.id, cast(literal(OWNER), Text)).select_from(PEOPLE).where(users.c.id == _OWNER, _OTHERS),
).subquery("counting")
_roles_of_one = func.array_agg(aggregate_order_by(_counting.c.role, _counting.c.role), type_=ARRAY(Text))
_each = (
    select(_counting.c.user_id, _roles_of_one.label("roles"))
    .group_by(_counting.c.user_id)
    .having(_roles_of_one.op("&&")(_ROLES))
    .subquery("each")
)
_users_alike = func.array_agg(aggregate_order_by(_each.c.user_id, _each.c.user_id), type_=ARRAY(Uuid))
_HOLDERS_HERE = Query(
    select(_each.c.roles, func.count().label("users"), _users_alike[1:FIRST].label("first"))
    .group_by(_each.c.roles)
    .order_by(_each.c.roles)
)
_HOLDERS_ANYWHERE = Query(
    select(func.count(func.distinct(role_bindings.c.user_id)).label("total"))
    .select_from(BOUND)
    .where(role_bindings.c.role == any_(_ROLES), _HELD, _OTHERS)
)
_EVERYBODY = Query(select(func.count().label("total")).select_from(PEOPLE).where(_OTHERS))
_STATUS = Query(select(users.c.status).where(users.c.id == bindparam("user", type_=Uuid)))


class PolicyPeopleRepository:
    async def status(self, unit: Unit, user: UUID) -> str | None:
        """Whether a user is active, or what else; None: there is no such user."""
        row = await unit.read(_STATUS, user=user)
        return row["status"] if row else None

    async def holders_here(
        self, unit: Unit, roles: Sequence[str], lineage: Lineage, but: UUID | None, now: datetime
    ) -> list[Holders]:
        """Users in force for whom one of these roles counts in a scope, by all the roles that count for them there."""
        found = await unit.read_all(
            _HOLDERS_HERE,
            roles=list(roles),
            domain=lineage.id_of(ScopeType.DOMAIN),
            project=lineage.id_of(ScopeType.PROJECT),
            owner=lineage.id_of(ScopeType.USER),
            but=but,
            now=now,
        )
        return [Holders(frozenset(row["roles"]), row["users"], tuple(row["first"])) for row in found]

    async def holders_anywhere(self, unit: Unit, roles: Sequence[str], but: UUID | None, now: datetime) -> int:
        """How many users in force hold one of these roles in some scope. Everybody is an owner."""
        if OWNER in roles:
            return _total(await unit.read(_EVERYBODY, but=but))
        return _total(await unit.read(_HOLDERS_ANYWHERE, roles=list(roles), but=but, now=now))


def _total(row: Row | None) -> int:
    return int(row["total"]) if row else 0
