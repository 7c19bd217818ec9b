"""The pool: what is lent comes back whole, or not at all; nobody waits for ever, and no place is lost."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from server.repositories.pool import Connection, Pool
from tests.world.stage import Stage


@pytest.fixture
async def pool(stage: Stage) -> AsyncIterator[Pool]:
    name, urls = await stage.database()

    async def connect() -> Connection:
        return await asyncpg.connect(urls.application)

    pool = Pool(connect, size=2, patience=0.2)
    try:
        yield pool
    finally:
        await pool.close(5)
        await stage.postgres.drop_database(name)


async def _backend(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT pg_backend_pid()"))


async def _both_can_be_lent(pool: Pool) -> None:
    async with pool.lend() as one, pool.lend() as other:
        assert await _backend(one) != await _backend(other)
        assert pool.occupancy() == (2, 0)


async def test_a_connection_is_lent_again(pool: Pool) -> None:
    async with pool.lend() as connection:
        first = await _backend(connection)
    async with pool.lend() as connection:
        assert await _backend(connection) == first
    assert pool.occupancy() == (0, 1)


async def test_who_waits_longest_is_served_first_and_nobody_waits_for_ever(pool: Pool) -> None:
    served: list[str] = []

    async def wait(name: str) -> None:
        async with pool.lend():
            served.append(name)

    async with pool.lend():
        async with pool.lend():
            waiting = [asyncio.create_task(wait(name)) for name in ("first", "second")]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert served == ["first", "second"]
        async with pool.lend():
            with pytest.raises(TimeoutError):
                await wait("too late")
    assert served == ["first", "second"]
    await _both_can_be_lent(pool)


async def test_who_gives_up_while_waiting_takes_no_place_along(pool: Pool) -> None:
    async with pool.lend(), pool.lend():
        waiting = asyncio.create_task(pool.lend().__aenter__())
        await asyncio.sleep(0)
    waiting.cancel()  # a connection was handed to it just now, and it never comes to use it
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await _both_can_be_lent(pool)


async def test_what_an_interrupted_caller_held_is_not_lent_again(pool: Pool) -> None:
    async with pool.lend() as connection:
        first = await _backend(connection)

    async def sleep() -> None:
        async with pool.lend() as connection:
            await connection.execute("SELECT pg_sleep(30)")

    sleeping = asyncio.create_task(sleep())
    while pool.occupancy() != (1, 0):  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.001)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    async with pool.lend() as connection:
        assert await _backend(connection) != first
    await _both_can_be_lent(pool)


async def test_what_comes_back_inside_a_transaction_is_not_lent_again(pool: Pool) -> None:
    async with pool.lend() as connection:
        first = await _backend(connection)
        await connection.execute("BEGIN")
    async with pool.lend() as connection:
        assert await _backend(connection) != first
        assert not connection.is_in_transaction()


async def test_a_connection_that_died_while_idle_is_replaced(pool: Pool) -> None:
    async with pool.lend() as one, pool.lend() as other:
        first = await _backend(other)
        killed = one
    killed.terminate()
    async with pool.lend() as connection:
        assert await _backend(connection) == first
    await _both_can_be_lent(pool)


async def test_a_connection_that_cannot_be_made_leaves_its_place_free(stage: Stage) -> None:
    failing = True

    async def connect() -> Connection:
        if failing:
            raise OSError("no route")
        return await asyncpg.connect(urls.application)

    name, urls = await stage.database()
    pool = Pool(connect, size=2, patience=0.2)
    for _ in range(3):
        with pytest.raises(OSError, match="no route"):
            await pool.lend().__aenter__()
    failing = False
    await _both_can_be_lent(pool)
    await pool.close(5)
    with pytest.raises(asyncpg.InterfaceError):
        await pool.lend().__aenter__()
    await stage.postgres.drop_database(name)
