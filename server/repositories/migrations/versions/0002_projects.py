"""Projects get what domains have: a type, caps, lists; and users are found by an e-mail address in any case.

Revision 0002; it follows 0001.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE project
            ADD COLUMN type TEXT DEFAULT 'general' NOT NULL,
            ADD COLUMN total_resource_slots JSONB DEFAULT '{}' NOT NULL,
            ADD COLUMN allowed_vfolder_hosts TEXT[] DEFAULT '{}' NOT NULL,
            ADD COLUMN allowed_docker_registries TEXT[] DEFAULT '{}' NOT NULL,
            ADD COLUMN integration_id TEXT
    """)
    op.execute("CREATE INDEX ix_users__email ON users (lower(email))")


def downgrade() -> None:
    op.execute("DROP INDEX ix_users__email")
    op.execute("""
        ALTER TABLE project
            DROP COLUMN type,
            DROP COLUMN total_resource_slots,
            DROP COLUMN allowed_vfolder_hosts,
            DROP COLUMN allowed_docker_registries,
            DROP COLUMN integration_id
    """)
