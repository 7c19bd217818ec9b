"""The tables, stated once in SQLAlchemy Core. The migrations make them; a test holds the two equal.

Every kept thing has the columns of ``_kept``. Unique constraints are named ``uq_<table>__<column>``: the part after
the last ``__`` is what a clash is reported by.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.schema import SchemaItem

from audit.log import metadata
from audit.tree import audit_leaves  # noqa: F401 - states the tables of the tree in `metadata`

_TIME = DateTime(timezone=True)


def _kept(name: str, *columns: SchemaItem) -> Table:
    return Table(
        name,
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("created_at", _TIME, nullable=False, server_default=func.now()),
        Column("updated_at", _TIME, nullable=False, server_default=func.now()),
        Column("deleted_at", _TIME),
        Column("version", Integer, nullable=False, server_default=text("1")),
        *columns,
    )


def _resources() -> tuple[SchemaItem, ...]:
    """What a domain and a project are given from above."""
    return (
        Column("total_resource_slots", JSONB, nullable=False, server_default=text("'{}'")),
        Column("allowed_vfolder_hosts", ARRAY(Text), nullable=False, server_default=text("'{}'")),
        Column("allowed_docker_registries", ARRAY(Text), nullable=False, server_default=text("'{}'")),
        Column("integration_id", Text),
    )


domains = _kept(
    "domain",
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("is_default", Boolean, nullable=False, server_default=text("false")),
    *_resources(),
    UniqueConstraint("name", name="uq_domain__name"),
)

projects = _kept(
    "project",
    Column("domain_id", Uuid, ForeignKey("domain.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("type", Text, nullable=False, server_default="general"),
    Column("is_default", Boolean, nullable=False, server_default=text("false")),
    *_resources(),
    UniqueConstraint("domain_id", "name", name="uq_project__domain_id__name"),
)

users = _kept(
    "users",
    Column("domain_id", Uuid, ForeignKey("domain.id"), nullable=False),
    Column("username", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("full_name", Text, nullable=False, server_default=""),
    Column("description", Text, nullable=False, server_default=""),
    Column("status", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("need_password_change", Boolean, nullable=False, server_default=text("false")),
    Column("password_changed_at", _TIME, nullable=False, server_default=func.now()),
    Column("allowed_client_ip", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("sudo_session_enabled", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("domain_id", "username", name="uq_users__domain_id__username"),
    UniqueConstraint("domain_id", "email", name="uq_users__domain_id__email"),
    Index("ix_users__created_at", "created_at", "id"),
    Index("ix_users__email", text("lower(email)")),
)

keypairs = _kept(
    "keypair",
    Column("user_id", Uuid, ForeignKey("users.id"), nullable=False),
    Column("domain_id", Uuid, ForeignKey("domain.id"), nullable=False),
    Column("access_key", Text, nullable=False),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("is_default", Boolean, nullable=False, server_default=text("false")),
    Column("rate_limit", Integer, nullable=False, server_default=text("30000")),
    Column("num_queries", BigInteger, nullable=False, server_default=text("0")),
    Column("last_used", _TIME),
    UniqueConstraint("access_key", name="uq_keypair__access_key"),
    Index("ix_keypair__user_id", "user_id"),
    Index("ix_keypair__domain_id", "domain_id"),
)

logins = _kept(
    "login",
    Column("user_id", Uuid, ForeignKey("users.id"), nullable=False),
    Column("domain_id", Uuid, ForeignKey("domain.id"), nullable=False),
    Column("expires_at", _TIME, nullable=False),
    Column("refreshed_at", _TIME, nullable=False, server_default=func.now()),
    Column("client_address", Text, nullable=False),
    Column("client_network", Text, nullable=False),
    Column("refresh_digest", LargeBinary, nullable=False),
    Column("family_digest", LargeBinary, nullable=False),
    Index("ix_login__user_id", "user_id"),
    Index("ix_login__domain_id", "domain_id"),
    Index("ix_login__expires_at", "expires_at"),
)
"""Digests are SHA-256 of the two halves of a refresh token: its own, and that of every token of the login."""

signing_keys = _kept(
    "signing_key",
    Column("public_key", Text, nullable=False),
    Column("sealed_private_key", LargeBinary, nullable=False),
    Column("not_after", _TIME),
)
"""A key that signs no more has lost its private half: the column is empty then."""

audit_keys = _kept(
    "audit_key",
    Column("public_key", Text, nullable=False),
    Column("sealed_private_key", LargeBinary, nullable=False),
    Column("not_after", _TIME),
    Column("endorsement", Text),
    UniqueConstraint("public_key", name="uq_audit_key__public_key"),
)
"""What checkpoints of the audit log are signed with. One that signs no more has lost its private half. Each but the
first bears the note by which those before it vouch for it; a row without one is not believed."""

role_bindings = _kept(
    "role_binding",
    Column("user_id", Uuid, ForeignKey("users.id"), nullable=False),
    Column("role", Text, nullable=False),
    Column("scope_type", Text, nullable=False),
    Column("domain_id", Uuid, ForeignKey("domain.id")),
    Column("project_id", Uuid, ForeignKey("project.id")),
    Column("expires_at", _TIME),
    Column("granted_by", Uuid),
    Index("ix_role_binding__user_id", "user_id"),
    Index("ix_role_binding__domain_id", "domain_id"),
    Index("ix_role_binding__project_id", "project_id"),
    Index(
        "uq_role_binding__role",
        "user_id",
        "role",
        "scope_type",
        "domain_id",
        "project_id",
        unique=True,
        postgresql_where=text("deleted_at IS NULL"),
        postgresql_nulls_not_distinct=True,
    ),
)
"""The scope is ``project_id``, else ``domain_id``, else admin; a binding in a project carries its domain too."""

policy_versions = Table(
    "policy_version",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("files", JSONB, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Column("refused", Boolean, nullable=False, server_default=text("false")),
    Column("signature", Text),
    Column("signed_by", Text),
    Column("uploaded_by", Text),
    Column("upload_reason", Text),
)

policy_activations = Table(
    "policy_activation",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("digest", Text, ForeignKey("policy_version.digest"), nullable=False),
    Column("at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("kind", Text, nullable=False, server_default="published"),
    Index("ix_policy_activation__at", "at"),
    Index("ix_policy_activation__digest", "digest", "at"),
)
"""Which version was made active when, by whom and why. The latest row is the active pointer."""

access_history = Table(
    "access_history",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("kind", Text, nullable=False),
    Column("subject_id", Uuid, nullable=False),
    Column("in_force", Boolean, nullable=False),
    Column("domain_id", Uuid),
    Column("project_id", Uuid),
    Column("user_id", Uuid),
    Column("role", Text),
    Column("expires_at", _TIME),
    Column("name", Text),
    Index("ix_access_history__subject_id", "subject_id", "kind", "id"),
    Index("ix_access_history__domain_id", "domain_id", "project_id", postgresql_where=text("kind = 'binding'")),
    Index("ix_access_history__name", "name", postgresql_where=text("kind = 'domain'")),
)
"""Each state of a ``binding``, ``user``, ``project`` or ``domain``, and since when; written by triggers alone. A row of
the kind ``beginning`` says since when there is a history."""
policy_shadows = Table(
    "policy_shadow",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("digest", Text, ForeignKey("policy_version.digest"), nullable=False),
    Column("at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended_at", _TIME),
    Column("ended_by", Text),
    Column("ended_reason", Text),
    *(
        Column(counted, BigInteger, nullable=False, server_default=text("0"))
        for counted in ("compared", "gained", "lost", "failed")
    ),
    Index("ix_policy_shadow__at", "at"),
)
"""Which version was asked beside the active one, from when to when. At most one has no end: that one is asked now."""

policy_shadow_differences = Table(
    "policy_shadow_difference",
    metadata,
    Column("shadow_id", Uuid, ForeignKey("policy_shadow.id"), primary_key=True),
    Column("active", Text, primary_key=True),
    Column("roles", Text, primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("entity", Text, primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("gain", Boolean, primary_key=True),
    Column("active_rule", Text),
    Column("candidate_rule", Text),
    Column("count", BigInteger, nullable=False),
    Column("first_at", _TIME, nullable=False),
    Column("last_at", _TIME, nullable=False),
    Column("last_principal", Text, nullable=False),
)
"""Roles are in the order of their names, joined by ``+``."""

request_signatures = Table(
    "request_signature",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("at", _TIME, nullable=False, server_default=func.now()),
    Index("ix_request_signature__at", "at", postgresql_using="brin", postgresql_with={"autosummarize": True}),
)

audit_archives = _kept(
    "audit_archive",
    Column("partition", Text, nullable=False),
    Column("first_id", Uuid, nullable=False),
    Column("end_id", Uuid, nullable=False),
    Column("since", _TIME),
    Column("until", _TIME, nullable=False),
    Column("first_index", BigInteger, nullable=False),
    Column("end_index", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("location", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("checkpoint", BigInteger, nullable=False),
    Column("account", Text, nullable=False),
)
"""Where a partition of the log is kept, written before it is dropped and never changed. Whether it has been dropped is
not written: it is gone, or it is there."""

subject_keys = Table(
    "subject_key",
    metadata,
    Column("subject_id", Uuid, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Column("erased_at", _TIME),
)
"""A person who was erased keeps a row, without a key: so that none is made again."""
