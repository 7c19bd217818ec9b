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
        PRIMARY KEY (size, witness),
        CONSTRAINT fk_audit_cosignature__checkpoint FOREIGN KEY (size) REFERENCES audit_checkpoint (size)
    )
    """,
    """
    CREATE TABLE audit_head (
        size BIGINT NOT NULL,
        root BYTEA NOT NULL,
        xid xid8 NOT NULL,
        action_id UUID NOT NULL,
        phase TEXT NOT NULL,
        PRIMARY KEY (size)
    )
    """,
    "INSERT INTO audit_head VALUES (0, sha256(''), '0', '00000000-0000-0000-0000-000000000000', '')",
    *(
        f"""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting()
        """
        for table in ("audit_log", "audit_leaf", "audit_node", "audit_checkpoint", "audit_cosignature")
    ),
)

# A record is ready once every transaction that began before its own has ended. That of a transaction which is yet to
# come, as the counter has it, was restored from elsewhere: it is committed.
_SETTLED = "record.xid < pg_snapshot_xmin(pg_current_snapshot())"
_YET_TO_COME = "record.xid >= pg_snapshot_xmax(pg_current_snapshot())"


def _numbering(ready: str) -> str:
    """Number what is ready and has no number: of the next ``batch`` records, and what else is of their transactions.

    The transactions come from their index, in order: however many records wait, a round looks at no more of them.
    """
    after = f"""
        (record.xid, record.action_id, record.phase COLLATE "C") > (after_xid, after_id, after_phase) AND ({ready})
    """
    return f"""
        WITH ahead AS (
            SELECT record.xid FROM audit_record AS record WHERE {after} ORDER BY record.xid LIMIT batch
        ), bound AS (
            SELECT max(ahead.xid) AS xid, count(*) = batch AS more FROM ahead
        ), fresh AS (
            SELECT record.xid, record.action_id, record.phase, sha256('\\x00'::bytea || record.leaf) AS hash
            FROM audit_record AS record
            WHERE {after} AND record.xid <= (SELECT bound.xid FROM bound) AND NOT EXISTS (
                SELECT FROM audit_leaf AS leaf
                WHERE leaf.action_id = record.action_id AND leaf.phase = record.phase
            )
            ORDER BY record.xid, record.action_id, record.phase COLLATE "C"
            LIMIT batch
        ), added AS (
            INSERT INTO audit_leaf (index, action_id, phase, hash)
            SELECT head.size + row_number() OVER (ORDER BY fresh.xid, fresh.action_id, fresh.phase COLLATE "C") - 1,
                fresh.action_id, fresh.phase, fresh.hash
            FROM fresh
            RETURNING index
        ), last AS (
            SELECT * FROM fresh ORDER BY fresh.xid DESC, fresh.action_id DESC, fresh.phase COLLATE "C" DESC LIMIT 1
        )
        SELECT (SELECT count(*) FROM added) AS added, bound.xid AS bound, bound.more,
            last.xid, last.action_id, last.phase, pg_snapshot_xmin(pg_current_snapshot()) AS settled
        INTO told
        FROM bound LEFT JOIN last ON true;
    """  # noqa: S608


# What grows the tree. The application may call it and write none of the tables itself: so what stands in them follows
# from the records, whoever calls.
GROWTH = (
    """
    CREATE FUNCTION audit_fold(hashes bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE STRICT
    SET search_path = public, pg_temp AS $$
    BEGIN
        WHILE length(hashes) > 32 LOOP
            hashes := (
                SELECT string_agg(
                    sha256('\\x01'::bytea || substring(hashes FROM pair * 64 + 1 FOR 64)), ''::bytea ORDER BY pair
                )
                FROM generate_series(0, length(hashes) / 64 - 1) AS pair
            );
        END LOOP;
        RETURN hashes;
    END
    $$
    """,
    """
    CREATE FUNCTION audit_subtree(tile_level integer, first bigint, width bigint) RETURNS bytea
    LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
    DECLARE
        hashes bytea;
    BEGIN
        IF tile_level = 0 THEN
            hashes := (
                SELECT string_agg(kept.hash, ''::bytea ORDER BY kept.index) FROM audit_leaf AS kept
                WHERE kept.index >= first AND kept.index < first + width
            );
        ELSE
            hashes := (
                SELECT string_agg(kept.hash, ''::bytea ORDER BY kept.index) FROM audit_node AS kept
                WHERE kept.tile_level = audit_subtree.tile_level
                AND kept.index >= first AND kept.index < first + width
            );
        END IF;
        IF length(hashes) IS DISTINCT FROM width * 32 THEN
            RAISE EXCEPTION 'the tree lacks hashes of level % from % on', tile_level, first;
        END IF;
        RETURN audit_fold(hashes);
    END
    $$
    """,
    """
    CREATE FUNCTION audit_root(size bigint) RETURNS bytea LANGUAGE plpgsql STABLE STRICT
    SET search_path = public, pg_temp AS $$
    DECLARE
        root bytea;
        subtree bytea;
    BEGIN
        FOR height IN 0..62 LOOP  -- the narrowest of the perfect subtrees stands last
            IF (size >> height) % 2 = 1 THEN
                subtree := audit_subtree(
                    height / 8, (((size >> height) - 1) << height) >> (height / 8 * 8), 1 << (height % 8)
                );
                root := CASE WHEN root IS NULL THEN subtree ELSE sha256('\\x01'::bytea || subtree || root) END;
            END IF;
        END LOOP;
        RETURN coalesce(root, sha256(''));
    END
    $$
    """,
    f"""
    CREATE FUNCTION number_audit_records(
        batch integer, left_out boolean, after_xid xid8, after_id uuid, after_phase text,
        OUT added bigint, OUT more boolean, OUT last_xid xid8, OUT last_id uuid, OUT last_phase text,
        OUT size bigint, OUT root bytea, OUT signed boolean
    ) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    #variable_conflict use_variable
    DECLARE
        head audit_head;
        told record;
        start CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    BEGIN
        IF batch < 1 THEN
            RAISE check_violation USING MESSAGE = 'a batch has a record at least';
        END IF;
        SELECT kept.* INTO STRICT head FROM audit_head AS kept;
        IF left_out THEN
            {_numbering(f"{_SETTLED} OR {_YET_TO_COME}")}
        ELSE
            after_xid := head.xid;
            after_id := head.action_id;
            after_phase := head.phase;
            {_numbering(_SETTLED)}
        END IF;
        added := told.added;
        more := true;
        IF told.added = batch THEN  -- it may have left records of its last transaction behind
            last_xid := told.xid;
            last_id := told.action_id;
            last_phase := told.phase;
        ELSIF told.more THEN
            last_xid := told.bound;
            last_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
            last_phase := '~';
        ELSE
            more := false;
            last_xid := told.settled;
            last_id := start;
            last_phase := '';
        END IF;
        size := head.size + added;
        root := head.root;
        IF added > 0 THEN
            FOR level IN 1..7 LOOP
                FOR place IN (head.size >> (8 * level))..(size >> (8 * level)) - 1 LOOP
                    INSERT INTO audit_node VALUES (level, place, audit_subtree(level - 1, place * 256, 256));
                END LOOP;
            END LOOP;
            root := audit_root(size);
        END IF;
        IF (added > 0 OR more) AND NOT left_out THEN
            UPDATE audit_head AS kept
            SET size = number_audit_records.size, root = number_audit_records.root,
                xid = last_xid, action_id = last_id, phase = last_phase
            WHERE kept.size = head.size;
        ELSIF left_out AND (added > 0 OR head.xid > told.settled) THEN
            -- Whoever calls says where to look, so how far all is numbered is not to be taken from it. No place lies
            -- beyond the counter: the transaction of a restored record says nothing of this cluster's.
            UPDATE audit_head AS kept
            SET size = number_audit_records.size, root = number_audit_records.root,
                xid = least(head.xid, told.settled),
                action_id = CASE WHEN head.xid > told.settled THEN start ELSE head.action_id END,
                phase = CASE WHEN head.xid > told.settled THEN '' ELSE head.phase END
            WHERE kept.size = head.size;
        END IF;
        signed := EXISTS (SELECT FROM audit_checkpoint AS last WHERE last.size = number_audit_records.size);
    END
    $$
    """,  # noqa: S608
    """
    CREATE FUNCTION add_audit_checkpoint(note text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DECLARE
        head audit_head;
        origin text;
        told text;
    BEGIN
        SELECT kept.* INTO STRICT head FROM audit_head AS kept;
        SELECT log.origin INTO STRICT origin FROM audit_log AS log;
        told := format(E'%s\\n%s\\n%s\\n\\n', origin, head.size, encode(head.root, 'base64'));
        IF head.size = 0 OR NOT starts_with(note, told) OR length(note) > 16384 THEN
            RAISE check_violation USING MESSAGE = 'this is no checkpoint of the tree as it stands';
        END IF;
        INSERT INTO audit_checkpoint (size, root, note) VALUES (head.size, head.root, note);
    END
    $$
    """,
    "REVOKE ALL ON FUNCTION number_audit_records, add_audit_checkpoint FROM PUBLIC",
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
        endorsement TEXT,
        PRIMARY KEY (id),
        CONSTRAINT uq_audit_key__public_key UNIQUE (public_key)
    )
    """,
    "ALTER TABLE subject_key ADD COLUMN erased_at TIMESTAMP WITH TIME ZONE",
)


def upgrade() -> None:
    for statement in (*PARTITIONS, *TREE, *GROWTH, *KEYS):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("a tree that was signed is not taken down")
