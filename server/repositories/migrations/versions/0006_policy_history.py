"""The history of policies tells how each version came to be active; a version tells who signed it and who stored it.

Revision 0006; it follows 0005.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE policy_version
            ADD COLUMN signature TEXT,
            ADD COLUMN signed_by TEXT,
            ADD COLUMN uploaded_by TEXT,
            ADD COLUMN upload_reason TEXT
    """)
    op.execute("ALTER TABLE policy_activation ADD COLUMN kind TEXT DEFAULT 'published' NOT NULL")
    # Until now, whoever activated a version by name went back to it; the folder's were done by the system.
    op.execute("UPDATE policy_activation SET kind = 'activated' WHERE by NOT LIKE 'system:%'")
    op.execute("CREATE INDEX ix_policy_activation__digest ON policy_activation (digest, at)")


def downgrade() -> None:
    op.execute("DROP INDEX ix_policy_activation__digest")
    op.execute("ALTER TABLE policy_activation DROP COLUMN kind")
    op.execute("""
        ALTER TABLE policy_version
            DROP COLUMN signature, DROP COLUMN signed_by, DROP COLUMN uploaded_by, DROP COLUMN upload_reason
    """)
