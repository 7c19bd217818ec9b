"""What the tests of retention share: records of other times, a log that is old, and the commands of the machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from actions.entities.audit_partition import ARCHIVE, DROP, DroppedPartition
from actions.entities.audit_partition import SPECS as PARTITION_SPECS
from audit.log import COLUMN_NAMES, INSERT_MANY, columns_of
from audit.record import Columns, Phase, Record, canonical
from server.app import Application, application
from server.cli.audit import writing
from server.cli.local import OPERATOR
from server.http.metrics import Metrics
from tests.world.world import World

OLD = "audit_record_2020_02"
FEBRUARY = [datetime(2020, 2, day, tzinfo=UTC) for day in range(1, 29)]
BY_WORD = {spec.operation: spec for spec in PARTITION_SPECS}


def record(at: datetime, place: int = 0) -> Record:
    """Of an action that began at a moment."""
    key = UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | place)
    columns = Columns(key, Phase.DONE, at, "tested", "succeeded", "system:test")
    told = {"v": 1, "id": str(key), "at": at, "phase": "done", "action": "tested", "result": "succeeded"}
    who = {"kind": "system", "name": "system:test", "credential": None}
    return Record(columns, canonical({**told, "principal": who, "salt": "", "sealed": []}), None)


async def write(connection: Any, *moments: datetime) -> None:
    records = [record(at, place) for place, at in enumerate(moments)]
    await connection.execute(INSERT_MANY, *columns_of(records))


async def write_late(world: World) -> None:
    """A record that nobody expected any more."""
    connection = await asyncpg.connect(world.urls.migrator)
    try:
        await write(connection, datetime(2020, 2, 29, 12, tzinfo=UTC))
    finally:
        await connection.close()


async def make_room(connection: Any) -> None:
    """Give the log a part for February 2020."""
    next_month = "(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month')::date"
    await connection.execute(
        f"""
        ALTER TABLE audit_record DETACH PARTITION audit_record_start;
        DO $$ BEGIN EXECUTE format(
            'ALTER TABLE audit_record ATTACH PARTITION audit_record_start FOR VALUES FROM (%L) TO (%L)',
            audit_month('2026-01-01'), audit_month({next_month})
        ); END $$;
        SELECT add_audit_partition('2020-02-01');
        """
    )


async def age(world: World) -> None:
    """Let the log have been kept since 2020: its records of February of that year lie in a part of their own."""
    connection = await asyncpg.connect(world.urls.migrator)
    try:
        await make_room(connection)
        await write(connection, *FEBRUARY[:20])
        await world.mia.get("/users/me")  # the indexes of neighbours lie between those of a part
        renamed = "convert_to(replace(convert_from(leaf, 'UTF8'), action_id::text, $1::text), 'UTF8')"
        columns = {name: renamed if name == "leaf" else name for name in COLUMN_NAMES[1:]}
        await connection.execute(
            f"INSERT INTO audit_record (action_id, {', '.join(columns)}) "
            f"SELECT $1::uuid, {', '.join(columns.values())} FROM audit_record WHERE action = 'user_user' LIMIT 1",
            record(FEBRUARY[20], 77).columns.action_id,
        )
        await write(connection, *FEBRUARY[21:])
    finally:
        await connection.close()
    await world.mia.get("/users/me")
    await world.app.sequencer.catch_up()


@asynccontextmanager
async def machine(world: World, **settings: Any) -> AsyncIterator[Application]:
    """The pipeline as the commands on the machine have it."""
    told = world.stage.settings(**settings)
    async with application(told, world.urls.application, Metrics(), world.urls.migrator) as app:
        assert await app.policy.load()
        yield app


async def archived(world: World, folder: Path, partition: str = OLD) -> Path:
    asked = {"partition": partition}
    async with machine(world) as app, app.following(BY_WORD[ARCHIVE], OPERATOR, asked) as parts:
        with writing.archived(folder, asked) as archive:
            async for part in parts:
                if archive.take(part):
                    break
    return folder


async def drop(world: World, folder: Path, settings: Any = None, **given: Any) -> DroppedPartition:
    given = {"partition": OLD, "older_than_days": 30, "archive": str(folder), **given}
    async with machine(world, **(settings or {})) as app:
        dropped: DroppedPartition = await app.internally(BY_WORD[DROP], OPERATOR, given, "os:keeper")
        return dropped


async def is_there(world: World) -> bool:
    [row] = await world.sql("SELECT to_regclass($1) IS NOT NULL AS there", OLD)
    return bool(row["there"])
