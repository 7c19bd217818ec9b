"""Migrations: they make the schema that the program states, take turns, and give the application what it needs."""

import asyncio
import warnings
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, Integer, MetaData, Table, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from audit.log import metadata
from server.embedded import DatabaseUrls
from server.repositories.migrations import migrate as migration
from server.repositories.migrations.migrate import SchemaError, migrate
from tests.world.stage import Stage

ROLE = "chamberlain_app"
TABLES = sorted(table.name for table in metadata.sorted_tables)


@pytest.fixture
async def empty(stage: Stage) -> AsyncIterator[DatabaseUrls]:
    """A database with nothing in it."""
    name = "empty_database"
    yield await stage.postgres.create_database(name)
    await stage.postgres.drop_database(name)


async def sql(url: str, statement: str, *arguments: object) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *arguments)]
    finally:
        await connection.close()


def stated_by_name(name: str | None, kind: str, _: object) -> bool:
    """Partitions are as the table that they are parts of."""
    return kind != "table" or not (name or "").startswith("audit_record_")


async def differences(url: str, stated: MetaData) -> list[Any]:
    """What Alembic would have to do to the database to make it what is stated."""

    def compare(connection: Connection) -> list[Any]:
        opts = {"compare_type": True, "compare_server_default": True, "include_name": stated_by_name}
        context = MigrationContext.configure(connection, opts=opts)
        return list(compare_metadata(context, stated))

    # SQLAlchemy knows no type of that name; the comparison passes over it.
    warnings.filterwarnings("ignore", "Did not recognize type 'xid8'")
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"), poolclass=NullPool)
    async with engine.connect() as connection:
        found: list[Any] = await connection.run_sync(compare)
    return found


async def test_the_migrated_schema_is_the_one_that_is_stated(empty: DatabaseUrls) -> None:
    await migrate(empty.migrator, ROLE)
    assert await differences(empty.migrator, metadata) == []
    another = MetaData()
    for table in metadata.sorted_tables:
        table.to_metadata(another)
    Table("domain", another, Column("surprise", Integer), extend_existing=True)
    assert [found[0] for found in await differences(empty.migrator, another)] == ["add_column"]


async def test_to_migrate_twice_is_harmless_and_recorded_once(empty: DatabaseUrls) -> None:
    first = await migrate(empty.migrator, ROLE)
    assert await migrate(empty.migrator, ROLE) == first
    records = "SELECT action, result, principal FROM audit_record"
    assert await sql(empty.migrator, records) == [("migrate_schema", "succeeded", "system:migrator")]


async def test_a_start_that_broke_off_before_its_record_is_made_good_by_the_next(
    empty: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*_: object) -> NoReturn:
        raise RuntimeError("the power is cut")

    with monkeypatch.context() as broken:
        broken.setattr(migration, "_event", power_cut)
        with pytest.raises(RuntimeError, match="power"):
            await migrate(empty.migrator, ROLE)
    assert await sql(empty.migrator, "SELECT count(*) FROM audit_record") == [(0,)]
    await migrate(empty.migrator, ROLE)
    assert await sql(empty.migrator, "SELECT count(*) FROM audit_record") == [(1,)]


async def test_migrations_at_the_same_time_take_turns(empty: DatabaseUrls) -> None:
    async with asyncio.timeout(30):
        done = await asyncio.gather(*(migrate(empty.migrator, ROLE) for _ in range(3)))
    assert len(set(done)) == 1
    assert await sql(empty.migrator, "SELECT count(*) FROM audit_record") == [(1,)]


