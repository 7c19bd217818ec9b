"""Shadows in the database: which version is asked beside the active one, and where it would have decided otherwise."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Boolean, DateTime, Text, Uuid, bindparam, column, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import Update

from actions.entities.policy_shadow import ShadowTally
from server.repositories.database import Database, Query, Row
from server.repositories.rows import policy_shadow_differences as kept
from server.repositories.rows import policy_shadows
from server.repositories.unit import Unit

KEPT_AT_MOST = 10_000
"""Kinds of differences that are kept of one shadow. Further ones are counted, but not told apart."""
_TIME = DateTime(timezone=True)
_SHADOW = bindparam("shadow", type_=Uuid)
_NEWEST_FIRST = (policy_shadows.c.at.desc(), policy_shadows.c.id.desc())
_LATEST = Query(select(policy_shadows).order_by(*_NEWEST_FIRST).limit(1))
_RUNNING = Query(
    select(policy_shadows.c.id, policy_shadows.c.digest)
    .where(policy_shadows.c.ended_at.is_(None))
    .order_by(*_NEWEST_FIRST)
    .limit(1)
)
_START = Query(
    insert(policy_shadows).values(
        id=_SHADOW, digest=bindparam("digest"), by=bindparam("by"), reason=bindparam("reason")
    )
)


def _ending() -> Update:
    return (
        policy_shadows.update()
        .where(policy_shadows.c.ended_at.is_(None))
        .values(ended_at=func.clock_timestamp(), ended_by=bindparam("by"), ended_reason=bindparam("reason"))
        .returning(policy_shadows.c.digest)
    )


_END = Query(_ending())
END_OF_CANDIDATE = Query(_ending().where(policy_shadows.c.digest == bindparam("digest", type_=Text)))
"""A shadow is over when its candidate becomes what decides: ``digest``, ``by``, ``reason``."""
_COUNT = Query(
    policy_shadows.update()
    .where(policy_shadows.c.id == _SHADOW)
    .values({name: policy_shadows.c[name] + bindparam(name) for name in ("compared", "gained", "lost", "failed")})
    .returning(policy_shadows.c.id)
)
_COLUMNS: Mapping[str, Any] = {
    "active": Text,
    "roles": Text,
    "scope": Text,
    "entity": Text,
    "operation": Text,
    "gain": Boolean,
    "active_rule": Text,
    "candidate_rule": Text,
    "count": BigInteger,
    "first_at": _TIME,
    "last_at": _TIME,
    "last_principal": Text,
}
_KEY = ("active", "roles", "scope", "entity", "operation", "gain")
_seen = (
    func.unnest(*(bindparam(f"each_{name}", type_=ARRAY(kind)) for name, kind in _COLUMNS.items()))
    .table_valued(*(column(name, kind) for name, kind in _COLUMNS.items()))
    .render_derived(name="seen")
)
_known = exists(
    select(kept.c.shadow_id).where(kept.c.shadow_id == _SHADOW, *(kept.c[name] == _seen.c[name] for name in _KEY))
)
_room = select(func.count()).select_from(kept).where(kept.c.shadow_id == _SHADOW).scalar_subquery() < bindparam(
    "at_most"
)
_added = insert(kept).from_select(
    ["shadow_id", *_COLUMNS], select(_SHADOW, *(_seen.c[name] for name in _COLUMNS)).where(_known | _room)
)
_KEEP = Query(
    _added.on_conflict_do_update(
        index_elements=["shadow_id", *_KEY],
        set_={
            "count": kept.c.count + _added.excluded.count,
            "first_at": func.least(kept.c.first_at, _added.excluded.first_at),
            "last_at": func.greatest(kept.c.last_at, _added.excluded.last_at),
            "last_principal": _added.excluded.last_principal,
            "active_rule": _added.excluded.active_rule,
            "candidate_rule": _added.excluded.candidate_rule,
        },
    ).returning(kept.c.shadow_id)
)
_KINDS = Query(select(func.count().label("total")).select_from(kept).where(kept.c.shadow_id == _SHADOW))
_DIFFERENCES = Query(
    select(kept)
    .where(kept.c.shadow_id == _SHADOW)
    .order_by(kept.c["count"].desc(), *(kept.c[name] for name in _KEY))
    .limit(bindparam("most", type_=BigInteger))
)


class PolicyShadowRepository:
    """Starting and ending are for whoever holds the lock of the active pointer (``PolicyRepository.lock``)."""

    async def latest(self, unit: Unit) -> Row | None:
        return await unit.read(_LATEST)

    async def start(self, unit: Unit, shadow: UUID, digest: str, by: str, reason: str) -> None:
        await unit.write(_START, shadow=shadow, digest=digest, by=by, reason=reason)

    async def end(self, unit: Unit, by: str, reason: str) -> str | None:
        """End the shadow that goes on; returns its candidate. None: there was none."""
        row = await unit.write(_END, by=by, reason=reason)
        return row["digest"] if row else None

    async def kinds(self, unit: Unit, shadow: UUID) -> int:
        row = await unit.read(_KINDS, shadow=shadow)
        return int(row["total"]) if row else 0

    async def differences(self, unit: Unit, shadow: UUID, most: int) -> list[Row]:
        """The most frequent first."""
        return await unit.read_all(_DIFFERENCES, shadow=shadow, most=most)

    async def tally(self, unit: Unit, told: ShadowTally) -> None:
        """Add to what is kept of a shadow, whether it goes on or has ended."""
        shadow = UUID(told.shadow)
        counts = {name: getattr(told, name) for name in ("compared", "gained", "lost", "failed")}
        if await unit.write(_COUNT, shadow=shadow, **counts) and told.differences:
            columns = {f"each_{name}": [getattr(each, name) for each in told.differences] for name in _COLUMNS}
            await unit.write(_KEEP, shadow=shadow, at_most=KEPT_AT_MOST, **columns)


async def running_shadow(database: Database) -> tuple[UUID, str] | None:
    """The shadow that goes on, and the digest of its candidate."""
    row = await database.fetchrow(_RUNNING, {})
    return (row["id"], row["digest"]) if row else None
