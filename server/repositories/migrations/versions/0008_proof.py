"""The log in partitions by time, and the tables of its tree.

A partition holds the records of the actions that began in one month: ids grow with time, and so the key of a record,
which keeps it from being written twice, is what the log is parted by. What was there before becomes the first one.

Revision 0008; it follows 0007.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Whoever names a partition and not the log finds it closed as well: a statement's trigger is not inherited.
PARTITIONS = (
    "ALTER TABLE audit_record RENAME TO audit_record_start",
    "ALTER INDEX audit_record_pkey RENAME TO audit_record_start_pkey",
    "ALTER INDEX ix_audit_record__intent RENAME TO ix_audit_record_start__intent",
    "ALTER INDEX ix_audit_record__search RENAME TO ix_audit_record_start__search",
    "ALTER TABLE audit_record_start ADD COLUMN hashes TEXT",
    """
    CREATE TABLE audit_record (LIKE audit_record_start INCLUDING DEFAULTS, PRIMARY KEY (action_id, phase))
    PARTITION BY RANGE (action_id)
    """,
    "CREATE INDEX ix_audit_record__intent ON audit_record (at) WHERE phase = 'intent'",
    """
    CREATE INDEX ix_audit_record__search ON audit_record USING brin (
        at timestamptz_minmax_ops,
        principal_id uuid_bloom_ops (n_distinct_per_range = 500),
        target_id text_bloom_ops (n_distinct_per_range = 1000),
        scope_domain_id uuid_bloom_ops (n_distinct_per_range = 100),
        target_domain_id uuid_bloom_ops (n_distinct_per_range = 100)
    ) WITH (autosummarize = true)
    """,
    "CREATE INDEX ix_audit_record__xid ON audit_record (xid)",
    """
    CREATE INDEX ix_audit_record__hashes ON audit_record USING gin (string_to_array(hashes, ' '))
    WHERE hashes IS NOT NULL
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_record
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting()
    """,
    """
    CREATE FUNCTION audit_month(month date) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT (lpad(to_hex((extract(epoch FROM month) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
    $$
    """,
    """
    CREATE FUNCTION add_audit_partition(month date) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        name text := 'audit_record_' || to_char(month, 'YYYY_MM');
    BEGIN
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF audit_record FOR VALUES FROM (%L) TO (%L)',
            name, audit_month(month), audit_month((month + interval '1 month')::date)
        );
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I '
            'FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting()', name
        );
    END
    $$
    """,
    """
    DO $$
    DECLARE
        next date := (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month')::date;
    BEGIN
        EXECUTE format(
            'ALTER TABLE audit_record ATTACH PARTITION audit_record_start FOR VALUES FROM (MINVALUE) TO (%L)',
            audit_month(next)
        );
        PERFORM add_audit_partition((next + make_interval(months => ahead))::date) FROM generate_series(0, 2) AS ahead;
    END
    $$
    """,
    "CREATE TABLE audit_record_default PARTITION OF audit_record DEFAULT",
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_record_default
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting()
    """,
)

TREE = (
    "CREATE TABLE audit_log (origin TEXT NOT NULL, PRIMARY KEY (origin))",
    "INSERT INTO audit_log SELECT 'chamberlain/' || left(replace(gen_random_uuid()::text, '-', ''), 16)",
    """
    CREATE TABLE audit_leaf (
        index BIGINT NOT NULL,
        action_id UUID NOT NULL,
        phase TEXT NOT NULL,
        hash BYTEA NOT NULL,
        PRIMARY KEY (index),
        CONSTRAINT uq_audit_leaf__record UNIQUE (action_id, phase)
    )
    """,
    """
    CREATE TABLE audit_node (
        tile_level SMALLINT NOT NULL,
        index BIGINT NOT NULL,
        hash BYTEA NOT NULL,
        PRIMARY KEY (tile_level, index)
    )
    """,
    """
    CREATE TABLE audit_checkpoint (
        size BIGINT NOT NULL,
        root BYTEA NOT NULL,
        note TEXT NOT NULL,
        horizon xid8 NOT NULL,
        at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        PRIMARY KEY (size)
    )
    """,
    """
    CREATE TABLE audit_cosignature (
        size BIGINT NOT NULL,
        witness TEXT NOT NULL,
        line TEXT NOT NULL,
        at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        PRIMARY KEY (size, witness)
    )
    """,
    *(
        f"""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting()
        """
        for table in ("audit_log", "audit_leaf", "audit_node", "audit_checkpoint", "audit_cosignature")
    ),
)

KEYS = (
    """
    CREATE TABLE audit_key (
        id UUID NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        version INTEGER DEFAULT 1 NOT NULL,
        public_key TEXT NOT NULL,
        sealed_private_key BYTEA NOT NULL,
        not_after TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id)
    )
    """,
    "ALTER TABLE subject_key ADD COLUMN erased_at TIMESTAMP WITH TIME ZONE",
)


def upgrade() -> None:
    for statement in (*PARTITIONS, *TREE, *KEYS):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("a tree that was signed is not taken down")
