"""Who leads the sequencer, and what it does with a log that was restored from elsewhere."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import pytest

from audit import sequencer as module
from audit.sequencer import FOLLOW_SECONDS, SILENCE_SECONDS, Sequencer
from server.repositories import audit_tree
from server.repositories.audit_keys import signers
from server.repositories.database import Connection
from tests.numbered import add_records, grow, newest
from tests.waiting import PATIENCE, until
from tests.world.world import World


def another(world: World) -> Sequencer:
    return Sequencer(partial(world.app.database.connect, "sequencer"), signers(world.app.ring), world.app.metrics)


@asynccontextmanager
async def running(*sequencers: Sequencer) -> AsyncIterator[None]:
    """Each of them at work, as in a worker of its own."""
    tasks = [asyncio.create_task(one.run()) for one in sequencers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in sequencers:
            await one.__aexit__()


async def all_numbered(world: World) -> None:
    """Wait until each record has its number, then look whether each has one, once, and the roots are right."""

    async def left() -> int:
        [row] = await world.sql(
            "SELECT count(*) FROM audit_record"
            " WHERE (action_id, phase) NOT IN (SELECT action_id, phase FROM audit_leaf)"
        )
        return int(row[0])

    async with asyncio.timeout(60):
        while await left():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    rows = await world.sql("SELECT index FROM audit_leaf ORDER BY index")
    assert [row["index"] for row in rows] == list(range(len(rows)))
    checkpoint = await newest(world)
    assert checkpoint.size == len(rows)
    assert await audit_tree.root_of(world.app.database.fetch, checkpoint.size) == checkpoint.root


async def all_numbered_by(world: World, sequencer: Sequencer) -> None:
    async with sequencer:
        await sequencer.catch_up()
    await all_numbered(world)


async def leader(world: World) -> int | None:
    rows = await world.sql("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1", module._LOCK)
    return rows[0]["pid"] if rows else None


def test_whoever_hangs_or_dies_is_succeeded_within_five_seconds() -> None:
    """The longest it can take: the silence, the turn of the one that finds it, and its next, in which it leads."""
    assert SILENCE_SECONDS + FOLLOW_SECONDS + FOLLOW_SECONDS < 5


async def test_another_leads_when_the_leaders_connection_is_cut(world: World) -> None:
    one, other = another(world), another(world)
    async with running(one, other):
        await until(lambda: one.leads or other.leads)
        assert not (one.leads and other.leads)
        ended = await leader(world)
        async with world.app.database.connection() as connection:
            await connection.execute(f"SELECT pg_terminate_backend({ended})")
        async with asyncio.timeout(PATIENCE):
            while await leader(world) in (ended, None):  # noqa: ASYNC110 - a lock tells nobody that it is held
                await asyncio.sleep(0.02)
        await add_records(world, 5)
        await all_numbered(world)


async def silent(connection: Connection) -> None:
    """It holds the lock and says nothing more, like a process that was stopped."""
    assert await connection.fetchval(module._LEAD)


async def silent_in_a_transaction(connection: Connection) -> None:
    await connection.execute("BEGIN")
    await silent(connection)


@pytest.mark.parametrize("hang", [silent, silent_in_a_transaction])
async def test_a_leader_that_hangs_loses_its_connection_and_the_lock(
    world: World, monkeypatch: pytest.MonkeyPatch, hang: Callable[[Connection], Awaitable[None]]
) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.5)
    hanging = await world.app.database.connect("sequencer")
    await hang(hanging)
    waits = another(world)
    async with running(waits):
        await until(lambda: waits.leads)
        await all_numbered(world)
    await until(hanging.is_closed)


async def test_a_leader_that_stops_reading_in_the_midst_of_an_answer_is_ended_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To PostgreSQL such a one is at work: it waits for the client to take what it has to say."""
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.5)
    hanging = await world.app.database.connect("sequencer")
    await silent(hanging)
    await hanging.execute("SET statement_timeout = 0; SET transaction_timeout = 0")  # so that nobody else ends it
    much = await hanging.prepare("SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
    transport = hanging._transport  # type: ignore[attr-defined]
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    transport.pause_reading()
    asking = asyncio.create_task(much.fetch(timeout=600))
    waits = another(world)
    async with running(waits):
        await until(lambda: waits.leads)
        await all_numbered(world)
    transport.resume_reading()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)):
        await asking
    hanging.terminate()


async def test_a_leader_that_is_at_work_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLLOW_SECONDS", 0.05)
    leads, waits = another(world), another(world)
    async with running(leads):
        await until(lambda: leads.leads)
        pid = await leader(world)
        async with running(waits):
            for _ in range(30):
                await grow_by_leader(world)
        assert leads.leads
        assert await leader(world) == pid


async def grow_by_leader(world: World) -> None:
    await add_records(world, 1)
    await asyncio.sleep(0.05)


# -- a log that was restored into another cluster, whose counter of transactions is another one ------------------------


async def counter(world: World) -> int:
    [row] = await world.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    return int(row[0])


async def test_records_of_transactions_that_are_yet_to_come_are_numbered(world: World) -> None:
    await add_records(world, 30, xid=await counter(world) + 10**6)
    await add_records(world, 3)
    await all_numbered_by(world, another(world))
    [row] = await world.sql("SELECT xid::text::bigint FROM audit_head")
    assert row[0] <= await counter(world)


async def test_more_of_them_than_go_into_one_transaction_are_numbered_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 10)
    await add_records(world, 35, xid=await counter(world) + 10**6)
    await all_numbered_by(world, another(world))
    [row] = await world.sql("SELECT xid::text::bigint FROM audit_head")
    assert row[0] <= await counter(world)


async def test_one_that_is_left_out_among_many_that_are_not_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 10)
    far = await counter(world) + 10**6
    for place in range(35):
        await add_records(world, 1, xid=far + place)
    async with another(world) as sequencer:
        await sequencer.catch_up()
    await add_records(world, 1, xid=far + 30)
    await all_numbered_by(world, another(world))


async def test_a_transaction_of_more_records_than_a_batch_is_gone_on_with_by_another_leader(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 10)
    await world.app.sequencer.catch_up()
    await add_records(world, 35)
    await add_records(world, 3)
    async with another(world) as first:
        assert [await first.step(), await first.step()] == [10, 10]
    await all_numbered_by(world, another(world))


async def moved_back(world: World, by: int) -> None:
    """What the log looks like in a cluster whose counter stands so much lower than where it came from."""
    await grow(world, 5)
    await world.sql("UPDATE audit_head SET xid = $1::text::xid8", str(await counter(world) + by))


async def test_a_counter_that_has_gone_back_keeps_nothing_from_being_numbered(world: World) -> None:
    await moved_back(world, 10**6)
    sequencer = world.app.sequencer  # it has looked before: it finds out while it leads
    for _ in range(3):
        await add_records(world, 4)
        await sequencer.catch_up()
        await all_numbered(world)


async def test_a_counter_that_has_caught_up_again_leaves_nothing_behind_either(world: World) -> None:
    """The worst of it: what is new stands below the horizon, and the counter has passed it before anybody looks."""
    await moved_back(world, 3)
    for _ in range(10):
        await add_records(world, 1)
    [row] = await world.sql("SELECT xid::text::bigint FROM audit_head")
    assert row[0] < await counter(world)
    await all_numbered_by(world, another(world))
