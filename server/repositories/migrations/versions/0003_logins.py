"""Logins and the keys that bearer tokens are signed with, and the triggers that tell of both."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE login (
        id UUID NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        version INTEGER DEFAULT 1 NOT NULL,
        user_id UUID NOT NULL,
        domain_id UUID NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
        refreshed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        client_address TEXT NOT NULL,
        client_network TEXT NOT NULL,
        refresh_digest BYTEA NOT NULL,
        family_digest BYTEA NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(user_id) REFERENCES users (id),
        FOREIGN KEY(domain_id) REFERENCES domain (id)
    )
    """,
    "CREATE INDEX ix_login__user_id ON login (user_id)",
    "CREATE INDEX ix_login__domain_id ON login (domain_id)",
    "CREATE INDEX ix_login__expires_at ON login (expires_at)",
    """
    CREATE TABLE signing_key (
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
    """
    CREATE TRIGGER tell_change AFTER UPDATE OF deleted_at OR DELETE ON login
    FOR EACH ROW EXECUTE FUNCTION tell_change('login', 'id')
    """,
    """
    CREATE TRIGGER tell_change AFTER INSERT OR UPDATE OR DELETE ON signing_key
    FOR EACH ROW EXECUTE FUNCTION tell_change('signing_key', 'id')
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("login", "signing_key"):
        op.execute(f"DROP TABLE {table}")
