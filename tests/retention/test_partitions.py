"""Partitions of the log are there ahead of time, and what was written without one gets its own at the next start."""

from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import pytest

from server.partition_watch import PartitionsWanting, PartitionWatch, tell
from server.repositories import partition_reach
from server.repositories.migrations import partitions as making
from server.repositories.migrations.migrate import migrate
from server.repositories.migrations.partitions import make_ahead
from server.repositories.partitions import partitions
from tests.retention.support import write
from tests.world.counted import registry
from tests.world.world import World

LYING = "SELECT tableoid::regclass::text AS part, * FROM audit_record WHERE action = 'tested' ORDER BY action_id"


async def names(world: World) -> list[str]:
    return [one.name for one in await partitions(world.app.database)]


def month(year: int, number: int) -> str:
    return f"audit_record_{year}_{number:02}"


async def test_a_start_makes_the_partitions_of_three_months_to_come(world: World) -> None:
    today = datetime.now(UTC).date()
    ahead = [*making._months(making._later(today.replace(day=1), 1), making._later(today.replace(day=1), 3))]
    made = ["audit_record_start", *(month(one.year, one.month) for one in ahead), "audit_record_default"]
    assert await names(world) == made
    await migrate(world.urls.migrator, "chamberlain_app")
    assert await names(world) == made
    for one in (await partitions(world.app.database))[1:-1]:
        assert one.since is not None
        assert one.until is not None
        assert (one.since.day, one.until.day) == (1, 1)


async def test_what_was_written_while_there_was_none_moves_into_its_own_byte_for_byte(world: World) -> None:
    """A server that ran for half a year: months that passed, the present one, and a clock that was wrong."""
    moments = [datetime(2030, 12, 31, 23, 59, tzinfo=UTC), datetime(2031, 3, 1, tzinfo=UTC)]
    moments += [datetime(2031, 3, 31, 23, 59, 59, tzinfo=UTC), datetime(2060, 7, 1, tzinfo=UTC)]
    connection = await asyncpg.connect(world.urls.migrator)
    try:
        await make_ahead(connection, date(2030, 10, 5))
        await connection.execute("DROP TABLE audit_record_2030_12")
        await write(connection, *moments)
        before = [tuple(row)[1:] for row in await connection.fetch(LYING)]
        assert {row["part"] for row in await connection.fetch(LYING)} == {"audit_record_default"}
        await make_ahead(connection, date(2031, 3, 14))
        after = await connection.fetch(LYING)
        assert [tuple(row)[1:] for row in after] == before
        assert [row["part"] for row in after] == [
            "audit_record_default",  # a month that was dropped stays without a partition
            month(2031, 3),
            month(2031, 3),
            "audit_record_default",
        ]
        assert {month(2031, number) for number in range(2, 7)} <= set(await names(world))
        for part in (month(2031, 3), "audit_record_default", "audit_record"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only ever appended"):
                await connection.execute(f"DELETE FROM {part}")
        await make_ahead(connection, date(2060, 6, 30))
        assert [row["part"] for row in await connection.fetch(LYING)][-1] == month(2060, 7)
    finally:
        await connection.close()


async def test_a_start_does_not_wait_long_for_those_who_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "LOCK_SECONDS", 0.1)
    reader = await asyncpg.connect(world.urls.migrator)
    connection = await asyncpg.connect(world.urls.migrator)
    try:
        await reader.execute("BEGIN")
        await reader.fetch("SELECT FROM audit_record LIMIT 1")
        before = await names(world)
        await make_ahead(connection, date(2031, 3, 14))
        assert await names(world) == before
        await reader.execute("ROLLBACK")
        await make_ahead(connection, date(2031, 3, 14))
        assert month(2031, 6) in await names(world)
    finally:
        await reader.close()
        await connection.close()


async def test_it_is_told_when_the_present_month_has_no_partition(world: World) -> None:
    async def told() -> dict[str, Any]:
        return dict((await world.stranger().get("/readyz", verbose=""))["checks"]["audit_partitions"])

    assert await told() == {"ok": True, "detail": "this month's, and those of 3 months ahead"}
    await world.sql("ALTER TABLE audit_record DETACH PARTITION audit_record_start")
    silent = await told()
    assert not silent["ok"]
    assert "no partition for the present month" in silent["detail"]


def gauges(world: World) -> dict[str, float | None]:
    found = registry(world.app.metrics)
    names = ("partitions_ahead", "default_partition_records")
    return {name: found.get_sample_value(f"chamberlain_audit_{name}") for name in names}


async def test_a_month_without_a_partition_shows_in_the_metrics_before_it_comes(world: World) -> None:
    watch = PartitionWatch(world.app.database, world.app.metrics)
    assert set(gauges(world).values()) == {None}, "nobody has looked yet"
    await watch.once()
    assert gauges(world) == {"partitions_ahead": 3, "default_partition_records": 0}
    second, third = [one.name for one in await partitions(world.app.database)][2:4]
    await world.sql(f"DROP TABLE {second}")
    await watch.once()
    assert gauges(world) == {"partitions_ahead": 1, "default_partition_records": 0}, "up to the gap"
    first = (await partitions(world.app.database))[1].name
    await world.sql(f"DROP TABLE {first}")
    await watch.once()
    assert gauges(world)["partitions_ahead"] == 0
    with pytest.raises(PartitionsWanting, match="no partition for the month to come: restart"):
        await tell(world.app.database)
    await world.sql(f"DROP TABLE {third}")
    await world.sql("ALTER TABLE audit_record DETACH PARTITION audit_record_start")
    await watch.once()
    assert gauges(world)["partitions_ahead"] == -1


async def test_records_that_lie_in_no_months_partition_are_counted_wherever_the_gap_is(world: World) -> None:
    watch = PartitionWatch(world.app.database, world.app.metrics)
    connection = await asyncpg.connect(world.urls.migrator)
    try:
        await make_ahead(connection, date(2031, 3, 14))
        await connection.execute(f"DROP TABLE {month(2031, 2)}")
        kept = [datetime(2031, 1, 31, 23, 59, tzinfo=UTC), datetime(2031, 3, 1, tzinfo=UTC)]
        await write(connection, *kept)
        await watch.once()
        assert gauges(world)["default_partition_records"] == 0
        await write(
            connection, datetime(2031, 2, 1, tzinfo=UTC), *[datetime(2060, 7, day, tzinfo=UTC) for day in (1, 2)]
        )
        await watch.once()
        assert gauges(world)["default_partition_records"] == 3
        with pytest.raises(PartitionsWanting, match="3 records lie in the default partition, for want of one for"):
            await tell(world.app.database)
    finally:
        await connection.close()


async def test_only_so_many_of_them_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_reach, "MOST_ASTRAY", 2)
    connection = await asyncpg.connect(world.urls.migrator)
    try:
        await write(connection, *[datetime(2060, 7, day, tzinfo=UTC) for day in range(1, 6)])
    finally:
        await connection.close()
    assert (await partition_reach.reach(world.app.database)).astray == 2
