"""The tables of the log's tree. Each is only ever appended to; the rows of all together say what was proven when.

The application reads them. Leaves, nodes, checkpoints and the head are written by two functions of the database alone,
which take what they write from the records: so it is true, whoever of the application's role calls.

A leaf's row outlives the record that it was made from: a record whose time is over may be dropped, and the proofs of
all others still stand.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)

from audit.log import Xid8, metadata

audit_logs = Table("audit_log", metadata, Column("origin", Text, primary_key=True))
"""One row: the log's name, given when the database was made and never changed. Every key and checkpoint bears it."""

audit_leaves = Table(
    "audit_leaf",
    metadata,
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("action_id", Uuid, nullable=False),
    Column("phase", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("action_id", "phase", name="uq_audit_leaf__record"),
)
"""Which record stands at which index, from 0 on without a gap, and the hash of its leaf bytes."""

audit_nodes = Table(
    "audit_node",
    metadata,
    Column("tile_level", SmallInteger, primary_key=True),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)
"""The hashes above the leaves: one for each full tile of the level below. A tile is 256 rows side by side."""

audit_checkpoints = Table(
    "audit_checkpoint",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
)
"""Each checkpoint as it was signed: of a tree that there was. Whether a key of the log signed it, its reader looks."""

audit_cosignatures = Table(
    "audit_cosignature",
    metadata,
    Column(
        "size",
        BigInteger,
        ForeignKey("audit_checkpoint.size", name="fk_audit_cosignature__checkpoint"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("witness", Text, primary_key=True),
    Column("line", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
)
"""Which witness (its key, as people pass it on) vouches for the checkpoint of that size, and the line that says so."""

audit_heads = Table(
    "audit_head",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("xid", Xid8, nullable=False),
    Column("action_id", Uuid, nullable=False),
    Column("phase", Text, nullable=False),
)
"""One row: the tree as it stands, and the place in the order of the records up to which each has its index. Below its
transaction, ``xid``, every transaction had ended."""
