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
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("where a part of the log has gone is not forgotten")
