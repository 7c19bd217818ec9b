"""The durable log: its table, how a record is written into it, and the port that the pipeline writes through.

A mutation's record is inserted in the mutation's own transaction; every other record goes through an ``AuditLog``,
which returns only once the record is on disk. Nothing here updates or deletes.
"""

from typing import Protocol

from sqlalchemy import Column, DateTime, Index, LargeBinary, MetaData, Table, Text, Uuid, text
from sqlalchemy.types import UserDefinedType

from audit.record import Record


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id, by which later readers know which records may still be in flight."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


metadata = MetaData()

audit_record = Table(
    "audit_record",
    metadata,
    Column("action_id", Uuid, primary_key=True),
    Column("phase", Text, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("action", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("principal_id", Uuid),
    Column("request_id", Text, nullable=False),
    Column("scope_type", Text, nullable=False),
    Column("scope_domain_id", Uuid),
    Column("scope_project_id", Uuid),
    Column("scope_user_id", Uuid),
    Column("target_id", Text),
    Column("target_domain_id", Uuid),
    Column("target_project_id", Uuid),
    Column("target_user_id", Uuid),
    Column("rule", Text),
    Column("policy", Text),
    Column("leaf", LargeBinary, nullable=False),
    Column("sealed", LargeBinary),
    Column("hashes", Text),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    Index(
        "ix_audit_record__search",
        *("at", "principal_id", "target_id", "scope_domain_id", "target_domain_id"),
        postgresql_using="brin",
        postgresql_ops={
            "at": "timestamptz_minmax_ops",
            "principal_id": "uuid_bloom_ops (n_distinct_per_range = 500)",
            "target_id": "text_bloom_ops (n_distinct_per_range = 1000)",
            "scope_domain_id": "uuid_bloom_ops (n_distinct_per_range = 100)",
            "target_domain_id": "uuid_bloom_ops (n_distinct_per_range = 100)",
        },
        postgresql_with={"autosummarize": True},
    ),
    Index("ix_audit_record__intent", "at", postgresql_where=text("phase = 'intent'")),
    Index("ix_audit_record__xid", "xid"),
    Index(
        "ix_audit_record__hashes",
        text("string_to_array(hashes, ' ')"),
        postgresql_using="gin",
        postgresql_where=text("hashes IS NOT NULL"),
    ),
    postgresql_partition_by="RANGE (action_id)",
)
"""One record a row, in a partition for each month in which actions began: their ids grow with time.

The rows come in the order of time and stay, so a block-range index over all that is searched by costs a writer next to
nothing; four B-trees in its place cost a fifth of the requests a worker can answer. A range is a megabyte: about a
thousand records. The filters are sized for that; left to themselves they would be sized for every tuple that a range
could possibly hold, and four of them full of different values are larger than a page, so that the record that fills
them could not be written.

``hashes`` are the keyed hashes of the secrets that a record speaks of, with spaces between them."""

COLUMN_NAMES = tuple(column.name for column in audit_record.columns if column.name != "xid")
"""The columns that a writer fills; PostgreSQL fills ``xid``."""

_SQL_TYPES = {"Uuid": "uuid", "Text": "text", "DateTime": "timestamptz", "LargeBinary": "bytea"}
_ARRAYS = ", ".join(
    f"${place}::{_SQL_TYPES[type(audit_record.columns[name].type).__name__]}[]"
    for place, name in enumerate(COLUMN_NAMES, start=1)
)
INSERT_MANY = f"INSERT INTO audit_record ({', '.join(COLUMN_NAMES)}) SELECT * FROM unnest({_ARRAYS})"  # noqa: S608
"""One statement for any number of records: each parameter is the array of one column's values."""


def columns_of(records: list[Record]) -> list[list[object]]:
    """The parameters of ``INSERT_MANY``."""
    return [list(values) for values in zip(*(record.row() for record in records), strict=True)]


class LogUnavailable(Exception):
    """The record could not be made durable in time. Whether it still arrives is not known; it is not tried again."""


class AuditLog(Protocol):
    async def write(self, record: Record) -> None:
        """Return once the record is durable. Raises ``LogUnavailable``.

        Whoever is cancelled while it waits hears of that only once the record is durable; if it fails, of that alone.
        """
