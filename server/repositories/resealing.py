"""Every column that holds what the key ring sealed: which values an older key sealed, and a new seal in its place.

It knows no key. A seal begins with the id of its key and a colon, and that is all that is looked at here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    DateTime,
    LargeBinary,
    Table,
    Uuid,
    bindparam,
    column,
    exists,
    func,
    or_,
    select,
    update,
)

from actions.entities.installation import Sealed
from server.repositories.database import Database, Query, Row
from server.repositories.rows import audit_keys, keypairs, signing_keys, subject_keys
from server.repositories.unit import Unit

BATCH = 200
"""How many values one transaction reseals at most."""

_SEAL = bindparam("seal", type_=LargeBinary)
_AFTER = bindparam("after", type_=Uuid)
_new = (
    func.unnest(bindparam("keys", type_=ARRAY(Uuid)), bindparam("values", type_=ARRAY(LargeBinary)))
    .table_valued(column("key", Uuid), column("value", LargeBinary))
    .render_derived(name="new")
)


def _begins(value: Column[bytes]) -> ColumnElement[bool]:
    return func.substring(value, 1, func.octet_length(_SEAL)) == _SEAL


class SealedColumn:
    """A column of sealed values, and the one that tells what each is sealed for."""

    def __init__(self, table: Table, key: str, value: str, purpose: str) -> None:
        at, sealed = table.c[key], table.c[value]
        rows = select(at.label("key"), sealed.label("value"), table.c[purpose].label("purpose"))
        self.others = Query(
            rows.where(~_begins(sealed), sealed != b"", or_(_AFTER.is_(None), at > _AFTER))
            .order_by(at)
            .limit(BATCH)
            .with_for_update()
        )
        resealed = update(table).where(at == _new.c.key).values({value: _new.c.value}).returning(at).cte("resealed")
        self.reseal = Query(select(func.count().label("total")).select_from(resealed))
        self.begins = exists(select(at).where(_begins(sealed)))


_COLUMNS: Mapping[Sealed, SealedColumn] = {
    "subject_key": SealedColumn(subject_keys, "subject_id", "wrapped", "subject_id"),
    "keypair": SealedColumn(keypairs, "id", "sealed_secret", "access_key"),
    "signing_key": SealedColumn(signing_keys, "id", "sealed_private_key", "id"),
    "audit_key": SealedColumn(audit_keys, "id", "sealed_private_key", "id"),
}
_IN_USE = Query(select(or_(*(one.begins for one in _COLUMNS.values())).label("there")))
_ERASED = Query(
    select(func.count().label("total"))
    .select_from(subject_keys)
    .where(subject_keys.c.erased_at >= bindparam("since", type_=DateTime(timezone=True)))
)


async def is_in_use(database: Database, name: str) -> bool:
    """Whether there is a value that the key of this id sealed."""
    row = await database.fetchrow(_IN_USE, {"seal": _seal(name)})
    return row is not None and bool(row["there"])


async def erased_since(database: Database, moment: datetime) -> int:
    """How many people were erased from the log since."""
    row = await database.fetchrow(_ERASED, {"since": moment})
    return int(row["total"]) if row else 0


class ResealingRepository:
    async def others(self, unit: Unit, what: Sealed, active: str, after: UUID | None) -> Sequence[Row]:
        """The next values that another key sealed than the active one, locked: ``key, value, purpose``."""
        return await unit.read_all(_COLUMNS[what].others, seal=_seal(active), after=after)

    async def reseal(self, unit: Unit, what: Sealed, values: Mapping[UUID, bytes]) -> int:
        """Put values in the place of others. No version moves: what is sealed is what it was."""
        row = await unit.write(_COLUMNS[what].reseal, keys=list(values), values=list(values.values()))
        return int(row["total"]) if row else 0


def _seal(name: str) -> bytes:
    return name.encode() + b":"
