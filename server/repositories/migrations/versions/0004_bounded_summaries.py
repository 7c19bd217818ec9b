"""The summaries of the log get a bound, so that no range of it holds too many different values to be summarized.

Revision 0004; it follows 0003.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DROP INDEX ix_audit_record__search")
    op.execute("""
        CREATE INDEX ix_audit_record__search ON audit_record USING brin (
            at timestamptz_minmax_ops,
            principal_id uuid_bloom_ops (n_distinct_per_range = 500),
            target_id text_bloom_ops (n_distinct_per_range = 1000),
            scope_domain_id uuid_bloom_ops (n_distinct_per_range = 100),
            target_domain_id uuid_bloom_ops (n_distinct_per_range = 100)
        ) WITH (autosummarize = true)
    """)


def downgrade() -> None:
    op.execute("DROP INDEX ix_audit_record__search")
    op.execute("""
        CREATE INDEX ix_audit_record__search ON audit_record USING brin (
            at timestamptz_minmax_ops,
            principal_id uuid_bloom_ops,
            target_id text_bloom_ops,
            scope_domain_id uuid_bloom_ops,
            target_domain_id uuid_bloom_ops
        ) WITH (autosummarize = true)
    """)
