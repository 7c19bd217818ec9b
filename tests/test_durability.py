"""What is committed is on disk: nobody's settings may say otherwise."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from server import embedded
from server.embedded import DatabaseUrls, EmbeddedPostgres
from server.repositories.migrations.migrate import SchemaError, migrate
from server.repositories.partitions import Partitions
from tests.faults import another_worker
from tests.world.stage import Stage
from tests.world.world import World

DURABLE = ("fsync", "full_page_writes")


async def test_no_setting_of_a_role_or_a_database_keeps_our_commits_from_the_disk(world: World) -> None:
    [told] = await world.sql("SELECT current_database() AS name")
    await world.sql(f"ALTER DATABASE {told['name']} SET synchronous_commit = off")
    for url in (world.urls.application, world.urls.migrator):
        connection = await asyncpg.connect(url)
        await connection.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {told['name']} SET synchronous_commit = off")
        await connection.close()
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SHOW synchronous_commit") == "off"  # what anybody else has
        await connection.close()
    async with another_worker(world) as worker:
        own = [await worker.app.database.connect(purpose) for purpose in ("audit", "sequencer")]
        for connection in own:
            assert await connection.fetchval("SHOW synchronous_commit") == "on"
            await connection.close()
        async with worker.app.database.connection() as pooled:
            assert await pooled.fetchval("SHOW synchronous_commit") == "on"
    async with Partitions(world.urls.migrator)._connected() as owner:
        assert await owner.fetchval("SHOW synchronous_commit") == "on"


@pytest.fixture
async def careless(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[EmbeddedPostgres, DatabaseUrls]]:
    """A PostgreSQL as somebody else may run it: its configuration file decides whether it writes to disk."""
    for setting in DURABLE:
        monkeypatch.delitem(embedded._LAWS, setting)
    data = stage.data_dir.parent / "careless"
    data.mkdir(mode=0o700)
    server = EmbeddedPostgres(data, system_dir=data.with_name("careless-system"))
    try:
        yield server, await server.start()
    finally:
        await server.stop()


async def test_a_postgresql_that_does_not_write_to_disk_is_refused(
    careless: tuple[EmbeddedPostgres, DatabaseUrls],
) -> None:
    server, urls = careless
    for setting in DURABLE:
        await _configure(server, urls, setting, "off")
        with pytest.raises(SchemaError, match=f"{setting} = off.*set {setting} = on"):
            await migrate(urls.migrator, "chamberlain_app")
        await _configure(server, urls, setting, "on")
    assert await migrate(urls.migrator, "chamberlain_app")


async def _configure(server: EmbeddedPostgres, urls: DatabaseUrls, setting: str, value: str) -> None:
    root = await server._connect()
    await root.execute(f"ALTER SYSTEM SET {setting} = {value}")
    await root.execute("SELECT pg_reload_conf()")
    await root.close()
    connection = await asyncpg.connect(urls.migrator)
    async with asyncio.timeout(20):
        while await connection.fetchval(f"SHOW {setting}") != value:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.02)
    await connection.close()
