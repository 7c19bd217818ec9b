"""The faults. Each makes one happen to a site that is in use, keeps it up for a while, and ends its cause."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import asyncpg

from tests.faulting.line import Line
from tests.faulting.site import Site

Fault = Callable[[Site, random.Random], Awaitable[None]]


async def worker_killed(site: Site, choice: random.Random) -> None:
    site.kill([choice.choice(site.workers())])


async def leader_killed(site: Site, choice: random.Random) -> None:
    leader = await site.leader()
    assert leader is not None, "nobody leads"
    site.kill([leader])


async def supervisor_killed(site: Site, choice: random.Random) -> None:
    site.kill([site.server.process.pid])
    await site.restarted()


async def postmaster_killed(site: Site, choice: random.Random) -> None:
    site.kill([site.postmaster()])


async def postgres_killed(site: Site, choice: random.Random) -> None:
    site.kill(site.postgres())


async def backend_killed(site: Site, choice: random.Random) -> None:
    site.kill([choice.choice(await site.backends())])


async def worker_suspended(site: Site, choice: random.Random) -> None:
    one = [choice.choice(site.workers())]
    site.suspend(one)
    await asyncio.sleep(choice.uniform(0.5, 3))
    site.resume(one)


async def leader_suspended(site: Site, choice: random.Random) -> None:
    """Longer than anybody waits for a leader: another takes over, and then there are two who believe that they lead."""
    leader = await site.leader()
    assert leader is not None, "nobody leads"
    site.suspend([leader])
    await asyncio.sleep(choice.uniform(4, 5))
    site.resume([leader])


async def supervisor_suspended(site: Site, choice: random.Random) -> None:
    one = [site.server.process.pid]
    site.suspend(one)
    await asyncio.sleep(choice.uniform(0.5, 3))
    site.resume(one)


async def postgres_suspended(site: Site, choice: random.Random) -> None:
    all_of_it = site.postgres()
    site.suspend(all_of_it)
    await asyncio.sleep(choice.uniform(2.5, 4))
    site.resume(all_of_it)


async def backend_suspended(site: Site, choice: random.Random) -> None:
    one = [choice.choice(await site.backends())]
    site.suspend(one)
    await asyncio.sleep(choice.uniform(1, 4))
    site.resume(one)


async def disk_full(site: Site, choice: random.Random) -> None:
    """With a new segment of the write-ahead log asked for, half the time: then PostgreSQL itself goes down."""
    filler = await asyncio.to_thread(site.fill)
    try:
        if choice.random() < 0.5:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                for _ in range(40):
                    await site.sql("SELECT pg_logical_emit_message(false, 'fault', 'x'), pg_switch_wal()")
        await asyncio.sleep(choice.uniform(1, 2))
    finally:
        filler.unlink()


async def privilege_revoked(site: Site, choice: random.Random) -> None:
    await site.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    await asyncio.sleep(choice.uniform(0.5, 2))
    await site.sql("GRANT INSERT ON audit_record TO chamberlain_app")


async def log_locked(site: Site, choice: random.Random) -> None:
    connection = await site.connect()
    try:
        await connection.execute("BEGIN; LOCK TABLE audit_record IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(choice.uniform(1.5, 3))
    finally:
        await connection.close()


async def clock_jumped(site: Site, choice: random.Random) -> None:
    """The server's clock, for good: the next jump brings it back."""
    site.set_clock(choice.choice([0, 3600, -3600, 90]))
    await asyncio.sleep(1)


async def commit_cut(site: Site, choice: random.Random) -> None:
    await _through_a_line(site, choice, swallow=False)


async def commit_swallowed(site: Site, choice: random.Random) -> None:
    await _through_a_line(site, choice, swallow=True)


async def _through_a_line(site: Site, choice: random.Random, *, swallow: bool) -> None:
    async with Line(site.socket, choice, swallow=swallow) as line:
        # Whoever is connected already has to come through the line.
        await site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'chamberlain_app'")
        with suppress(TimeoutError):
            await asyncio.wait_for(line.met_enough.wait(), 10)
        await asyncio.sleep(1)


FAULTS: Mapping[str, Fault] = {
    fault.__name__.replace("_", " "): fault
    for fault in (
        worker_killed,
        leader_killed,
        supervisor_killed,
        postmaster_killed,
        postgres_killed,
        backend_killed,
        worker_suspended,
        leader_suspended,
        supervisor_suspended,
        postgres_suspended,
        backend_suspended,
        disk_full,
        privilege_revoked,
        log_locked,
        clock_jumped,
        commit_cut,
        commit_swallowed,
    )
}
DISK, CLOCK = "disk full", "clock jumped"
