"""Policy versions in the database: immutable files by digest, and the history of which was active when.

The latest activation is the active pointer. All machines load the active version from here, so they agree.
"""

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Text,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert

from actions.entities.policy import ActivationKind, HistoryAsked, PolicyActivation, PolicyHistory, PolicyVersion
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
    "signed_by": policy_versions.c.signed_by,
    "uploaded_by": policy_versions.c.uploaded_by,
    "upload_reason": policy_versions.c.upload_reason,
    "deleted": literal_column("false"),
}
_SHOWN = select(*(_FIELDS[name].label(name) for name in PolicyVersion.model_fields)).select_from(
    policy_versions.outerjoin(_last, true())
)
_DIGEST = bindparam("digest", type_=Text)
_BY_DIGEST = Query(_SHOWN.where(policy_versions.c.digest == _DIGEST))
_LOCK = Query(select(func.pg_advisory_xact_lock(literal_column(str(_ACTIVATION_LOCK)))))
_new = insert(policy_versions).values(
    digest=_DIGEST,
    files=bindparam("files", type_=JSONB),
    **{name: bindparam(name, type_=Text) for name in ("signature", "signed_by", "uploaded_by", "upload_reason")},
)
_STORE = Query(
    # What is stored already takes a signature that counts, or the first one of all.
    _new.on_conflict_do_update(
        index_elements=[policy_versions.c.digest],
        set_={"signature": _new.excluded.signature, "signed_by": _new.excluded.signed_by},
        where=or_(
            _new.excluded.signed_by.isnot(None),
            policy_versions.c.signature.is_(None) & _new.excluded.signature.isnot(None),
        ),
    ).returning(policy_versions.c.digest)
)
_REFUSE = Query(update(policy_versions).where(policy_versions.c.digest == _DIGEST).values(refused=bindparam("refused")))
_ACTIVATE = Query(
    insert(policy_activations).values(
        id=bindparam("id"),
        digest=_DIGEST,
        by=bindparam("by"),
        reason=bindparam("reason"),
        kind=bindparam("kind", type_=Text),
    )
)
_ACTIVE_DIGEST = Query(select(_latest.label("digest")))
_ACTIVE_FILES = Query(
    select(policy_versions.c.digest, policy_versions.c.files).where(policy_versions.c.digest == _latest)
)
_FILES = Query(select(policy_versions.c.files, policy_versions.c.signature).where(policy_versions.c.digest == _DIGEST))
_EARLIER = Query(
    select(policy_versions.c.digest)
    .join(_last, true())
    .where(policy_versions.c.digest != _latest)
    .order_by(policy_versions.c.refused, _last.c.at.desc())
)


def _arrived(digest: ColumnElement[str]) -> ColumnElement[Any]:
    """When a version last became active other than by going back to it: its place in the order that rollbacks undo."""
    forward = policy_activations.c.kind != ActivationKind.ROLLED_BACK.value
    return (
        select(func.max(policy_activations.c.at)).where(policy_activations.c.digest == digest, forward)
    ).scalar_subquery()


_before = (
    select(policy_versions.c.digest)
    .where(_arrived(policy_versions.c.digest) < _arrived(_latest))
    .order_by(_arrived(policy_versions.c.digest).desc())
    .limit(1)
)
_BEFORE = Query(_before.where(policy_versions.c.refused.is_(False)))
_IS_BEFORE = Query(_before.where(policy_versions.c.digest == _DIGEST))
_entries = select(
    policy_activations.c.id,
    policy_activations.c.digest.label("version"),
    func.lag(policy_activations.c.digest).over(order_by=policy_activations.c.at).label("left"),
    policy_activations.c.kind,
    policy_activations.c.at,
    policy_activations.c.by,
    policy_activations.c.reason,
).subquery("entries")
_VERSION = bindparam("version", type_=Text)
_asked = select(_entries).where(or_(_VERSION.is_(None), _entries.c.version == _VERSION))
_HISTORY = Query(
    _asked.order_by(_entries.c.at.desc())
    .limit(bindparam("limit", type_=Integer))
    .offset(bindparam("offset", type_=Integer))
)
_HISTORY_COUNT = Query(select(func.count().label("total")).select_from(_asked.subquery()))


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

    async def store(
        self,
        unit: Unit,
        digest: str,
        files: Mapping[str, str],
        *,
        signature: str | None = None,
        signed_by: str | None = None,
        uploaded_by: str | None = None,
        upload_reason: str | None = None,
    ) -> bool:
        """Keep a version. False: it was there already, and nothing of it changed."""
        told = {"signature": signature, "signed_by": signed_by}
        by_hand = {"uploaded_by": uploaded_by, "upload_reason": upload_reason}
        return await unit.write(_STORE, digest=digest, files=dict(files), **told, **by_hand) is not None

    async def before(self, unit: Unit) -> str | None:
        """Where a rollback leads: what was active before the present version, the latest that is not refused."""
        row = await unit.read(_BEFORE)
        return row["digest"] if row else None

    async def was_before(self, unit: Unit, digest: str) -> bool:
        """Whether a version was active before the present one."""
        return await unit.read(_IS_BEFORE, digest=digest) is not None

    async def files(self, unit: Unit, digest: str) -> Row:
        """The ``files`` of a version and its ``signature``. Raises ``NotFound``."""
        row = await unit.read(_FILES, digest=digest) if _DIGEST_FORM.fullmatch(digest) else None
        if row is None:
            raise NotFound
        return row

    async def history(self, unit: Unit, asked: HistoryAsked) -> PolicyHistory:
        rows = await unit.read_all(_HISTORY, version=asked.version, limit=asked.limit, offset=asked.offset)
        counted = await unit.read(_HISTORY_COUNT, version=asked.version)
        return PolicyHistory(
            items=[PolicyActivation.model_validate(dict(row)) for row in rows],
            total_count=counted["total"] if counted else 0,
            offset=asked.offset,
            limit=asked.limit,
        )

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


async def stored_files(database: Database, digest: str) -> tuple[dict[str, bytes], str | None]:
    """The files of a version, active or not, and its signature. Raises ``NotFound``."""
    row = await database.fetchrow(_FILES, {"digest": digest}) if _DIGEST_FORM.fullmatch(digest) else None
    if row is None:
        raise NotFound
    return _encoded(row["files"]), row["signature"]


async def digest_before(database: Database) -> str | None:
    """What was active before the present version, the latest that is not refused."""
    row = await database.fetchrow(_BEFORE, {})
    return row["digest"] if row else None


async def earlier_digests(database: Database) -> list[str]:
    """What was active before, the latest first; what a rollback left comes after everything else."""
    return [row["digest"] for row in await database.fetch(_EARLIER, {})]


def _encoded(files: Mapping[str, str]) -> dict[str, bytes]:
    return {name: text.encode() for name, text in files.items()}
