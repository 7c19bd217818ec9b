"""The statements by which a change is recorded: its record, and the digest of the signature that asked for it.

They know no unit of work: ``server.repositories.unit`` says when they run.
"""

from sqlalchemy import LargeBinary, bindparam, insert, literal_column, select
from sqlalchemy.sql.dml import Delete, Insert, Update

from audit.log import COLUMN_NAMES, audit_record
from audit.record import Record
from server.repositories.database import Query
from server.repositories.rows import request_signatures

INSERT_SIGNATURE = Query(insert(request_signatures).values(digest=bindparam("digest")))
SIGNATURE_EXISTS = Query(select(request_signatures.c.at).where(request_signatures.c.digest == bindparam("digest")))


def with_record(change: Update | Insert | Delete) -> Query:
    """A change that writes its own record and signature: if the change touches no row, nothing is written at all."""
    changed = change.cte("change")
    columns = [bindparam(f"r_{name}", type_=audit_record.c[name].type) for name in COLUMN_NAMES]
    record = (
        insert(audit_record)
        .from_select(COLUMN_NAMES, select(*columns).select_from(changed))
        .returning(literal_column("1"))
        .cte("record")
    )
    digest = bindparam("digest", type_=LargeBinary)
    signature = (
        insert(request_signatures)
        .from_select(["digest"], select(digest).select_from(changed).where(digest.is_not(None)))
        .returning(literal_column("1"))
        .cte("signature")
    )
    return Query(select(changed).add_cte(record, signature))


def record_values(record: Record) -> dict[str, object]:
    """A record as the parameters of a statement made by ``with_record``."""
    return {f"r_{name}": value for name, value in zip(COLUMN_NAMES, record.row(), strict=True)}
