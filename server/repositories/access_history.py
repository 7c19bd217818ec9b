"""The history of access as it is read: what was in force, and who held which role, at a moment.

Triggers write it. The state of a thing at a moment is its last row up to then.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, Select, Text, Uuid, and_, bindparam, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.sql.selectable import LateralFromClause

from server.repositories.database import Database, Query, Row
from server.repositories.rows import access_history, policy_activations
from server.repositories.unit import Unit

HOLDERS_AT_MOST = 100_000
"""Bindings that one answer can list."""

_h = access_history.c
_AT = bindparam("at", type_=DateTime(timezone=True))


def _by_then(kind: str, *which: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    """The last row up to the moment of each thing of a kind."""
    return (
        select(access_history)
        .ext(distinct_on(_h.subject_id))
        .where(_h.kind == literal_column(f"'{kind}'"), _h.at <= _AT, *which)
        .order_by(_h.subject_id, _h.id.desc())
    )


def _in_force(kind: str, subject: ColumnElement[UUID]) -> LateralFromClause:
    """Whether a thing was in force, for each row of what it is joined to."""
    return (
        select(_h.in_force, _h.domain_id)
        .where(_h.kind == literal_column(f"'{kind}'"), _h.subject_id == subject, _h.at <= _AT)
        .order_by(_h.id.desc())
        .limit(1)
        .lateral(kind)
    )


_THING = bindparam("thing", type_=Uuid)
_STATES = {kind: Query(_by_then(kind, _h.subject_id == _THING)) for kind in ("domain", "project", "user")}
_DOMAIN_BY_NAME = Query(
    select(access_history)
    .where(_h.kind == literal_column("'domain'"), _h.name == bindparam("name", type_=Text), _h.at <= _AT)
    .order_by(_h.id.desc())
    .limit(1)
)
_BEGINNING = Query(select(_h.at, func.clock_timestamp().label("now")).where(_h.kind == literal_column("'beginning'")))

_DOMAIN, _PROJECT = bindparam("domain", type_=Uuid), bindparam("project", type_=Uuid)
_bound = _by_then(
    "binding",
    or_(
        and_(_h.domain_id.is_(None), _h.project_id.is_(None)),
        and_(_h.domain_id == _DOMAIN, _h.project_id.is_(None)),
        _h.project_id == _PROJECT,
    ),
).subquery("bound")
_user = _in_force("user", _bound.c.user_id)
_home = _in_force("domain", _user.c.domain_id)
_HOLDERS = Query(
    select(_bound.c.user_id, _bound.c.subject_id, _bound.c.role, _bound.c.domain_id, _bound.c.project_id)
    .add_columns(_bound.c.expires_at)
    .select_from(_bound.join(_user, _user.c.in_force).join(_home, _home.c.in_force))
    .where(_bound.c.in_force, or_(_bound.c.expires_at.is_(None), _bound.c.expires_at > _AT))
    .order_by(_bound.c.user_id, _bound.c.subject_id)
    .limit(literal_column(str(HOLDERS_AT_MOST + 1)))
)
_ACTIVATION = Query(
    select(policy_activations)
    .where(policy_activations.c.at <= _AT)
    .order_by(policy_activations.c.at.desc(), policy_activations.c.id.desc())
    .limit(1)
)


class AccessHistory:
    async def beginning(self, unit: Unit) -> Row | None:
        """Since when there is a history (``at``), and what time the database has (``now``)."""
        return await unit.read(_BEGINNING)

    async def domain_named(self, unit: Unit, name: str, at: datetime) -> Row | None:
        return await unit.read(_DOMAIN_BY_NAME, name=name, at=at)

    async def state(self, unit: Unit, kind: str, thing: UUID, at: datetime) -> Row | None:
        """A ``domain``, ``project`` or ``user`` as it was: ``in_force``, ``domain_id``, ``name``. None: none yet."""
        return await unit.read(_STATES[kind], thing=thing, at=at)

    async def holders(self, unit: Unit, domain: UUID | None, project: UUID | None, at: datetime) -> list[Row]:
        """The bindings that counted in a scope, of users who were in force; one more than can be listed, at most."""
        return await unit.read_all(_HOLDERS, domain=domain, project=project, at=at)


async def activation_at(database: Database, at: datetime) -> Row | None:
    """The activation by which a policy decided at a moment: ``digest``, ``at``, ``by``, ``reason``."""
    return await database.fetchrow(_ACTIVATION, {"at": at})
