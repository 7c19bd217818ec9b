"""The faults. Each makes one happen to a site that is in use, keeps it up for a while, and ends its cause; it tells
when that was."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress

import asyncpg

from tests.faulting.line import Line
from tests.faulting.promises import Span, Struck
from tests.faulting.site import Site

Fault = Callable[[Site, random.Random], Awaitable[Struck]]


async def worker_killed(site: Site, choice: random.Random) -> Struck:
    site.kill([choice.choice(site.workers())])
    return Struck()


async def leader_killed(site: Site, choice: random.Random) -> Struck:
    leader, connection = await site.leader()
    struck = time.monotonic()
    site.kill([leader])
    return Struck(struck, leaderless=(struck, await site.led(connection)))


async def supervisor_killed(site: Site, choice: random.Random) -> Struck:
    site.kill([site.server.process.pid])
    await site.restarted()
    return Struck()


async def postmaster_killed(site: Site, choice: random.Random) -> Struck:
    site.kill([site.postmaster()])
    return Struck()


async def postgres_killed(site: Site, choice: random.Random) -> Struck:
    site.kill(site.postgres())
    return Struck()


async def backend_killed(site: Site, choice: random.Random) -> Struck:
    site.kill([choice.choice(await site.backends())])
    return Struck()


async def worker_suspended(site: Site, choice: random.Random) -> Struck:
    one = [choice.choice(site.workers())]
    return Struck(muted=(await _suspended(site, one, choice.uniform(0.5, 3)),))


async def leader_suspended(site: Site, choice: random.Random) -> Struck:
    """Until another takes over; and then there are two who believe that they lead."""
    leader, connection = await site.leader()
    begun = time.monotonic()
    site.suspend([leader])
    try:
        led = await site.led(connection)
        await asyncio.sleep(choice.uniform(0, 0.5))
    finally:
        site.resume([leader])
    ended = time.monotonic()
    return Struck(ended, muted=((begun, ended),), leaderless=(begun, led))


async def supervisor_suspended(site: Site, choice: random.Random) -> Struck:
    await _suspended(site, [site.server.process.pid], choice.uniform(0.5, 3))
    return Struck()


async def postgres_suspended(site: Site, choice: random.Random) -> Struck:
    await _suspended(site, site.postgres(), choice.uniform(2.5, 4))
    return Struck()


async def backend_suspended(site: Site, choice: random.Random) -> Struck:
    """Whoever has asked it already waits until it goes on."""
    return Struck(held=(await _suspended(site, [choice.choice(await site.backends())], choice.uniform(1, 4)),))


async def _suspended(site: Site, pids: Collection[int], seconds: float) -> Span:
    begun = time.monotonic()
    site.suspend(pids)
    try:
        await asyncio.sleep(seconds)
    finally:
        site.resume(pids)
    return begun, time.monotonic()


async def disk_full(site: Site, choice: random.Random) -> Struck:
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
    return Struck()


async def privilege_revoked(site: Site, choice: random.Random) -> Struck:
    await site.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    await asyncio.sleep(choice.uniform(0.5, 2))
    await site.sql("GRANT INSERT ON audit_record TO chamberlain_app")
    return Struck()


async def log_locked(site: Site, choice: random.Random) -> Struck:
    connection = await site.connect()
    try:
        await connection.execute("BEGIN; LOCK TABLE audit_record IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(choice.uniform(1.5, 3))
    finally:
        await connection.close()
    return Struck()


async def clock_jumped(site: Site, choice: random.Random) -> Struck:
    """The server's clock, for good: the next jump brings it back."""
    site.set_clock(choice.choice([0, 3600, -3600, 90]))
    await asyncio.sleep(1)
    return Struck()


async def commit_cut(site: Site, choice: random.Random) -> Struck:
    return await _through_a_line(site, choice, swallow=False)


async def commit_swallowed(site: Site, choice: random.Random) -> Struck:
    return await _through_a_line(site, choice, swallow=True)


async def _through_a_line(site: Site, choice: random.Random, *, swallow: bool) -> Struck:
    async with Line(site.socket, choice, swallow=swallow) as line:
        # Whoever is connected already has to come through the line.
        await site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'chamberlain_app'")
        with suppress(TimeoutError):
            await asyncio.wait_for(line.met_enough.wait(), 10)
        await asyncio.sleep(1)
    return Struck()


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
KILLS_WORKERS = frozenset({"worker killed", "leader killed", "supervisor killed"})