async def test_the_application_may_add_to_the_log_and_read_it_and_nothing_else(empty: DatabaseUrls) -> None:
    await migrate(empty.migrator, ROLE)
    held = "SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = $1"
    rights: dict[str, set[str]] = {}
    for table, right in await sql(empty.migrator, held, ROLE):
        rights.setdefault(table, set()).add(right)
    proof = {"audit_record", "audit_cosignature", "audit_archive"}
    for table in proof:
        assert rights.pop(table) == {"SELECT", "INSERT"}, table
    read = {"access_history", "audit_log", "audit_leaf", "audit_node", "audit_checkpoint", "audit_head"}
    for table in (*read, "alembic_version"):
        assert rights.pop(table) == {"SELECT"}, table
    assert rights.pop("subject_key") == {"SELECT", "INSERT"}, "and UPDATE of what an erasure changes"
    assert rights.pop("audit_key") == {"SELECT", "INSERT"}, "and to change what becomes of one that is succeeded"
    others = set(TABLES) - proof - read - {"subject_key", "audit_key"}
    assert rights == {name: {"SELECT", "INSERT", "UPDATE", "DELETE"} for name in others}
    for forbidden in (
        "UPDATE audit_record SET result = 'x'",
        "DELETE FROM audit_record",
        "TRUNCATE audit_record",
        "DELETE FROM audit_record_start",
        "INSERT INTO audit_record_start SELECT * FROM audit_record",
        "UPDATE audit_leaf SET index = 7",
        "INSERT INTO audit_leaf SELECT 7, action_id, phase, leaf FROM audit_record",
        "INSERT INTO audit_node VALUES (1, 0, '')",
        "INSERT INTO audit_checkpoint (size, root, note) VALUES (7, '', 'hello')",
        "UPDATE audit_head SET size = 7",
        "UPDATE audit_key SET public_key = 'mine'",
        "UPDATE audit_key SET endorsement = 'mine'",
        "DELETE FROM audit_key",
        "DELETE FROM audit_checkpoint",
        "DELETE FROM subject_key",
        "UPDATE subject_key SET subject_id = gen_random_uuid()",
        "DROP TABLE audit_record",
        "DROP TABLE audit_record_start",
        "UPDATE audit_archive SET location = 'elsewhere'",
        "ALTER TABLE audit_record DISABLE TRIGGER ALL",
        "CREATE TABLE mine (x int)",
        "TRUNCATE domain",
        "CREATE RULE quiet AS ON INSERT TO audit_record DO INSTEAD NOTHING",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sql(empty.application, forbidden)


async def test_rights_that_were_widened_by_hand_are_narrowed_at_the_next_start(empty: DatabaseUrls) -> None:
    await migrate(empty.migrator, ROLE)
    await sql(empty.migrator, f"GRANT ALL ON audit_record TO {ROLE}")
    may = "SELECT has_table_privilege($1, 'audit_record', 'UPDATE, DELETE, TRUNCATE, TRIGGER')"
    assert await sql(empty.migrator, may, ROLE) == [(True,)]
    await migrate(empty.migrator, ROLE)
    assert await sql(empty.migrator, may, ROLE) == [(False,)]


async def test_a_server_that_is_too_old_is_told_by_its_version(
    empty: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "OLDEST_SERVER", 990000)
    with pytest.raises(SchemaError, match=r"PostgreSQL 99 or newer is needed; this server is 1\d"):
        await migrate(empty.migrator, ROLE)
    assert await sql(empty.migrator, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


async def test_a_schema_from_a_later_program_is_left_alone(empty: DatabaseUrls) -> None:
    await migrate(empty.migrator, ROLE)
    await sql(empty.migrator, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match="not one of this program's"):
        await migrate(empty.migrator, ROLE)
    assert await sql(empty.migrator, "SELECT version_num FROM alembic_version") == [("9999",)]


async def test_the_tables_of_another_program_are_left_alone(empty: DatabaseUrls) -> None:
    await sql(empty.migrator, "CREATE TABLE domain (host text)")
    with pytest.raises(SchemaError, match="not one of this program's"):
        await migrate(empty.migrator, ROLE)
    assert await sql(empty.migrator, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'") == [
        ("domain",)
    ]


async def test_a_role_is_quoted_whatever_its_name(empty: DatabaseUrls) -> None:
    with pytest.raises(SchemaError):
        await migrate(empty.migrator, 'x"; DROP TABLE audit_record; --')
    assert await sql(empty.migrator, "SELECT count(*) FROM audit_record")


async def test_an_owner_who_is_the_application_too_can_start(empty: DatabaseUrls) -> None:
    owner = make_url(empty.migrator).username or ""
    await migrate(empty.migrator, owner)
    assert await differences(empty.migrator, metadata) == []
