"""Who held what, and what was in force, at any moment from now on: a history that triggers keep.

Written by triggers and by nothing else: whatever changes a binding, a user, a project or a domain leaves a row, in the
same transaction. What was before this revision is not made up: the history begins with what holds now.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE access_history (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        kind TEXT NOT NULL,
        subject_id UUID NOT NULL,
        in_force BOOLEAN NOT NULL,
        domain_id UUID,
        project_id UUID,
        user_id UUID,
        role TEXT,
        expires_at TIMESTAMP WITH TIME ZONE,
        name TEXT,
        PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX ix_access_history__subject_id ON access_history (subject_id, kind, id)",
    "CREATE INDEX ix_access_history__domain_id ON access_history (domain_id, project_id) WHERE kind = 'binding'",
    "CREATE INDEX ix_access_history__name ON access_history (name) WHERE kind = 'domain'",
    """
    CREATE FUNCTION keep_access_history() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public AS $$
    DECLARE
        told jsonb := to_jsonb(COALESCE(NEW, OLD));
        kind text := TG_ARGV[0];
    BEGIN
        INSERT INTO access_history (kind, subject_id, in_force, domain_id, project_id, user_id, role, expires_at, name)
        VALUES (
            kind,
            (told ->> 'id')::uuid,
            TG_OP <> 'DELETE' AND told ->> 'deleted_at' IS NULL AND (kind <> 'user' OR told ->> 'status' = 'active'),
            (told ->> 'domain_id')::uuid,
            (told ->> 'project_id')::uuid,
            (told ->> 'user_id')::uuid,
            told ->> 'role',
            (told ->> 'expires_at')::timestamptz,
            CASE WHEN kind = 'domain' THEN told ->> 'name' END
        );
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION refuse_rewriting_history() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the history of access is only ever appended to' USING ERRCODE = 'insufficient_privilege';
    END
    $$
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON access_history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting_history()
    """,
    *(
        f"""
        CREATE TRIGGER keep_access_history AFTER INSERT OR UPDATE OF {columns} OR DELETE ON {table}
        FOR EACH ROW EXECUTE FUNCTION keep_access_history('{kind}')
        """
        for table, kind, columns in (
            ("role_binding", "binding", "deleted_at, expires_at"),
            ("users", "user", "deleted_at, status"),
            ("project", "project", "deleted_at"),
            ("domain", "domain", "deleted_at"),
        )
    ),
    """
    INSERT INTO access_history (kind, subject_id, in_force)
    VALUES ('beginning', '00000000-0000-0000-0000-000000000000', true)
    """,
    """
    INSERT INTO access_history (kind, subject_id, in_force, name)
    SELECT 'domain', id, deleted_at IS NULL, name FROM domain ORDER BY id
    """,
    """
    INSERT INTO access_history (kind, subject_id, in_force, domain_id)
    SELECT 'project', id, deleted_at IS NULL, domain_id FROM project ORDER BY id
    """,
    """
    INSERT INTO access_history (kind, subject_id, in_force, domain_id)
    SELECT 'user', id, deleted_at IS NULL AND status = 'active', domain_id FROM users ORDER BY id
    """,
    """
    INSERT INTO access_history (kind, subject_id, in_force, domain_id, project_id, user_id, role, expires_at)
    SELECT 'binding', id, deleted_at IS NULL, domain_id, project_id, user_id, role, expires_at
    FROM role_binding ORDER BY id
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("role_binding", "users", "project", "domain"):
        op.execute(f"DROP TRIGGER keep_access_history ON {table}")
    op.execute("DROP TABLE access_history")
    op.execute("DROP FUNCTION keep_access_history")
    op.execute("DROP FUNCTION refuse_rewriting_history")
