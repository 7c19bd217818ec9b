"""Shadows of the active policy version, and where they would have decided otherwise.

Revision 0005; it follows 0004.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE policy_shadow (
        id UUID NOT NULL,
        digest TEXT NOT NULL,
        at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        by TEXT NOT NULL,
        reason TEXT NOT NULL,
        ended_at TIMESTAMP WITH TIME ZONE,
        ended_by TEXT,
        ended_reason TEXT,
        compared BIGINT DEFAULT 0 NOT NULL,
        gained BIGINT DEFAULT 0 NOT NULL,
        lost BIGINT DEFAULT 0 NOT NULL,
        failed BIGINT DEFAULT 0 NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(digest) REFERENCES policy_version (digest)
    )
    """,
    "CREATE INDEX ix_policy_shadow__at ON policy_shadow (at)",
    """
    CREATE TABLE policy_shadow_difference (
        shadow_id UUID NOT NULL,
        active TEXT NOT NULL,
        roles TEXT NOT NULL,
        scope TEXT NOT NULL,
        entity TEXT NOT NULL,
        operation TEXT NOT NULL,
        gain BOOLEAN NOT NULL,
        active_rule TEXT,
        candidate_rule TEXT,
        count BIGINT NOT NULL,
        first_at TIMESTAMP WITH TIME ZONE NOT NULL,
        last_at TIMESTAMP WITH TIME ZONE NOT NULL,
        last_principal TEXT NOT NULL,
        PRIMARY KEY (shadow_id, active, roles, scope, entity, operation, gain),
        FOREIGN KEY(shadow_id) REFERENCES policy_shadow (id)
    )
    """,
    """
    CREATE TRIGGER tell_change AFTER INSERT OR UPDATE OF ended_at OR DELETE ON policy_shadow
    FOR EACH ROW EXECUTE FUNCTION tell_change('shadow', 'id')
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("policy_shadow_difference", "policy_shadow"):
        op.execute(f"DROP TABLE {table}")
