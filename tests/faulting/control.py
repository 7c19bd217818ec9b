"""What the proof itself is held to: that the checker finds a loss where there must be one, and that commits reach the
disk. Killing processes proves nothing of either: the kernel keeps what was written."""

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from server.cli.signing_client import SignatureAuth
from tests.faulting.clients import ask, client_of
from tests.faulting.heartbeat import Heartbeat
from tests.faulting.history import Kind
from tests.faulting.kinds import postgres_killed
from tests.faulting.rounds import round_of
from tests.faulting.site import Site
from tests.faulting.tree import Tree

TRIES = 5
COMMITS = 100
_SYNCS = "SELECT coalesce(sum(fsyncs), 0)::bigint AS syncs FROM pg_stat_io WHERE object = 'wal'"


@dataclass(frozen=True)
class Control:
    lost: int
    caught: bool
    tries: int


@dataclass(frozen=True)
class Synced:
    commits: int
    syncs: int


async def control(site: Site, choice: random.Random, tree: Tree, heart: Heartbeat) -> Control:
    """Kill all of PostgreSQL under a server whose commits do not wait for the disk (``tests.faulting.unsynced``, which
    the site runs by now): the checker must find it.

    It comes last: what a site has lost it does not get back.
    """
    await site.sql("ALTER SYSTEM SET wal_writer_delay = '10s'")  # lest it come to disk by and by, as on a busy machine
    await site.sql("SELECT pg_reload_conf()")
    for number in range(1, TRIES + 1):
        done = await round_of(site, 9000 + number, "control", postgres_killed, choice, tree, heart)
        lost = [wrong for wrong in done.wrong if wrong.kind is Kind.LOST]
        if lost:
            return Control(len(lost), True, number)
    return Control(0, False, TRIES)


async def synced(site: Site) -> Synced:
    """How often the write-ahead log was brought to disk while changes were made one after the other."""
    before = await _settled(site, 0)
    sign = SignatureAuth(
        site.server.root.access_key,
        site.server.root.secret_key,
        sign_body=True,
        now=lambda: datetime.now(UTC) + site.offset(),
    )
    async with client_of(site.server.http, sign) as http:
        for number in range(COMMITS):
            told, _ = await ask(http, "create", 1, "POST", "/admin/domains", {"name": f"synced-{number}"})
            assert told.done, told
    return Synced(COMMITS, await _settled(site, before + COMMITS) - before)


async def _settled(site: Site, wanted: int) -> int:
    """The count, once it is as high as it should be; backends tell of what they did some seconds later."""
    deadline = time.monotonic() + 20
    while True:
        [row] = await site.sql(_SYNCS)
        if row["syncs"] >= wanted or time.monotonic() > deadline:
            return int(row["syncs"])
        await asyncio.sleep(0.5)
