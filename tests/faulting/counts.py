"""Failures to sign: what of them has no record of its own has to stand in the log as a part of a number.

While faults happen the numbers cannot be held to more than that they are not too high: a worker that is killed takes
with it what it had counted and not told. So it is also tried once without a fault: a crowd of strangers, and a server
that ends in good order.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from server.cli.signing_client import SignatureAuth
from tests.faulting.clients import ask, client_of
from tests.faulting.history import COUNTED, STRANGER, Told, Wrong, check_counts
from tests.faulting.site import Site

STRANGERS, EACH = 4, 50
_COUNTED = """
    SELECT coalesce(sum((convert_from(leaf, 'UTF8')::jsonb #>> '{error,count}')::int), 0)::int AS told
    FROM audit_record WHERE principal = 'anonymous'
"""
_RECORDED = "SELECT count(DISTINCT request_id)::int AS told FROM audit_record WHERE request_id = ANY($1::text[])"


@dataclass(frozen=True)
class Counts:
    """How many failures had no record of their own, how many the log counts, and what cannot be."""

    unrecorded: int
    counted: int
    wrong: list[Wrong]


async def counts_of_rounds(site: Site, unrecorded: int, *, killed: bool) -> Counts:
    """After all rounds: the server is restarted in good order, so that it tells all that it has counted."""
    await asyncio.to_thread(site.restart)
    counted = await _counted(site)
    return Counts(unrecorded, counted, check_counts(unrecorded, counted, killed=killed))


async def counts_of_a_crowd(site: Site, *command: str) -> Counts:
    """Have strangers come, and end the server before their minute is over; ``command`` is what is started after it."""
    before = await _counted(site)
    told = [one for some in await asyncio.gather(*(_stranger(site) for _ in range(STRANGERS))) for one in some]
    await asyncio.to_thread(site.restart, *command)
    ids = [one.request_id for one in told if one.status in COUNTED]
    [row] = await site.sql(_RECORDED, ids)
    unrecorded, counted = STRANGERS * EACH - row["told"], await _counted(site) - before
    return Counts(unrecorded, counted, check_counts(unrecorded, counted, killed=False))


async def _stranger(site: Site) -> Sequence[Told]:
    key = site.server.root.access_key
    sign = SignatureAuth(key, "not the secret", sign_body=True, now=lambda: datetime.now(UTC) + site.offset())
    async with client_of(site.server.http, sign) as http:
        return [(await ask(http, STRANGER, 0, "GET", "/auth/whoami"))[0] for _ in range(EACH)]


async def _counted(site: Site) -> int:
    deadline = time.monotonic() + 20
    while True:
        try:
            [row] = await site.sql(_COUNTED)
            return int(row["told"])
        except OSError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)
