"""``migrate``: the one way a database gets its schema, at the start of the server and in tests.

Runs as the migrator, which owns the tables. The application's role is then given what it needs and no more: the audit
log it may add to and read, and the tree over it read and have grown, nothing else. A migration that changed something
is itself recorded.
"""

import uuid
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

import server.repositories.rows  # noqa: F401 - states the tables in `metadata`
from audit.log import INSERT_MANY, columns_of, metadata
from audit.record import VERSION, Columns, Phase, Record, canonical, new_id
from server.repositories.database import COMMITS, CONNECT_SECONDS
from server.repositories.migrations.partitions import make_ahead

OLDEST_SERVER = 170000
_DURABLE = ("fsync", "full_page_writes")
"""Settings of the whole server without which no commit is a promise. A session cannot set them for itself."""
_ADVISORY_LOCK = 0x6D_69_67
_APPEND_ONLY = ("audit_record", "audit_cosignature", "audit_archive")
_ONLY_READ = ("access_history", "audit_log", "audit_leaf", "audit_node", "audit_checkpoint", "audit_head")
_KEYS, _CHANGED_KEYS = "audit_key", "not_after, sealed_private_key, version, updated_at"
_CALLED = ("number_audit_records", "add_audit_checkpoint")
_ACTION = "migrate_schema"
_RECORDED = """
    SELECT EXISTS (SELECT FROM audit_record WHERE action = $1 AND target_id = $2)
    OR ($3 AND EXISTS (SELECT FROM audit_archive))
"""


class SchemaError(RuntimeError):
    """The database cannot be brought to this program's schema, or is none to keep a log in; the message says why and
    what to do."""


async def migrate(migrator_url: str, application_role: str) -> str:
    """Bring the database up to date; returns the revision. Two servers that start at once take turns."""
    async with _engine(migrator_url).connect() as connection:
        number = (await connection.exec_driver_sql("SHOW server_version_num")).scalar_one()
        if int(number) < OLDEST_SERVER:
            version = (await connection.exec_driver_sql("SHOW server_version")).scalar_one()
            raise SchemaError(f"PostgreSQL {OLDEST_SERVER // 10000} or newer is needed; this server is {version}")
        for setting in _DURABLE:
            if (await connection.exec_driver_sql(f"SHOW {setting}")).scalar_one() != "on":
                raise SchemaError(
                    f"PostgreSQL runs with {setting} = off, so what it has committed may be gone after a crash;"
                    f" set {setting} = on in its configuration"
                )
        await connection.exec_driver_sql(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})")
        await connection.commit()
        before, after = await connection.run_sync(_upgrade)
        plain = await asyncpg.connect(migrator_url, timeout=CONNECT_SECONDS, server_settings=dict(COMMITS))
        try:
            # Looked for, not inferred from what was just done: a start that broke off here is made good by the next.
            # What was recorded long ago may have been dropped with the partition that it lay in.
            if not await plain.fetchval(_RECORDED, _ACTION, after, before == after):
                await plain.execute(INSERT_MANY, *columns_of([_event(before, after)]))
            await make_ahead(plain)
            await plain.execute(_grants(application_role, owner=await plain.fetchval("SELECT current_user")))
        except asyncpg.UndefinedTableError as error:
            raise SchemaError(f"no migration makes a table that the program states: {error}") from error
        except asyncpg.UndefinedObjectError as error:
            raise SchemaError(f"the application's rights cannot be granted: {error}") from error
        finally:
            await plain.close()
    return after


def _upgrade(connection: Connection) -> tuple[str | None, str]:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    before = MigrationContext.configure(connection).get_current_revision()
    connection.commit()
    try:
        command.upgrade(config, "head")
    except (CommandError, ProgrammingError) as error:
        told = error.orig if isinstance(error, ProgrammingError) else error
        raise SchemaError(f"the database's schema is not one of this program's: {told}") from error
    connection.commit()
    after = MigrationContext.configure(connection).get_current_revision()
    connection.commit()
    return before, str(after)


def _grants(role: str, owner: str) -> str:
    """The application's rights, stated anew at every start. An owner cannot be narrowed; it is told apart."""
    if role == owner:
        return "SELECT 1"
    kept = (*_APPEND_ONLY, *_ONLY_READ, _KEYS)
    quoted = '"' + role.replace('"', '""') + '"'
    tables = ", ".join(table.name for table in metadata.sorted_tables if table.name not in kept)
    append_only, only_read = ", ".join(_APPEND_ONLY), ", ".join(_ONLY_READ)
    return f"""
        GRANT USAGE ON SCHEMA public TO {quoted};
        GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {quoted};
        REVOKE UPDATE, DELETE ON subject_key FROM {quoted};
        GRANT UPDATE (wrapped, created_at, erased_at) ON subject_key TO {quoted};
        REVOKE ALL ON {append_only} FROM {quoted};
        GRANT SELECT, INSERT ON {append_only} TO {quoted};
        REVOKE ALL ON {only_read} FROM {quoted};
        GRANT SELECT ON {only_read} TO {quoted};
        REVOKE ALL ON {_KEYS} FROM {quoted};
        GRANT SELECT, INSERT, UPDATE ({_CHANGED_KEYS}) ON {_KEYS} TO {quoted};
        GRANT EXECUTE ON FUNCTION {", ".join(_CALLED)} TO {quoted};
        GRANT USAGE, SELECT ON SEQUENCE directory_version TO {quoted};
        GRANT SELECT ON alembic_version TO {quoted};
    """  # noqa: S608


def _event(before: str | None, after: str) -> Record:
    """A migration's one event record, written after it committed."""
    action_id, at = new_id(), datetime.now(UTC)
    columns = Columns(
        action_id, Phase.DONE, at, _ACTION, "succeeded", "system:migrator", scope_type="admin", target_id=after
    )
    told = {
        "v": VERSION,
        "id": str(action_id),
        "phase": Phase.DONE,
        "at": at,
        "action": _ACTION,
        "result": "succeeded",
        "principal": {"kind": "system", "name": "system:migrator", "credential": None},
        "target": {"id": after, "lineage": {}},
        "changes": [{"field": "revision", "old": before, "new": after}],
        "salt": uuid.uuid4().hex,
        "sealed": [],
    }
    return Record(columns, canonical(told), None)


def _engine(url: str) -> AsyncEngine:
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        poolclass=NullPool,
        connect_args={"server_settings": dict(COMMITS)},
    )
