"""Policy versions in the database: immutable files by digest, and the history of which was active when.

The latest activation is the active pointer. All machines load the active version from here, so they agree.
"""

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, func, literal_column, select, true, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from actions.entities.policy import PolicyVersion
from actions.errors import NotFound
from actions.query import Page, Querier
from server.repositories.database import Database, Query, Row
from server.repositories.policy_shadow import END_OF_CANDIDATE
from server.repositories.rows import policy_activations, policy_versions
from server.repositories.search import SearchStatement, page_of
from server.repositories.unit import Unit

_DIGEST_FORM = re.compile(r"[0-9a-f]{64}")
_ACTIVATION_LOCK = 0x70_6F_6C
_latest = select(policy_activations.c.digest).order_by(policy_activations.c.at.desc()).limit(1).scalar_subquery()
_last = (
    select(policy_activations)
    .where(policy_activations.c.digest == policy_versions.c.digest)
    .order_by(policy_activations.c.at.desc())
    .limit(1)
    .lateral("last")
)
_FIELDS: dict[str, ColumnElement[Any]] = {
    "id": policy_versions.c.digest,
    "created_at": policy_versions.c.created_at,
    "active": func.coalesce(policy_versions.c.digest == _latest, False),
    "refused": policy_versions.c.refused,
    "activated_at": _last.c.at,
    "activated_by": _last.c.by,
    "reason": _last.c.reason,
    "deleted": literal_column("false"),
}
_SHOWN = select(*(_FIELDS[name].label(name) for name in PolicyVersion.model_fields)).select_from(
    policy_versions.outerjoin(_last, true())
)
_DIGEST = bindparam("digest", type_=Text)
_BY_DIGEST = Query(_SHOWN.where(policy_versions.c.digest == _DIGEST))
_LOCK = Query(select(func.pg_advisory_xact_lock(literal_column(str(_ACTIVATION_LOCK)))))
_STORE = Query(
    insert(policy_versions)
    .values(digest=_DIGEST, files=bindparam("files", type_=JSONB))
    .on_conflict_do_nothing()
    .returning(policy_versions.c.digest)
)
_REFUSE = Query(update(policy_versions).where(policy_versions.c.digest == _DIGEST).values(refused=bindparam("refused")))
_ACTIVATE = Query(
    insert(policy_activations).values(
        id=bindparam("id"), digest=_DIGEST, by=bindparam("by"), reason=bindparam("reason")
    )
)
_ACTIVE_DIGEST = Query(select(_latest.label("digest")))
_ACTIVE_FILES = Query(
    select(policy_versions.c.digest, policy_versions.c.files).where(policy_versions.c.digest == _latest)
)
_FILES = Query(select(policy_versions.c.files).where(policy_versions.c.digest == _DIGEST))
_EARLIER = Query(
    select(policy_versions.c.digest)
    .join(_last, true())
    .where(policy_versions.c.digest != _latest)
    .order_by(policy_versions.c.refused, _last.c.at.desc())
)


class PolicyRepository:
    async def get(self, unit: Unit, digest: str) -> Row:
        row = await unit.read(_BY_DIGEST, digest=digest) if _DIGEST_FORM.fullmatch(digest) else None
        if row is None:
            raise NotFound
        return row

    async def search(self, unit: Unit, querier: Querier) -> Page[PolicyVersion]:
        statement = SearchStatement(querier.shape, _SHOWN, _FIELDS.__getitem__, policy_versions.c.digest)
        return await page_of(
            unit, statement, querier, Page[PolicyVersion], lambda row: PolicyVersion.model_validate(dict(row))
        )

    async def lock(self, unit: Unit) -> str | None:
        """Take the pointer for this transaction; returns the digest it points to."""
        await unit.read(_LOCK)
        row = await unit.read(_ACTIVE_DIGEST)
        return row["digest"] if row else None

    async def store(self, unit: Unit, digest: str, files: Mapping[str, str]) -> None:
        await unit.write(_STORE, digest=digest, files=dict(files))

    async def activate(self, unit: Unit, activation: Mapping[str, object]) -> None:
        """Move the pointer; what it moves to is refused no longer, and shadows nothing any more."""
        await unit.write(_ACTIVATE, **activation)
        await unit.write(_REFUSE, digest=activation["digest"], refused=False)
        over = {"digest": activation["digest"], "by": activation["by"], "reason": "it became the active version"}
        await unit.write(END_OF_CANDIDATE, **over)

    async def refuse(self, unit: Unit, digest: str) -> None:
        await unit.write(_REFUSE, digest=digest, refused=True)


async def active_files(database: Database) -> tuple[str, dict[str, bytes]] | None:
    """The digest and files of the active version: what every worker decides by. None before the first."""
    row = await database.fetchrow(_ACTIVE_FILES, {})
    return (row["digest"], _encoded(row["files"])) if row else None


async def active_digest(database: Database) -> str | None:
    """Where the active pointer points. None before the first."""
    row = await database.fetchrow(_ACTIVE_DIGEST, {})
    return row["digest"] if row else None


async def stored_files(database: Database, digest: str) -> dict[str, bytes]:
    """The files of a version, active or not. Raises ``NotFound``."""
    row = await database.fetchrow(_FILES, {"digest": digest}) if _DIGEST_FORM.fullmatch(digest) else None
    if row is None:
        raise NotFound
    return _encoded(row["files"])


async def earlier_digests(database: Database) -> list[str]:
    """What was active before, the latest first; what a rollback left comes after everything else."""
    return [row["digest"] for row in await database.fetch(_EARLIER, {})]


def _encoded(files: Mapping[str, str]) -> dict[str, bytes]:
    return {name: text.encode() for name, text in files.items()}
