"""What leaves the log: where a partition that was dropped is kept, and the word that tells of an erased key.

Revision 0009; it follows 0008.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE audit_archive (
        id UUID NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        version INTEGER DEFAULT 1 NOT NULL,
        partition TEXT NOT NULL,
        first_id UUID NOT NULL,
        end_id UUID NOT NULL,
        since TIMESTAMP WITH TIME ZONE,
        until TIMESTAMP WITH TIME ZONE NOT NULL,
        first_index BIGINT NOT NULL,
        end_index BIGINT NOT NULL,
        records BIGINT NOT NULL,
        location TEXT NOT NULL,
        digest TEXT NOT NULL,
        checkpoint BIGINT NOT NULL,
        account TEXT NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_archive
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting()
    """,
    """
    CREATE TRIGGER tell_change AFTER UPDATE OR DELETE ON subject_key
    FOR EACH ROW EXECUTE FUNCTION tell_change('subject', 'subject_id')
    """,
    # Whoever takes a person's key away or puts another in its place blinds the log: that is in the log, or it is not
    # done. Looked at when the transaction commits, for its record is the last that is written into it. A key is never
    # born empty either: nothing would ever be kept of whoever it is for.
    """
    CREATE FUNCTION refuse_unrecorded_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            IF NEW.wrapped <> '' AND NEW.erased_at IS NULL THEN
                RETURN NULL;
            END IF;
        ELSIF NEW IS NOT DISTINCT FROM OLD THEN
            RETURN NULL;
        ELSIF EXISTS (
            SELECT FROM audit_record WHERE xid = pg_current_xact_id() AND (
                (action = 'admin_erase_audit_subject' AND target_id = NEW.subject_id::text)
                OR (action = 'admin_reseal_installation' AND NEW.wrapped <> '' AND OLD.wrapped <> ''
                    AND (NEW.created_at, NEW.erased_at) IS NOT DISTINCT FROM (OLD.created_at, OLD.erased_at))
            )
        ) THEN
            RETURN NULL;
        END IF;
        RAISE EXCEPTION 'a key of what the audit log says of somebody changes only with a record of it'
            USING ERRCODE = 'insufficient_privilege';
    END
    $$
    """,
    """
    CREATE CONSTRAINT TRIGGER only_with_a_record AFTER INSERT OR UPDATE ON subject_key
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_unrecorded_erasure()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("where a part of the log has gone is not forgotten")
