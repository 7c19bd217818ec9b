"""The first schema: entities, policy versions, the audit log, and the triggers that tell of what changed.

Plain SQL, so that it says the same forever. Revision 0001; it follows nothing.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _trigger(table: str, word: str, key: str, events: str) -> str:
    return f"""
    CREATE TRIGGER tell_change AFTER {events} ON {table}
    FOR EACH ROW EXECUTE FUNCTION tell_change('{word}', '{key}')
    """


TABLES = (
    """
    CREATE TABLE audit_record (
        action_id UUID NOT NULL,
        phase TEXT NOT NULL,
        at TIMESTAMP WITH TIME ZONE NOT NULL,
        action TEXT NOT NULL,
        result TEXT NOT NULL,
        principal TEXT NOT NULL,
        principal_id UUID,
        request_id TEXT NOT NULL,
        scope_type TEXT NOT NULL,
        scope_domain_id UUID,
        scope_project_id UUID,
        scope_user_id UUID,
        target_id TEXT,
        target_domain_id UUID,
        target_project_id UUID,
        target_user_id UUID,
        rule TEXT,
        policy TEXT,
        leaf BYTEA NOT NULL,
        sealed BYTEA,
        xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
        PRIMARY KEY (action_id, phase)
    )
    """,
    "CREATE INDEX ix_audit_record__intent ON audit_record (at) WHERE phase = 'intent'",
    """
    CREATE INDEX ix_audit_record__search ON audit_record USING brin (
        at timestamptz_minmax_ops,
        principal_id uuid_bloom_ops,
        target_id text_bloom_ops,
        scope_domain_id uuid_bloom_ops,
        target_domain_id uuid_bloom_ops
    ) WITH (autosummarize = true)
    """,
    """
    CREATE TABLE domain (
        id UUID NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        version INTEGER DEFAULT 1 NOT NULL,
        name TEXT NOT NULL,
        description TEXT DEFAULT '' NOT NULL,
        is_default BOOLEAN DEFAULT false NOT NULL,
        total_resource_slots JSONB DEFAULT '{}' NOT NULL,
        allowed_vfolder_hosts TEXT[] DEFAULT '{}' NOT NULL,
        allowed_docker_registries TEXT[] DEFAULT '{}' NOT NULL,
        integration_id TEXT,
        PRIMARY KEY (id),
        CONSTRAINT uq_domain__name UNIQUE (name)
    )
    """,
    """
    CREATE TABLE policy_version (
        digest TEXT NOT NULL,
        files JSONB NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        refused BOOLEAN DEFAULT false NOT NULL,
        PRIMARY KEY (digest)
    )
    """,
    """
    CREATE TABLE request_signature (
        digest BYTEA NOT NULL,
        at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (digest)
    )
    """,
    "CREATE INDEX ix_request_signature__at ON request_signature USING brin (at) WITH (autosummarize = true)",
    """
    CREATE TABLE subject_key (
        subject_id UUID NOT NULL,
        wrapped BYTEA NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (subject_id)
    )
    """,
    """
    CREATE TABLE policy_activation (
        id UUID NOT NULL,
        digest TEXT NOT NULL,
        at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        by TEXT NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(digest) REFERENCES policy_version (digest)
    )
    """,
    "CREATE INDEX ix_policy_activation__at ON policy_activation (at)",
    """
    CREATE TABLE project (
        id UUID NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        version INTEGER DEFAULT 1 NOT NULL,
        domain_id UUID NOT NULL,
        name TEXT NOT NULL,
        description TEXT DEFAULT '' NOT NULL,
        is_default BOOLEAN DEFAULT false NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT uq_project__domain_id__name UNIQUE (domain_id, name),
        FOREIGN KEY(domain_id) REFERENCES domain (id)
    )
    """,
    """
    CREATE TABLE users (
        id UUID NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        version INTEGER DEFAULT 1 NOT NULL,
        domain_id UUID NOT NULL,
        username TEXT NOT NULL,
        email TEXT NOT NULL,
        full_name TEXT DEFAULT '' NOT NULL,
        description TEXT DEFAULT '' NOT NULL,
        status TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        need_password_change BOOLEAN DEFAULT false NOT NULL,
        password_changed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        allowed_client_ip TEXT[] DEFAULT '{}' NOT NULL,
        sudo_session_enabled BOOLEAN DEFAULT false NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT uq_users__domain_id__username UNIQUE (domain_id, username),
        CONSTRAINT uq_users__domain_id__email UNIQUE (domain_id, email),
        FOREIGN KEY(domain_id) REFERENCES domain (id)
    )
    """,
    "CREATE INDEX ix_users__created_at ON users (created_at, id)",
    """
    CREATE TABLE keypair (
        id UUID NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        version INTEGER DEFAULT 1 NOT NULL,
        user_id UUID NOT NULL,
        domain_id UUID NOT NULL,
        access_key TEXT NOT NULL,
        sealed_secret BYTEA NOT NULL,
        is_active BOOLEAN DEFAULT true NOT NULL,
        is_default BOOLEAN DEFAULT false NOT NULL,
        rate_limit INTEGER DEFAULT 30000 NOT NULL,
        num_queries BIGINT DEFAULT 0 NOT NULL,
        last_used TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id),
        CONSTRAINT uq_keypair__access_key UNIQUE (access_key),
        FOREIGN KEY(user_id) REFERENCES users (id),
        FOREIGN KEY(domain_id) REFERENCES domain (id)
    )
    """,
    "CREATE INDEX ix_keypair__domain_id ON keypair (domain_id)",
    "CREATE INDEX ix_keypair__user_id ON keypair (user_id)",
    """
    CREATE TABLE role_binding (
        id UUID NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        version INTEGER DEFAULT 1 NOT NULL,
        user_id UUID NOT NULL,
        role TEXT NOT NULL,
        scope_type TEXT NOT NULL,
        domain_id UUID,
        project_id UUID,
        expires_at TIMESTAMP WITH TIME ZONE,
        granted_by UUID,
        PRIMARY KEY (id),
        FOREIGN KEY(user_id) REFERENCES users (id),
        FOREIGN KEY(domain_id) REFERENCES domain (id),
        FOREIGN KEY(project_id) REFERENCES project (id)
    )
    """,
    "CREATE INDEX ix_role_binding__domain_id ON role_binding (domain_id)",
    "CREATE INDEX ix_role_binding__project_id ON role_binding (project_id)",
    "CREATE INDEX ix_role_binding__user_id ON role_binding (user_id)",
    """
    CREATE UNIQUE INDEX uq_role_binding__role
    ON role_binding (user_id, role, scope_type, domain_id, project_id) NULLS NOT DISTINCT WHERE deleted_at IS NULL
    """,
)

# Whoever changes a scope, a binding, a credential or the policy tells every worker, inside the change's transaction.
# The sequence moves too: a worker that sees it move without hearing a word knows that it missed one.
TELLING = (
    "CREATE SEQUENCE directory_version",
    """
    CREATE FUNCTION tell_change() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        row_told record := COALESCE(NEW, OLD);
        word text := TG_ARGV[0] || ':' || (to_jsonb(row_told) ->> TG_ARGV[1]);
    BEGIN
        PERFORM nextval('directory_version');
        PERFORM pg_notify('chamberlain_changed', word);
        RETURN NULL;
    END
    $$
    """,
    _trigger("domain", "domain", "id", "UPDATE OF deleted_at OR DELETE"),
    _trigger("project", "project", "id", "UPDATE OF deleted_at OR DELETE"),
    _trigger("users", "user", "id", "UPDATE OF deleted_at, status, allowed_client_ip OR DELETE"),
    _trigger("keypair", "credential", "access_key", "UPDATE OF deleted_at, is_active, sealed_secret OR DELETE"),
    _trigger("role_binding", "bindings", "user_id", "INSERT OR UPDATE OR DELETE"),
    _trigger("policy_activation", "policy", "digest", "INSERT"),
)

# Whatever role the application runs as, even the tables' owner: a record is never changed and never removed by a slip.
APPEND_ONLY = (
    """
    CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit log is only ever appended to' USING ERRCODE = 'insufficient_privilege';
    END
    $$
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_record
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting()
    """,
)


def upgrade() -> None:
    for statement in (*TABLES, *TELLING, *APPEND_ONLY):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the first schema has nothing before it; drop the database instead")
