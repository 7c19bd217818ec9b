"""Law 7, counted: every record that is owed is settled, and what the metrics call a record is a row of the log."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

import asyncpg
import pytest
import structlog
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from actions.authorization.source import PolicySource
from actions.entities.audit_record import SPECS as AUDIT_SPECS
from actions.entities.audit_record import TAIL
from actions.errors import AuditUnavailable, ChamberlainError
from audit.accounts import Settled
from audit.lane import IN_FULL
from server.http.metrics import Metrics
from server.metrics_merge import decode, fold, merge
from tests.faults import somebody_waits, until
from tests.world.client import Caller
from tests.world.counted import registry
from tests.world.stage import Persona
from tests.world.world import World

NONE_OF_WHOAMI = b"rules:\n  - {level: none, operations: [whoami], entities: [user], results: [succeeded]}\n"
FOLLOW = next(spec for spec in AUDIT_SPECS if spec.operation == TAIL)


@dataclass
class Books:
    """What a scrape of ``/metrics`` says of the log."""

    owed: float
    settled: dict[str, float]
    under_way: float
    to_count: float

    @classmethod
    def of(cls, world: World) -> "Books":
        accounts: dict[str, float] = {}
        under_way = to_count = -1.0
        for family in text_string_to_metric_families(generate_latest(registry(world.app.metrics)).decode()):
            for sample in family.samples:
                if sample.name == "chamberlain_audit_accounts_total":
                    accounts[sample.labels["as"]] = sample.value
                elif sample.name == "chamberlain_audit_actions_under_way":
                    under_way = sample.value
                elif sample.name == "chamberlain_audit_failures_to_count":
                    to_count = sample.value
        owed = accounts.pop("owed")
        assert accounts.keys() == {*Settled}
        return cls(owed, accounts, under_way, to_count)

    @property
    def balance(self) -> float:
        return self.owed - sum(self.settled.values()) - self.under_way - self.to_count


async def rows(world: World) -> int:
    [found] = await world.sql("SELECT count(*) AS rows FROM audit_record")
    return int(found["rows"])


async def use(world: World, **files: bytes) -> None:
    """Decide by the policy in force with further files."""
    named = {f"{stem}.yaml": content for stem, content in files.items()}
    await world.app.policy.use(PolicySource({**world.app.policy.source.files, **named}))


@dataclass
class Crowd:
    """Callers of every kind, who know how many records their requests owe. ``owes`` is the sum of it."""

    world: World
    random: Random
    owes: int = 0
    seen: Counter[int] = field(default_factory=Counter)

    async def one(self) -> None:
        asks: list[Callable[[], Awaitable[int]]] = [
            *(self.read, self.change, self.denied, self.missing, self.invalid, self.batch, self.document),
            *(self.nonsense, self.bad_signature, self.bad_login, self.stream, self.internal, self.unserved, self.quiet),
        ]
        owed = await self.random.choice(asks)()
        self.owes += owed

    async def _ask(self, who: str, method: str, path: str, body: object = None) -> int:
        answer = await self.world.as_(who).send(method, path, body)
        self.seen[answer.status_code] += 1
        return answer.status_code

    async def read(self) -> int:
        await self._ask("root", "GET", "/admin/users")
        return 1

    async def quiet(self) -> int:
        await self._ask("mia", "GET", "/auth/whoami")
        return 1

    async def change(self) -> int:
        await self._ask("root", "PATCH", f"/admin/users/{self.world.id('mia')}", {"description": uuid4().hex})
        return 1

    async def denied(self) -> int:
        await self._ask("mia", "GET", "/admin/users")
        return 1

    async def missing(self) -> int:
        await self._ask("root", "GET", f"/admin/users/{uuid4()}")
        return 1

    async def invalid(self) -> int:
        await self._ask("root", "POST", "/admin/domains", {"nonsense": 1})
        return 1

    async def batch(self) -> int:
        users = [str(self.world.id(name)) for name in ("mia", "piotr", "olga")]
        users += [str(uuid4())] * self.random.randint(0, 1)
        items = [{"id": user, "change": {"description": uuid4().hex}} for user in users]
        mode = self.random.choice(["atomic", "partial"])
        status = await self._ask("root", "POST", "/admin/users/batch_update", {"items": items, "mode": mode})
        return 1 + (len(items) if status == 200 else 0)

    async def document(self) -> int:
        fields = self.random.randint(1, 4)
        told = " ".join(f"f{place}: adminSearchUsers {{ totalCount }}" for place in range(fields))
        await self._ask("root", "POST", "/graphql", {"query": f"{{ {told} }}"})
        return fields

    async def nonsense(self) -> int:
        await self._ask("root", "POST", "/graphql", {"query": "{ thereIsNoSuchField }"})
        return 0

    async def bad_signature(self) -> int:
        mia = self.world.personas["mia"]
        wrong = Persona("mia", mia.id, mia.access_key, "not the secret")
        address = f"192.0.2.{self.random.randint(1, 2)}"
        self.seen[(await Caller(self.world.asgi, wrong, address=address).send("GET", "/auth/whoami")).status_code] += 1
        return 1

    async def bad_login(self) -> int:
        caller = self.world.stranger(address=f"198.51.100.{self.random.randint(1, 2)}")
        answer = await caller.send("POST", "/auth/authorize", {"username": "mia", "password": "wrong"})
        self.seen[answer.status_code] += 1
        return 1

    async def stream(self) -> int:
        opened = 0
        with contextlib.suppress(ChamberlainError):
            async with self.world.app.following(FOLLOW, "system:operator", {"count": 1}) as parts:
                opened = 1
                await anext(parts)
        return 1 + opened

    async def internal(self) -> int:
        with contextlib.suppress(ChamberlainError):
            await self.world.app.internally(FOLLOW, "system:operator", {"count": 1})
        return 1

    async def unserved(self) -> int:
        await self._ask("root", "GET", "/no/such/path")
        return 0


async def refusing_at_times(world: World, random: Random) -> None:
    """Take the right to write the log away, give it back, and again. Ends as it began."""
    try:
        while True:
            await asyncio.sleep(random.uniform(0.02, 0.2))
            await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
            await asyncio.sleep(random.uniform(0.02, 0.2))
            await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")
    finally:
        await asyncio.shield(world.sql("GRANT INSERT ON audit_record TO chamberlain_app"))


async def test_whatever_is_asked_and_refused_the_books_balance(world: World) -> None:
    """Of a crowd that does everything, while the log is refused at random: each owed record is settled in one way, what
    is called a record is a row, and nobody who asked is missing."""
    await use(world, audit=NONE_OF_WHOAMI)
    random = Random(7)
    crowd = Crowd(world, random)
    before, rows_before = Books.of(world), await rows(world)
    numbering = asyncio.create_task(world.app.sequencer.run())  # a stream shows what has an index
    refusing = asyncio.create_task(refusing_at_times(world, random))
    for _ in range(30):
        await asyncio.gather(*(crowd.one() for _ in range(8)))
    for task in (refusing, numbering):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert Books.of(world).balance == 0
    await world.app.failures.flush(datetime.now(UTC), last=True)
    crowd.owes += sum("count" in (record.get("error") or {}) for record in await world.records())
    after = Books.of(world)
    gained = {how: after.settled[how] - before.settled[how] for how in after.settled}
    assert after.under_way == 0
    assert after.balance == 0
    assert after.owed - before.owed == crowd.owes
    assert gained[Settled.RECORD] == await rows(world) - rows_before
    assert all(gained[how] > 0 for how in Settled if how is not Settled.UNKNOWN), gained
    assert {200, 401, 403, 404, 422, 503} <= crowd.seen.keys()


async def hangs_up_while_locked(caller: Caller, world: World, table: str) -> None:
    """Somebody reads, and is cancelled, twice, when something of that waits for a table; then the table is free."""
    blocker = await asyncpg.connect(world.urls.migrator)
    try:
        await blocker.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        reading = asyncio.create_task(caller.get("/users/me"))
        await until(lambda: somebody_waits(world))
        for _ in range(2):
            reading.cancel()
            await asyncio.sleep(0)
        await blocker.execute("COMMIT")
        with pytest.raises(asyncio.CancelledError):
            await reading
    finally:
        await blocker.close()


async def test_a_reader_who_hangs_up_while_the_record_waits_leaves_one_record(world: World) -> None:
    await world.mia.get("/users/me", expect=200)
    before = Books.of(world)
    await hangs_up_while_locked(world.mia, world, "audit_record")
    assert [record["result"] for record in await world.records("user_user")] == ["succeeded"] * 2
    after = Books.of(world)
    assert (after.owed - before.owed, after.under_way, after.balance) == (1, 0, 0)


async def test_a_reader_who_hangs_up_while_the_record_is_sealed_leaves_one_record(world: World) -> None:
    """Nothing is on its way to the log then; what is left to do is done without whoever asked."""
    before = Books.of(world)
    await hangs_up_while_locked(world.mia, world, "subject_key")
    await until(lambda: _recorded(world, "user_user"))
    assert [record["result"] for record in await world.records("user_user")] == ["succeeded"]
    after = Books.of(world)
    assert (after.owed - before.owed, after.under_way, after.balance) == (1, 0, 0)


async def test_a_stranger_who_hangs_up_while_the_failure_is_recorded_is_in_the_books_as_a_record(world: World) -> None:
    mia = world.personas["mia"]
    stranger = world.as_(Persona("mia", mia.id, mia.access_key, "not the secret"))
    await stranger.get("/users/me", expect=401)
    before, rows_before = Books.of(world), await rows(world)
    await hangs_up_while_locked(stranger, world, "audit_record")
    after = Books.of(world)
    assert after.settled[Settled.RECORD] - before.settled[Settled.RECORD] == await rows(world) - rows_before == 1
    assert (after.owed - before.owed, after.under_way, after.balance) == (1, 0, 0)


async def _recorded(world: World, name: str) -> bool:
    return bool(await world.records(name))


async def test_what_is_under_way_is_owed_and_not_yet_settled(world: World) -> None:
    before = Books.of(world)
    async with world.app.following(FOLLOW, "system:operator", {"count": 1}):
        during = Books.of(world)
        assert (during.owed - before.owed, during.under_way, during.balance) == (2, 1, 0)
    after = Books.of(world)
    assert (after.owed - before.owed, after.under_way, after.balance) == (2, 0, 0)


async def flood(world: World) -> None:
    stranger = world.stranger(address="203.0.113.9")
    for _ in range(2 * IN_FULL + 4):  # a minute may turn in between
        await stranger.send("GET", "/auth/whoami", headers={"authorization": "BackendAI nonsense"})


async def test_the_count_of_a_flood_is_settled_once_it_is_written_and_owed_as_the_record_that_it_is(
    world: World,
) -> None:
    before, rows_before = Books.of(world), await rows(world)
    await flood(world)
    waiting = Books.of(world)
    assert waiting.to_count >= 4
    assert waiting.settled[Settled.COUNTED] == before.settled[Settled.COUNTED]
    await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    with pytest.raises(AuditUnavailable):
        await world.app.failures.flush(datetime.now(UTC) + timedelta(minutes=2))
    assert Books.of(world).to_count == waiting.to_count
    await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")
    await world.app.failures.flush(datetime.now(UTC) + timedelta(minutes=2))
    after = Books.of(world)
    counted = after.settled[Settled.COUNTED] - before.settled[Settled.COUNTED]
    assert (counted, after.to_count) == (waiting.to_count, 0)
    assert after.balance == 0
    records = await world.records("authenticate")
    assert sum(record["error"].get("count", 0) for record in records) == counted
    assert after.settled[Settled.RECORD] - before.settled[Settled.RECORD] == await rows(world) - rows_before


async def test_a_worker_that_ends_in_good_order_leaves_nothing_uncounted(world: World) -> None:
    """Not even of the minute that is not over."""
    async with world.app.working(housekeeper=False):
        await flood(world)
        waiting = Books.of(world).to_count
    assert waiting >= 4
    assert Books.of(world).to_count == 0
    records = await world.records("authenticate")
    assert sum(record["error"].get("count", 1) for record in records) == 2 * IN_FULL + 4


async def test_a_worker_that_cannot_write_its_counts_as_it_ends_says_how_many(world: World) -> None:
    await flood(world)
    waiting = Books.of(world).to_count
    await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    with structlog.testing.capture_logs() as told:
        await world.app.sweeper(housekeeper=False).last()
    assert [line["count"] for line in told if line["event"] == "failures not counted"] == [waiting]


async def test_a_worker_that_is_killed_leaves_what_it_had_under_way_unsettled(world: World) -> None:
    """Its counts are kept, and what it had begun is no longer under way anywhere: that many answers nobody got."""
    living, killed = Metrics(), Metrics()
    for metrics in (living, killed):
        metrics.owed(3)
        metrics.settled(Settled.RECORD, 2)
        metrics.account_begun()
    told = merge(fold([], decode(await killed.snapshot())), [decode(await living.snapshot())])
    values = {(sample.name, sample.labels.get("as")): sample.value for family in told for sample in family.samples()}
    settled = sum(values["chamberlain_audit_accounts_total", how] for how in Settled)
    assert values["chamberlain_audit_accounts_total", "owed"] - settled == 2
    assert values["chamberlain_audit_actions_under_way", None] == 1
