"""One round: clients at work, a fault in their midst, and when all is well again, the check of what they were told."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg
import httpx
import orjson

from audit.checkpoint import Checkpoint
from audit.note import Note
from tests.e2e.house import until
from tests.faulting.clients import ANSWER_SECONDS, Crowd
from tests.faulting.heartbeat import Heartbeat
from tests.faulting.history import Kept, Kind, Leaf, Row, Told, Wrong, check, unrecorded
from tests.faulting.kinds import Fault
from tests.faulting.promises import Promised, promised
from tests.faulting.site import Site
from tests.faulting.tree import Tree

BEFORE = 0.6
"""Seconds of work before the fault."""
QUIET = 1.2
"""Seconds without any failure, after which all is well."""
PATIENCE = 60.0
"""Seconds in which it has to become so, and in which what was unknown is to be found out."""
_RECORDS = """
    SELECT action_id::text, phase, action, result, request_id, target_id, leaf FROM audit_record
    WHERE xid >= $1::text::xid8 ORDER BY xid, action_id, phase COLLATE "C"
"""
_ROWS = "SELECT id::text, version, description, deleted_at FROM domain WHERE name LIKE $1 || '-%'"
_LEAVES = """
    SELECT leaf.index, leaf.hash, record.leaf FROM audit_leaf AS leaf
    LEFT JOIN audit_record AS record USING (action_id, phase) WHERE leaf.index >= $1 ORDER BY leaf.index
"""
_CHECKPOINTS = "SELECT size, note FROM audit_checkpoint WHERE size > $1 ORDER BY size"
_UNNUMBERED = """
    SELECT count(*) FROM audit_record AS record WHERE xid >= $1::text::xid8 AND NOT EXISTS (
        SELECT FROM audit_leaf AS leaf WHERE leaf.action_id = record.action_id AND leaf.phase = record.phase)
