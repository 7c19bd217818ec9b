"""Who holds what where, read for many at once: the people whose roles count in a scope, and the scopes in which
something is allowed to one of them.

Who may do something follows from sets of roles, which the caller has decided. So a page of a million people costs what
a page costs. Whoever cannot sign in now does nothing, whatever it holds, and is not among them.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    Integer,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    exists,
    func,
    not_,
    or_,
    select,
    union,
)

from actions.action import Lineage
from actions.authorization.analysis import Whereabouts
from actions.vocabulary import ScopeType
from server.repositories.database import Query, Row
from server.repositories.in_force import BOUND, MAY_SIGN_IN, PEOPLE, counts_in, holds
from server.repositories.rows import domains, projects, role_bindings, users
from server.repositories.unit import Unit

_AFTER, _LIMIT = bindparam("after", type_=Uuid), bindparam("limit", type_=Integer)
_DOMAIN, _PROJECT = bindparam("domain", type_=Uuid), bindparam("project", type_=Uuid)
_OWNER, _BARRED = bindparam("owner", type_=Uuid), bindparam("barred", type_=Uuid)
_BEFORE_ALL = UUID(int=0)


def _roles(name: str) -> ColumnElement[Any]:
    return any_(bindparam(name, type_=ARRAY(Text)))


def _ids(name: str) -> ColumnElement[Any]:
    return any_(bindparam(name, type_=ARRAY(Uuid)))


def _counts(held: Any) -> ColumnElement[bool]:
    """A binding that is in force, and held in a scope of the lineage: that is given by the ids of its domain and its
    project, null where it has none."""
    return and_(holds(held), counts_in(held, _DOMAIN, _PROJECT))


def _denied(user: ColumnElement[UUID]) -> ColumnElement[bool]:
    other = role_bindings.alias("other").c
    return or_(
        user.is_not_distinct_from(_BARRED),
        exists().where(other.user_id == user, other.role == _roles("denying"), _counts(other)),
    )


def _people() -> Query:
    """A page of those who hold one of some roles and none of some others, or are the owner, with all that counts."""
    held = role_bindings.c
    holders = (
        select(held.user_id.label("id"))
        .distinct()
        .select_from(BOUND)
        .where(
            _counts(held),
            or_(bindparam("any_role", type_=Boolean), held.role == _roles("roles")),
            held.user_id > _AFTER,
            MAY_SIGN_IN,
            not_(_denied(held.user_id)),
        )
        .order_by(held.user_id)
        .limit(_LIMIT)
        .subquery()
    )
    owner = (
        select(users.c.id)
        .select_from(PEOPLE)
        .where(users.c.id == _OWNER, users.c.id > _AFTER, MAY_SIGN_IN, not_(_denied(users.c.id)))
    )
    found = union(select(holders.c.id), owner).subquery("found")
    mine = role_bindings.alias("mine").c
    roles = select(func.array_agg(mine.role.distinct())).where(mine.user_id == found.c.id, _counts(mine))
    return Query(
        select(found.c.id, users.c.username, roles.scalar_subquery().label("roles"))
        .select_from(found.join(users, users.c.id == found.c.id))
        .order_by(found.c.id)
        .limit(_LIMIT)
    )


def _where(own: ColumnElement[UUID], domain: ColumnElement[UUID] | None, everywhere: bool) -> ColumnElement[bool]:
    """Whether something is allowed in a scope, of which ``Whereabouts`` tells: itself first, and then its domain. What
    is allowed in few scopes is found by their ids, and not by looking at all there are."""
    allowed, refused = own == _ids("allowed"), own == _ids("refused")
    if domain is None:
        return not_(refused) if everywhere else allowed
    if everywhere:
        return and_(not_(refused), or_(allowed, not_(domain == _ids("refused_domains"))))
    return or_(allowed, and_(domain == _ids("allowed_domains"), not_(refused)))


def _scopes(table: Table, everywhere: bool) -> Query:
    """A page of the scopes of one type, none of them deleted."""
    of_domain = None if table is domains else table.c.domain_id
    found = select(table.c.id, domains.c.name).select_from(
        domains if of_domain is None else table.join(domains, of_domain == domains.c.id)
    )
    return Query(
        found.where(
            table.c.deleted_at.is_(None),
            domains.c.deleted_at.is_(None),
            table.c.id > _AFTER,
            _where(table.c.id, of_domain, everywhere),
        )
        .order_by(table.c.id)
        .limit(_LIMIT)
    )


_SCOPES = {
    (kind, everywhere): _scopes(table, everywhere)
    for kind, table in ((ScopeType.DOMAIN, domains), (ScopeType.PROJECT, projects), (ScopeType.USER, users))
    for everywhere in (True, False)
}
_NAMED = Query(select(domains.c.id).where(domains.c.name == bindparam("name", type_=Text)))
_SIGNING_IN = Query(select(users.c.id).select_from(PEOPLE).where(users.c.id == _ids("users"), MAY_SIGN_IN))


class StandingRepository:
    def __init__(self) -> None:
        self._people = _people()

    async def people(
        self,
        unit: Unit,
        lineage: Lineage,
        now: datetime,
        *,
        roles: Collection[str] | None,
        denying: Collection[str] = (),
        owner: UUID | None = None,
        barred: UUID | None = None,
        after: UUID | None,
        limit: int,
    ) -> list[Row]:
        """The next people of whom one of ``roles`` (None: any) counts in a scope and none of ``denying``, by id: ``id,
        username, roles``, these None where none is bound. ``owner`` is one of them by itself, ``barred`` is not."""
        return await unit.read_all(
            self._people,
            now=now,
            domain=lineage.id_of(ScopeType.DOMAIN),
            project=lineage.id_of(ScopeType.PROJECT),
            any_role=roles is None,
            roles=list(roles or ()),
            denying=list(denying),
            owner=owner,
            barred=barred,
            after=after or _BEFORE_ALL,
            limit=limit,
        )

    async def scopes(
        self, unit: Unit, scope_type: ScopeType, where: Whereabouts, after: UUID | None, limit: int
    ) -> list[Row]:
        """The next scopes of a type below admin in which something is allowed, by id: ``id``, and the ``name`` of the
        domain. Nothing is done in a deleted one."""
        return await unit.read_all(
            _SCOPES[scope_type, where.everywhere],
            allowed=_those(where.scopes, True),
            refused=_those(where.scopes, False),
            allowed_domains=_those(where.domains, True),
            refused_domains=_those(where.domains, False),
            after=after or _BEFORE_ALL,
            limit=limit,
        )

    async def domain_named(self, unit: Unit, name: str) -> UUID | None:
        row = await unit.read(_NAMED, name=name)
        return row["id"] if row else None

    async def signing_in(self, unit: Unit, people: Iterable[UUID]) -> frozenset[UUID]:
        """Which of these users exist and may sign in."""
        asked = list(people)
        return frozenset(row["id"] for row in await unit.read_all(_SIGNING_IN, users=asked)) if asked else frozenset()


def _those(told: Mapping[UUID, bool], allowed: bool) -> list[UUID]:
    return [key for key, said in told.items() if said is allowed]
