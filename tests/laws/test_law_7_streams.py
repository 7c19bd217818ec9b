"""Law 7 for streams: one record when it opens and one when it closes, whatever happens between; and nothing is held."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from actions import processor as processing
from actions.entities.audit_record import SPECS, TAIL
from actions.errors import AuditUnavailable, BrokenOff, ChamberlainError, Denied, Internal
from actions.model import Input, Output
from actions.processor import Given, Offer
from actions.standard import Standard
from actions.streams import Progress
from actions.vocabulary import Entity, Operation, ScopeType
from server.repositories.unit import Unit
from server.services import audit_following
from tests.faults import another_worker, until
from tests.laws.support import action, edited, index_of, persona, pipeline
from tests.world.world import World


class Tick(Output):
    number: int


class Ticking(Input):
    fail_at: int | None = None
    end: int | None = None


_CLOCKS = Standard(Entity("clock", "clocks"), Tick)
_WATCH = Operation("watch", on_item=False, reads=True)
[SPEC] = _CLOCKS.offer(_WATCH, ScopeType.DOMAIN, input=Ticking, output=Tick, sentence="Hear a clock tick.")
_TAIL = next(spec for spec in SPECS if spec.operation == TAIL)
OPERATOR = "system:operator"


@dataclass
class Ticks:
    """A throw-away stream: numbers from 1, each in a unit of work, as soon as ``ready`` is set."""

    fail_at: int | None
    end: int | None
    ready: asyncio.Event
    units: list[Unit] = field(default_factory=list)

    async def part(self, unit: Unit) -> Tick | None:
        if not self.ready.is_set():
            return None
        self.units.append(unit)
        if len(self.units) == self.fail_at:
            raise RuntimeError("the spring is broken")
        return Tick(number=len(self.units))

    async def wait(self) -> None:
        await self.ready.wait()

    def progress(self) -> Progress:
        come = len(self.units)
        return Progress(self.end is None or come >= self.end, come, come or None)


@dataclass
class Clock:
    """Follows the ticks as a persona, with a policy that lets domain members."""

    world: World
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    line: str = "p, domain_member, domain, clock, watch, allow"

    def __post_init__(self) -> None:
        self.ready.set()
        self.index = index_of(edited(self.world, domain=self.line), SPEC)

    def follow(self, who: str = "mia", **given: Any) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        async def never(unit: Unit, given: Given[Any]) -> Tick:
            raise AssertionError("it is followed")

        offer = Offer(SPEC, never, follow=lambda given: Ticks(given.input.fail_at, given.input.end, self.ready))
        asked = action(SPEC, persona(self.world, who), "research", given=given)
        return pipeline(self.world, {SPEC: offer}, policy=lambda: self.index).follow(asked)

    async def told(self) -> list[tuple[str, str]]:
        return [(record["phase"], record["result"]) for record in await self.world.records(SPEC.name)]

    async def why(self) -> object:
        error = (await self.world.records(SPEC.name))[-1].get("error")
        return error and error["reason"]

    async def parts(self) -> int:
        told = await self.world.records(SPEC.name)
        return int(told[-1]["stream"]["parts"])


RUN = [("opened", "pending"), ("closed", "succeeded")]
BROKEN = [("opened", "pending"), ("closed", "broken-off")]


async def test_a_stream_is_recorded_when_it_opens_and_when_it_closes_and_not_between(world: World) -> None:
    clock = Clock(world)
    async with clock.follow() as ticks:
        assert await clock.told() == RUN[:1]
        assert [(await anext(ticks)).number for _ in range(3)] == [1, 2, 3]
        assert await clock.told() == RUN[:1]
    assert await clock.told() == RUN
    assert await clock.parts() == 3
    opened, closed = await world.records(SPEC.name)
    assert opened["id"] == closed["id"]
    assert "stream" not in opened
    assert {"field": "sent", "new": {"records": 3, "last": 3}, "old": None} in closed["changes"]
    assert "error" not in closed


@pytest.mark.parametrize(
    ("taken", "end", "why"),
    [(2, 2, None), (1, 2, "left-early"), (0, 1, "left-early"), (1, None, None), (0, None, None)],
)
async def test_who_was_sent_all_that_was_asked_for_is_told_from_who_left_before(
    world: World, taken: int, end: int | None, why: str | None
) -> None:
    clock = Clock(world)
    async with clock.follow(end=end) as ticks:
        for _ in range(taken):
            await anext(ticks)
    assert await clock.told() == (BROKEN if why else RUN)
    assert await clock.why() == why


@pytest.mark.parametrize("why", ["reader-too-slow", "stopping"])
async def test_who_is_cut_off_is_recorded_as_that(world: World, why: str) -> None:
    clock = Clock(world)

    async def consume() -> None:
        async with clock.follow() as ticks:
            await anext(ticks)
            raise BrokenOff(why)

    with pytest.raises(BrokenOff):
        await consume()
    assert (await clock.told(), await clock.why(), await clock.parts()) == (BROKEN, why, 1)


async def test_a_stream_that_may_not_open_has_the_one_record_of_a_refusal(world: World) -> None:
    clock = Clock(world)
    with pytest.raises(Denied):
        async with clock.follow("nobody"):
            pytest.fail("it opened")
    assert await clock.told() == [("done", "denied")]
    with pytest.raises(ChamberlainError):
        async with clock.follow(fail_at="never"):
            pytest.fail("it opened")
    assert await clock.told() == [("done", "denied"), ("done", "failed")]


async def test_a_consumer_that_fails_keeps_its_own_error_and_was_not_sent_all(world: World) -> None:
    clock = Clock(world)

    async def consume() -> None:
        async with clock.follow() as ticks:
            await anext(ticks)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await consume()
    assert (await clock.told(), await clock.why()) == (BROKEN, "torn-off")


async def test_an_error_in_the_midst_ends_the_stream_and_is_recorded_as_a_failure(world: World) -> None:
    clock = Clock(world)

    async def consume() -> None:
        async with clock.follow(fail_at=3) as ticks:
            async for _ in ticks:
                pass

    with pytest.raises(Internal):
        await consume()
    assert await clock.told() == [("opened", "pending"), ("closed", "failed")]
    assert await clock.parts() == 2


async def _cancelled(task: "asyncio.Task[None]", times: int) -> None:
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("times", [1, 2])
async def test_whoever_hangs_up_closes_the_stream_once(world: World, times: int) -> None:
    clock, begun = Clock(world), asyncio.Event()

    async def consume() -> None:
        async with clock.follow() as ticks:
            await anext(ticks)
            clock.ready.clear()
            begun.set()
            async for _ in ticks:
                pytest.fail("nothing ticks")

    task = asyncio.create_task(consume())
    await begun.wait()
    await _cancelled(task, times)
    await until(lambda: _is(clock.told, BROKEN))


async def test_whoever_hangs_up_while_the_stream_opens_leaves_it_closed(world: World) -> None:
    """The log is locked, so that the opening has to wait for its record; meanwhile the task is cancelled."""
    clock = Clock(world)

    async def consume() -> None:
        async with clock.follow():
            pytest.fail("nobody is there")

    blocker = await asyncpg.connect(world.urls.migrator)
    try:
        await blocker.execute("BEGIN; LOCK TABLE audit_record IN ACCESS EXCLUSIVE MODE")
        task = asyncio.create_task(consume())
        await until(lambda: _somebody_waits(world))
        await _cancelled_soon(task)
        await blocker.execute("COMMIT")
    finally:
        await blocker.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: _is(clock.told, BROKEN))


async def _cancelled_soon(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.sleep(0)


async def _somebody_waits(world: World) -> bool:
    return bool(await world.sql("SELECT FROM pg_locks WHERE NOT granted AND relation = 'audit_record'::regclass"))


async def _is(ask: Callable[[], Awaitable[object]], expected: object) -> bool:
    return await ask() == expected


async def test_without_a_log_no_stream_opens(world: World) -> None:
    clock = Clock(world)
    await world.mia.get("/auth/whoami")
    await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    with pytest.raises(AuditUnavailable):
        async with clock.follow():
            pytest.fail("it opened")
    await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")
    assert await clock.told() == []


async def test_a_closing_that_cannot_be_recorded_is_told(world: World) -> None:
    clock = Clock(world)

    async def consume() -> None:
        async with clock.follow() as ticks:
            await anext(ticks)
            await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")

    with pytest.raises(AuditUnavailable):
        await consume()
    await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")
    assert await clock.told() == RUN[:1], "it reads as never closed"


async def test_a_reader_that_fails_while_its_end_cannot_be_recorded_keeps_its_own_error(world: World) -> None:
    clock = Clock(world)

    async def consume() -> None:
        async with clock.follow():
            await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await consume()
    await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")
    assert await clock.told() == RUN[:1]


async def test_rights_that_are_revoked_end_the_stream_even_if_nothing_is_new(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "LOOK_AGAIN_SECONDS", 0.05)
    clock = Clock(world)
    [binding] = (
        await world.root.get(f"/users/{world.id('mia')}/role-bindings", filter={"role": {"equals": "domain_member"}})
    )["items"]
    async with clock.follow() as ticks:
        await anext(ticks)
        clock.ready.clear()
        await world.root.delete(f"/admin/role-bindings/{binding['id']}")
        with pytest.raises(Denied):
            async with asyncio.timeout(5):
                await anext(ticks)
    assert await clock.told() == [("opened", "pending"), ("closed", "denied")]
    assert await clock.parts() == 1


async def test_it_is_decided_anew_before_each_part(world: World) -> None:
    clock = Clock(world)
    async with clock.follow() as ticks:
        await anext(ticks)
        clock.index = index_of(edited(world), SPEC)
        with pytest.raises(Denied):
            await anext(ticks)
    assert (await world.records(SPEC.name))[-1]["decision"]["allowed"] is False


async def test_followers_hold_nothing_between_their_parts(world: World) -> None:
    """Five of them on a pool of two, and others still get their answers."""
    async with another_worker(world, database_pool=2) as small:
        streams = [Clock(small).follow() for _ in range(5)]
        parts = [await stream.__aenter__() for stream in streams]
        for _ in range(3):
            assert [(await anext(part)).number for part in parts]
            assert small.app.database.occupancy()[0] == 0
        await small.root.patch(f"/admin/users/{small.id('mia')}", {"description": "meanwhile"})
        for stream in streams:
            await stream.__aexit__(None, None, None)
    assert await Clock(world).told() == [RUN[0]] * 5 + [RUN[1]] * 5


async def test_a_stream_that_nobody_closed_reads_as_open(world: World) -> None:
    """As after a kill: the process is gone, and says nothing more. No sweeper makes up an end."""
    clock = Clock(world)
    stream = clock.follow()
    await stream.__aenter__()
    async with world.app.working(housekeeper=True) as sweeper:
        await sweeper.once()
    assert await clock.told() == RUN[:1]
    await stream.__aexit__(None, None, None)


# -- the tail of the log --


class Tail:
    """Follows the log as the operator does, and gathers what comes."""

    def __init__(self, world: World, count: int = 1) -> None:
        self.world = world
        self.seen: list[dict[str, Any]] = []
        self._count = count
        self._begun = asyncio.Event()

    async def __aenter__(self) -> "Tail":
        self._task = asyncio.create_task(self.gather())
        async with asyncio.timeout(5):
            await self._begun.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def gather(self) -> None:
        async with self.world.app.following(_TAIL, OPERATOR, {"count": self._count}) as parts:
            async for part in parts:
                self.seen += part.records
                self._begun.set()

    def targets(self) -> list[str]:
        return [one["target"]["id"] for one in self.seen if one["action"] == "held"]


def _held(number: int) -> str:
    """A record made by hand: its id says when its action began."""
    return (
        "INSERT INTO audit_record (action_id, phase, at, action, result, principal, request_id, scope_type, leaf)"
        f" VALUES ('00000000-0000-7000-8000-00000000000{number}', 'done', now(), 'held', 'succeeded', 'x', '', 'admin',"
        f""" '{{"action": "held", "target": {{"id": "{number}"}}}}')"""
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_following, "POLL_SECONDS", 0.02)


@pytest.mark.usefixtures("quick")
async def test_a_record_that_commits_late_is_neither_missed_nor_seen_twice(world: World) -> None:
    """The first transaction is held open while later ones begin and commit: they have to wait for it, and come in the
    order of the log."""
    early, late = [await asyncpg.connect(world.urls.migrator) for _ in range(2)]
    await world.app.sequencer.catch_up()
    try:
        await early.execute("BEGIN")
        await early.execute(_held(1))
        async with Tail(world) as tail:
            for number in (2, 3):
                await late.execute(_held(number))
            await world.app.sequencer.catch_up()
            assert tail.targets() == []
            await early.execute("COMMIT")
            await world.app.sequencer.catch_up()
            await until(lambda: _is(lambda: _value(tail.targets()), ["1", "2", "3"]))
            await late.execute(_held(4))
            await world.app.sequencer.catch_up()
            await until(lambda: _is(lambda: _value(tail.targets()), ["1", "2", "3", "4"]))
    finally:
        await early.close()
        await late.close()


async def _value(value: object) -> object:
    return value


@pytest.mark.usefixtures("quick")
async def test_every_record_comes_once_however_many_come_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_following, "PAGE", 7)
    monkeypatch.setattr(audit_following, "STRETCH", 11)
    await world.app.sequencer.catch_up()
    async with Tail(world) as tail:
        assert len(tail.seen) == 1
        answers = [world.root.get(f"/admin/users/{world.id('mia')}") for _ in range(40)]
        await asyncio.gather(*answers)
        await world.app.sequencer.catch_up()

        async def all_seen() -> bool:
            return len([one for one in tail.seen if one["action"] == "admin_user"]) >= 40

        await until(all_seen)
        ids = [(one["id"], one["phase"]) for one in tail.seen]
        assert len(ids) == len(set(ids))
        written = {(one["id"], one["phase"]) for one in await world.records("admin_user")}
        assert written <= set(ids)
    told = [(one["phase"], one["result"]) for one in await world.records(_TAIL.name)]
    assert told == BROKEN, "its task was cancelled"


@pytest.mark.usefixtures("quick")
async def test_a_tail_begins_with_the_latest_records_that_are_numbered(world: World) -> None:
    await world.app.sequencer.catch_up()
    numbered = [one["id"] for one in await world.records()]
    await world.root.get("/auth/whoami")
    async with Tail(world, count=3) as tail:
        assert [one["id"] for one in tail.seen] == numbered[-3:]
        await world.app.sequencer.catch_up()

        async def sees_itself_begin() -> bool:
            return bool(tail.seen[-1]["phase"] == "opened")

        await until(sees_itself_begin)
        assert len(tail.seen) == 5


@pytest.mark.usefixtures("quick")
async def test_a_tail_of_a_log_that_has_no_index_yet_begins_with_the_first(world: World) -> None:
    tail = Tail(world, count=1000)
    task = asyncio.create_task(tail.gather())
    await until(lambda: _is(lambda: _value(tail.seen), []))
    records = await world.records()
    await world.app.sequencer.catch_up()
    await until(lambda: _is(lambda: _value(len(tail.seen) >= len(records)), True))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
