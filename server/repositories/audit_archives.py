"""Where dropped partitions of the log are kept. Whether one has been dropped is never written: it is looked for."""

from uuid import UUID

from sqlalchemy import Uuid, bindparam, func, insert, select

from actions.action import ADMIN_SCOPE, Lineage
from actions.entities.audit_archive import AUDIT_ARCHIVES, AuditArchive
from actions.vocabulary import ScopeType
from audit.tree import audit_leaves
from server.repositories.base import Repository
from server.repositories.database import Query, Row
from server.repositories.rows import audit_archives
from server.repositories.unit import Unit

_DROPPED = func.to_regclass(audit_archives.c.partition).is_(None)
_SHOWN = [column for column in audit_archives.c if column.name not in ("updated_at", "deleted_at", "version")]
_ADD = Query(
    insert(audit_archives)
    .values({column.name: bindparam(f"v_{column.name}") for column in _SHOWN if column.name != "created_at"})
    .returning(audit_archives.c.id)
)
_KEY = bindparam("key", type_=Uuid)
_WHERE = Query(
    select(audit_archives.c.location, audit_archives.c.digest, audit_leaves.c.index)
    .join(audit_leaves, audit_leaves.c.action_id == _KEY)
    .where(_DROPPED, audit_archives.c.first_id <= _KEY, audit_archives.c.end_id > _KEY)
    .order_by(audit_archives.c.created_at.desc(), audit_archives.c.id.desc(), audit_leaves.c.index)
    .limit(1)
)


class AuditArchiveRepository(Repository[AuditArchive]):
    def __init__(self) -> None:
        super().__init__(AUDIT_ARCHIVES, AuditArchive, audit_archives, {}, expressions={"dropped": _DROPPED})

    async def add(self, unit: Unit, **values: object) -> None:
        """Write down where a partition is kept that is about to be dropped."""
        await unit.write(_ADD, **{f"v_{name}": value for name, value in values.items()})


async def whereabouts(unit: Unit, action_id: UUID) -> Row | None:
    """Where the records of an action are kept that were dropped: ``location, digest``, and the ``index`` of the first
    of them. None: there never were any. Told to whoever asks for the whole log alone: which domain a dropped record
    belongs to is not known any more."""
    if unit.permit.lineage.scope.type is not ScopeType.ADMIN:
        return None
    row = await unit.read(_WHERE, key=action_id)
    if row is not None:
        unit.targets(action_id, Lineage((ADMIN_SCOPE,)))
    return row
