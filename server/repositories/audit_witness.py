"""What the witnesses of the log have vouched for: rows of ``audit_cosignature``, of the service that asks them."""

from datetime import datetime

from sqlalchemy import BigInteger, Text, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from audit.tree import audit_checkpoints, audit_cosignatures
from server.repositories.database import Database, Query
from server.repositories.vouching import true_lines

_WITNESS = bindparam("witness", type_=Text)
LOOKED_AT = 20
"""Of a witness's newest lines, how many are looked at for one that is its own."""
_LAST = Query(
    select(audit_cosignatures.c.size, audit_cosignatures.c.line, audit_checkpoints.c.note)
    .join(audit_checkpoints, audit_checkpoints.c.size == audit_cosignatures.c.size)
    .where(audit_cosignatures.c.witness == _WITNESS)
    .order_by(audit_cosignatures.c.size.desc())
    .limit(LOOKED_AT)
)
_KEEP = Query(
    insert(audit_cosignatures)
    .values(size=bindparam("size", type_=BigInteger), witness=_WITNESS, line=bindparam("line", type_=Text))
    .on_conflict_do_nothing()
    .returning(audit_cosignatures.c.size)
)
_WAITING = Query(
    select(audit_checkpoints.c.at)
    .where(audit_checkpoints.c.size > bindparam("size", type_=BigInteger))
    .order_by(audit_checkpoints.c.size)
    .limit(1)
)


async def cosigned_size(database: Database, witness: str) -> int:
    """The size of the newest checkpoint that the witness vouches for, 0 if there is none."""
    rows = await database.fetch(_LAST, {"witness": witness})
    return next((int(row["size"]) for row in rows if true_lines(row["note"], [(witness, row["line"])])), 0)


async def keep_cosignature(database: Database, size: int, witness: str, line: str) -> None:
    """Add the line by which the witness vouches for the checkpoint of that size; the first one stays."""
    await database.fetch(_KEEP, {"size": size, "witness": witness, "line": line})


async def waiting_since(database: Database, witness: str) -> datetime | None:
    """When the first checkpoint was signed that the witness does not vouch for yet, by itself or by a later one."""
    row = await database.fetchrow(_WAITING, {"size": await cosigned_size(database, witness)})
    return None if row is None else row["at"]
