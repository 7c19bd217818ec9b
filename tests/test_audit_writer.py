"""The group-committing writer over a real log: what shares a commit, what a bad record costs, what waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from audit.log import LogUnavailable
from audit.pulse import Pulse
from audit.record import Columns, Phase, Record, canonical
from audit.writer import GroupCommitLog
from tests.faults import until
from tests.world.world import World


@dataclass
class Meter:
    batches: list[int] = field(default_factory=list)

    def audit_committed(self, seconds: float, records: int) -> None:
        self.batches.append(records)


def record(action: str = "test") -> Record:
    key = uuid4()
    columns = Columns(key, Phase.DONE, datetime.now(UTC), action, "succeeded", "system:test", scope_type="admin")
    return Record(columns, canonical({"id": str(key), "v": 1}), None)


@asynccontextmanager
async def writer(world: World, meter: Meter | None = None, **options: float) -> AsyncIterator[GroupCommitLog]:
    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        return await world.app.database.connect("test-log")

    async with GroupCommitLog(connect, meter or Meter(), Pulse(), **options) as log:  # type: ignore[arg-type]
        yield log


@asynccontextmanager
async def held(world: World) -> AsyncIterator[None]:
    """The log's table is locked meanwhile."""
    connection = await asyncpg.connect(world.urls.migrator)
    try:
        await connection.execute("BEGIN; LOCK TABLE audit_record IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        await connection.close()


async def _depth(log: GroupCommitLog, depth: int) -> bool:
    await asyncio.sleep(0)
    return log.depth() == depth


async def written(world: World, action: str = "test") -> int:
    [row] = await world.sql("SELECT count(*) FROM audit_record WHERE action = $1", action)
    return int(row["count"])


async def test_records_that_wait_share_one_commit(world: World) -> None:
    meter = Meter()
    async with writer(world, meter) as log:
        await asyncio.gather(*(log.write(record()) for _ in range(200)))
    [row] = await world.sql(
        "SELECT count(*), count(DISTINCT xid::text) AS commits FROM audit_record WHERE action = 'test'"
    )
    assert (row["count"], sum(meter.batches)) == (200, 200)
    assert row["commits"] == len(meter.batches) <= 3


async def test_a_record_is_durable_when_its_write_returns(world: World) -> None:
    async with writer(world) as log:
        for number in range(1, 4):
            await log.write(record())
            assert await written(world) == number


POISONS: tuple[dict[str, Any], ...] = (
    {"request_id": "a\x00b"},
    {"request_id": "\ud800"},
    {"at": "yesterday"},
    {"principal": None},
)


async def test_a_record_that_cannot_be_kept_does_not_sink_those_beside_it(world: World) -> None:
    async with writer(world) as log:
        for number, poison in enumerate(POISONS, start=1):
            good = record()
            bad = replace(good, columns=good.columns._replace(action_id=uuid4(), **poison))
            results = await asyncio.gather(
                *(log.write(one) for one in (record(), bad, record(), good)), return_exceptions=True
            )
            assert [type(result) for result in results] == [type(None), LogUnavailable, type(None), type(None)], poison
            await log.write(record())
            assert await written(world) == 4 * number


async def test_the_same_record_is_not_kept_twice(world: World) -> None:
    one = record()
    async with writer(world) as log:
        await log.write(one)
        with pytest.raises(LogUnavailable):
            await log.write(one)
    assert await written(world) == 1


async def test_a_full_queue_is_told_at_once_and_drops_nothing(world: World) -> None:
    async with writer(world, capacity=3, batch=1, deadline=5.0) as log, held(world):
        waiting = [asyncio.create_task(log.write(record()))]
        await until(lambda: _depth(log, 0))
        waiting += [asyncio.create_task(log.write(record())) for _ in range(3)]
        await until(lambda: _depth(log, 3))
        with pytest.raises(LogUnavailable, match="full"):
            await log.write(record("refused"))
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_log_that_hangs_is_told_within_the_deadline_and_comes_back(world: World) -> None:
    async with writer(world, deadline=0.3) as log:
        loop = asyncio.get_running_loop()
        async with held(world):
            started = loop.time()
            results = await asyncio.gather(*(log.write(record()) for _ in range(5)), return_exceptions=True)
            assert {type(result) for result in results} == {LogUnavailable}
            assert loop.time() - started < 2
        await log.write(record("after"))
    assert await written(world, "after") == 1


async def test_what_is_late_before_its_batch_was_sent_is_not_recorded(world: World) -> None:
    """Its caller was told that nothing is done, so nothing may be said to have been."""
    async with writer(world, batch=1, deadline=0.5) as log:
        async with held(world):
            first = asyncio.create_task(log.write(record("in flight")))
            await until(lambda: _depth(log, 0))
            second = asyncio.create_task(log.write(record("late")))
            await until(lambda: _depth(log, 1))
            with pytest.raises(LogUnavailable):
                await second
        await asyncio.gather(first, return_exceptions=True)
        await log.write(record("after"))
    assert await written(world, "late") == 0


async def test_who_is_cancelled_hears_of_it_once_the_record_is_durable(world: World) -> None:
    async with writer(world, batch=1) as log:
        async with held(world):
            first, second = (asyncio.create_task(log.write(record(name))) for name in ("in flight", "waiting"))
            await until(lambda: _depth(log, 1))
            for _ in range(3):
                first.cancel()
                second.cancel()
                await asyncio.sleep(0)
            assert not first.done()
            assert not second.done()
        for writing in (first, second):
            with pytest.raises(asyncio.CancelledError):
                await writing
        assert (await written(world, "in flight"), await written(world, "waiting")) == (1, 1)


async def test_that_a_record_failed_goes_before_that_its_writer_was_cancelled(world: World) -> None:
    async with writer(world, batch=1, deadline=0.5) as log, held(world):
        writing = asyncio.create_task(log.write(record()))
        await until(lambda: _depth(log, 0))
        writing.cancel()
        with pytest.raises(LogUnavailable):
            await writing


async def test_a_database_that_is_away_is_told_and_found_again(world: World) -> None:
    away = True

    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        if away:
            raise ConnectionRefusedError
        return await world.app.database.connect("test-log")

    async with GroupCommitLog(connect, Meter(), Pulse()) as log:
        with pytest.raises(LogUnavailable):
            await log.write(record())
        with pytest.raises(LogUnavailable):
            await log.probe()
        away = False
        await log.probe()
        await log.write(record())
    assert await written(world) == 1


async def test_closing_writes_what_still_waits_and_takes_no_more(world: World) -> None:
    async with writer(world, batch=2) as log:
        waiting = [asyncio.create_task(log.write(record())) for _ in range(7)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    with pytest.raises(LogUnavailable):
        await log.write(record())
    assert await written(world) == 7