"""
_NEWEST = "SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1"
_OPERATIONS = {
    "admin_create_domain": "create",
    "admin_update_domain": "update",
    "admin_delete_domain": "delete",
}


@dataclass
class Done:
    """What came of a round. Times in seconds."""

    fault: str
    told: list[Told]
    records: int
    acknowledged: int
    unknown: int
    closed_within: float
    """Until the last of them was found out."""
    unrecorded: int
    """Failures to sign that have no record of their own."""
    times: Promised
    wrong: list[Wrong] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[str]:
        return Counter(told.reason or str(told.status or "none") for told in self.told)


class Watcher:
    """Somebody outside who looks at the newest checkpoint all the time, as it is served to anybody and as it lies in
    the database, and keeps what it was shown."""

    def __init__(self, site: Site, crowd: Crowd) -> None:
        self._site = site
        self._crowd = crowd
        self.seen: set[str] = set()

    async def run(self) -> None:
        await asyncio.gather(self._look(), self._ask())

    async def _ask(self) -> None:
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as http:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    answer = await http.get(f"{self._crowd.endpoint}/checkpoint")
                    if answer.status_code == 200:
                        self.seen.add(answer.text)
                await asyncio.sleep(0.2)

    async def _look(self) -> None:
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        while True:
            try:
                async with asyncio.timeout(2):
                    connection = connection or await self._site.connect()
                    if note := await connection.fetchval(_NEWEST):
                        self.seen.add(note)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                if connection is not None:
                    connection.terminate()
                connection = None
            await asyncio.sleep(0.2)


async def round_of(
    site: Site, number: int, name: str, fault: Fault, choice: random.Random, tree: Tree, heart: Heartbeat
) -> Done:
    """Have the fault happen, and check everything."""
    await asyncio.to_thread(
        until, lambda: site.server.counted("chamberlain_workers", state="ready") == 2, "two workers"
    )
    began = time.monotonic()
    begun = await _until_answered(site, "SELECT pg_current_xact_id()::text AS xid")
    xid, prefix = str(begun[0]["xid"]), f"r{number}"
    crowd = Crowd(site.server.http, site.server.root, prefix, random.Random(choice.random()), site.offset)
    watcher = Watcher(site, crowd)
    watching = asyncio.create_task(watcher.run())
    crowd.start()
    await asyncio.sleep(BEFORE)
    try:
        struck = await fault(site, choice)
        healed = time.monotonic()
        crowd.endpoint = site.server.http
        recovered, led = await asyncio.gather(_quiet(crowd, healed), site.led())
    finally:
        await crowd.stop()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    unknown = [told for told in crowd.told if told.unknown]
    closed = await _closed(site, xid, unknown, healed)
    numbered = await _numbered(site, xid)
    kept = [_kept(row) for row in await site.sql(_RECORDS, xid)]
    rows = {
        row["id"]: Row(row["version"], row["description"], row["deleted_at"] is not None)
        for row in await site.sql(_ROWS, prefix)
    }
    times = promised(crowd.told, struck, led, heart.late_since(began))
    wrong = [*check(crowd.told, kept, rows), *times.wrong]
    if not recovered:
        wrong.append(Wrong(Kind.ANSWER, f"{PATIENCE:.0f} s after the fault requests still fail"))
    if not numbered:
        wrong.append(Wrong(Kind.INDEX, "records are not numbered"))
    wrong += await _of_the_tree(site, tree, watcher.seen)
    if not await _served(site, tree.size):
        wrong.append(Wrong(Kind.CHECKPOINT, f"the checkpoint that is served does not reach {tree.size} leaves"))
    return Done(
        fault=name,
        told=crowd.told,
        records=len(kept),
        acknowledged=sum(told.makes for told in crowd.told if told.done),
        unknown=len(unknown),
        closed_within=closed,
        unrecorded=unrecorded(crowd.told, kept),
        times=times,
        wrong=wrong,
    )


async def _quiet(crowd: Crowd, healed: float) -> bool:
    """Whether the failures end."""
    while time.monotonic() < healed + PATIENCE:
        quiet_since = max(healed, crowd.last_trouble())
        if time.monotonic() - quiet_since > QUIET:
            return True
        await asyncio.sleep(0.05)
    return False


async def _closed(site: Site, xid: str, unknown: Sequence[Told], healed: float) -> float:
    """Wait until what was unknown is known; ``check`` finds what never is."""
    wanted = {told.action_id for told in unknown}
    while wanted and time.monotonic() < healed + PATIENCE:
        wanted -= {row["action_id"] for row in await site.sql(_RECORDS, xid)}
        await asyncio.sleep(0.1)
    return time.monotonic() - healed if unknown else 0.0


async def _numbered(site: Site, xid: str) -> bool:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        [row] = await site.sql(_UNNUMBERED, xid)
        if not row["count"]:
            return True
        await asyncio.sleep(0.1)
    return False


async def _served(site: Site, size: int) -> bool:
    """Whether the checkpoint that anybody may ask for comes to cover so many leaves."""
    deadline = time.monotonic() + 15
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as http:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                answer = await http.get(f"{site.server.http}/checkpoint")
                if answer.status_code == 200 and Checkpoint.of(Note.read(answer.text)).size >= size:
                    return True
            await asyncio.sleep(0.1)
    return False


async def _of_the_tree(site: Site, tree: Tree, seen: set[str]) -> list[Wrong]:
    # The checkpoints first: what is signed by then is in the leaves that are read after.
    signed = {row["size"]: row["note"] for row in await site.sql(_CHECKPOINTS, tree.size)}
    leaves = [Leaf(row["index"], row["hash"], row["leaf"]) for row in await site.sql(_LEAVES, tree.size)]
    end = max(signed, default=tree.size)
    wrong = list(tree.grow((leaf for leaf in leaves if leaf.index < end), signed))
    return wrong + [one for note in seen for one in tree.agrees(note)]


async def _until_answered(site: Site, statement: str) -> list[asyncpg.Record]:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await site.sql(statement)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)


def _kept(row: asyncpg.Record) -> Kept:
    changes = _OPERATIONS.get(row["action"], "")
    text = None
    if changes:
        with contextlib.suppress(StopIteration):
            told = orjson.loads(row["leaf"])
            text = next(change["new"] for change in told["changes"] if change["field"] == "description")
    return Kept(row["request_id"], row["action_id"], row["phase"], row["result"], row["target_id"], changes, text)
