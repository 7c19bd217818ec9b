"""Law 8: nothing but PostgreSQL is awaited inside a transaction, and an effect outside it leaves no gap in the log."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest
import structlog
from pydantic import BaseModel
from sqlalchemy import bindparam, insert

from actions.errors import AuditUnavailable, Conflict, OutcomeUnknown, Unavailable
from actions.model import Input, Output
from actions.processor import Given, Offer
from actions.standard import Standard
from actions.vocabulary import Effect, Entity, Operation, ScopeType
from server import sweeper as sweeping
from server.repositories import database as databases
from server.repositories import unit as units
from server.repositories.database import Query
from server.repositories.intents import AT_ONCE, open_intents
from server.repositories.rows import domains
from server.repositories.unit import Unit
from server.services.catalogue import CatalogueError, pair
from tests.faults import another_worker
from tests.laws.support import action, edited, index_of, persona, pipeline, spec_named
from tests.world.world import World


class Countdown(Input):
    seconds: int


class Launched(Output):
    orbit: str


_ROCKETS = Standard(Entity("rocket", "rockets"), Launched)
_LAUNCH = Operation("launch", on_item=False)
[_spec] = _ROCKETS.offer(_LAUNCH, ScopeType.ADMIN, input=Countdown, sentence="Launch a rocket.")
SPEC = replace(_spec, effect=Effect.OUTSIDE)


async def _into_orbit() -> str:
    return "low"


async def _as_planned() -> None: ...


@dataclass
class Pad:
    """A throw-away service whose effect lies outside the database: ``far_side`` is what happens out there."""

    world: World
    far_side: Callable[[], Awaitable[str]] = _into_orbit
    concluding: Callable[[], Awaitable[None]] = _as_planned
    seen: list[tuple[str, str]] = field(default_factory=list)
    held: list[int] = field(default_factory=list)

    async def ready(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return Launched(orbit="wanted")

    async def launch(self, intent: BaseModel) -> object:
        self.held.append(self.world.app.database.occupancy()[0])
        self.seen += await self.told()
        return await self.far_side()

    async def conclude(self, unit: Unit, effect: object) -> BaseModel:
        await self.concluding()
        return Launched(orbit=str(effect))

    async def run(self) -> Any:
        offer = Offer(SPEC, self.ready, effect=self.launch, conclude=self.conclude)
        index = index_of(edited(self.world), SPEC)
        asked = action(SPEC, persona(self.world, "root"), given=b'{"seconds":3}')
        return await pipeline(self.world, {SPEC: offer}, policy=lambda: index).execute(asked)

    async def told(self) -> list[tuple[str, str]]:
        records = await self.world.records(SPEC.name)
        return [(record["phase"], record["result"]) for record in records]

    async def sweep(self) -> None:
        await self.world.app.sweeper(housekeeper=True).once()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intents count as forgotten as soon as they are there."""
    monkeypatch.setattr(sweeping, "INTENT_SECONDS", 0)


OPEN = [("intent", "pending")]
UNKNOWN = [("intent", "pending"), ("settled", "unknown")]


async def test_the_intent_is_on_disk_before_the_effect_and_the_outcome_after(world: World) -> None:
    pad = Pad(world)
    assert (await pad.run()).orbit == "low"
    assert pad.seen == OPEN
    assert await pad.told() == [("intent", "pending"), ("outcome", "succeeded")]


async def test_no_connection_is_held_while_the_effect_takes_its_time(world: World) -> None:
    pad = Pad(world)
    await pad.run()
    assert pad.held == [0]


async def test_an_effect_whose_intent_cannot_be_recorded_does_not_happen(world: World) -> None:
    pad = Pad(world)
    await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    with pytest.raises(AuditUnavailable):
        await pad.run()
    assert pad.held == []
    assert await pad.told() == []


async def test_a_far_side_that_says_no_is_an_outcome(world: World, at_once: None) -> None:
    async def refused() -> str:
        raise Conflict("There is a storm.")

    pad = Pad(world, refused)
    with pytest.raises(Conflict):
        await pad.run()
    await pad.sweep()
    assert await pad.told() == [("intent", "pending"), ("outcome", "failed")]


async def test_an_effect_that_is_cut_short_shows_as_unknown(world: World, at_once: None) -> None:
    async def exploded() -> str:
        raise RuntimeError("boom")

    pad = Pad(world, exploded)
    with pytest.raises(OutcomeUnknown) as unknown:
        await pad.run()
    assert await pad.told() == OPEN
    await pad.sweep()
    await pad.sweep()
    assert await pad.told() == UNKNOWN
    closing = (await world.records(SPEC.name))[-1]
    assert closing["id"] == unknown.value.extra["action_id"]
    assert closing["principal"]["name"] == "system:sweeper"
    assert closing["closes"]["principal"]["name"] == f"user:{world.id('root')}"


async def test_an_effect_whose_caller_hangs_up_shows_as_unknown(world: World, at_once: None) -> None:
    under_way = asyncio.Event()

    async def endless() -> str:
        under_way.set()
        await asyncio.Event().wait()
        return "never"

    pad = Pad(world, endless)
    call = asyncio.create_task(pad.run())
    await under_way.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await pad.told() == OPEN
    await pad.sweep()
    assert await pad.told() == UNKNOWN


async def test_an_effect_that_took_place_is_never_told_as_failed(world: World, at_once: None) -> None:
    """What came of it could not be written: that is unknown, not a failure."""

    async def forgetful() -> None:
        raise Conflict("The book is full.")

    pad = Pad(world, concluding=forgetful)
    with pytest.raises(OutcomeUnknown):
        await pad.run()
    await pad.sweep()
    assert await pad.told() == UNKNOWN


async def test_an_intent_is_left_alone_while_its_effect_may_still_be_under_way(world: World) -> None:
    pad: Pad

    async def slow() -> str:
        await pad.sweep()
        return "high"

    pad = Pad(world, slow)
    await pad.run()
    assert await pad.told() == [("intent", "pending"), ("outcome", "succeeded")]


_PLANT = """
    INSERT INTO audit_record (action_id, phase, at, action, result, principal, request_id, scope_type, leaf)
    SELECT gen_random_uuid(), 'intent', now() - make_interval(mins => 90, secs => -number), action,
    'pending', principal, 'planted', scope_type,
    CASE number WHEN 0 THEN 'broken'::bytea ELSE leaf END FROM generate_series(0, 249) AS number,
    (SELECT * FROM audit_record WHERE phase = 'done' LIMIT 1) AS model
"""
_CLOSED = """
    SELECT settled.at, settled.result FROM audit_record AS intent LEFT JOIN audit_record AS settled
    ON settled.action_id = intent.action_id AND settled.phase = 'settled'
    WHERE intent.request_id = 'planted' AND intent.phase = 'intent' ORDER BY intent.at
"""


async def test_however_many_intents_are_open_one_sweep_closes_them_the_oldest_first(world: World) -> None:
    """One of them cannot be closed, which keeps nobody from closing the others."""
    await world.sql(_PLANT)
    oldest = await open_intents(world.app.database, 30)
    assert len(oldest) == AT_ONCE
    assert [row["at"] for row in oldest] == sorted(row["at"] for row in oldest)
    with structlog.testing.capture_logs() as told:
        await world.app.sweeper(housekeeper=True).once()
    assert [line["count"] for line in told if line["event"] == "intents not closed"] == [1]
    closed = await world.sql(_CLOSED)
    assert [row["result"] for row in closed] == [None] + ["unknown"] * 249
    first, last = closed[1:AT_ONCE], closed[-49:]
    assert max(row["at"] for row in first) <= min(row["at"] for row in last)


async def test_a_log_that_takes_none_of_a_hundred_is_not_asked_to_take_more(world: World) -> None:
    await world.sql(_PLANT)
    await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    with structlog.testing.capture_logs() as told:
        await world.app.sweeper(housekeeper=True).once()
    assert [line["count"] for line in told if line["event"] == "intents not closed"] == [AT_ONCE]
    await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")
    await world.app.sweeper(housekeeper=True).once()
    assert sum(row["result"] == "unknown" for row in await world.sql(_CLOSED)) == 249


def test_a_catalogue_with_an_effect_that_nobody_carries_out_does_not_start() -> None:
    class Halfway:
        specs = (SPEC,)

        def offers(self) -> Any:
            async def ready(unit: Unit, given: Given[Any]) -> BaseModel:
                return Launched(orbit="none")

            yield Offer(SPEC, ready)

    with pytest.raises(CatalogueError, match="effect"):
        pair(Halfway(), declared=(SPEC,))


# -- transactions --

_ADD = Query(insert(domains).values(id=bindparam("id"), name=bindparam("name")))
_CREATE = spec_named("admin_create_domain")


async def _dawdle(world: World) -> None:
    async def handler(unit: Unit, given: Given[Any]) -> BaseModel:
        await unit.begin()
        await unit.write(_ADD, id=uuid4(), name="dawdled")
        await asyncio.sleep(30)
        return Launched(orbit="none")

    asked = action(_CREATE, persona(world, "root"), given=b'{"name":"dawdled"}')
    with pytest.raises(Unavailable) as refused:
        await pipeline(world, {_CREATE: handler}).execute(asked)
    assert refused.value.reason == "deadline-exceeded"
    assert not await world.sql("SELECT FROM domain WHERE name = 'dawdled'")
    [record] = [record for record in await world.records(_CREATE.name) if record["id"] == str(asked.id)]
    assert record["result"] == "failed"
    assert world.app.database.occupancy()[0] == 0


async def test_a_handler_that_dawdles_in_a_transaction_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert databases.WRITE_SECONDS == 5.0
    monkeypatch.setattr(units, "WRITE_SECONDS", 0.3)
    await _dawdle(world)


async def test_postgresql_itself_ends_a_transaction_that_lasts_too_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "WRITE_SECONDS", 1.0)
    async with another_worker(world) as short, short.app.database.connection() as connection:
        monkeypatch.undo()
        for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
            assert await connection.fetchval(f"SHOW {setting}") == "1s"
        assert await connection.fetchval("SHOW transaction_timeout") == "1500ms"
        await connection.execute("BEGIN")
        await connection.execute("UPDATE users SET description = 'held' WHERE id = $1", world.id("mia"))
        # Whoever wants the row gets it, though the client that holds it never lets go.
        async with asyncio.timeout(4):
            while (await world.root.send("PATCH", f"/admin/users/{world.id('mia')}", {"description": "x"})).is_error:
                pass


async def test_nothing_but_postgresql_is_awaited_while_a_connection_is_held(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything slow that is not PostgreSQL runs in a thread: at each hand-over, no connection is in use."""
    loop = asyncio.get_running_loop()
    hand_over, used = loop.run_in_executor, []

    def watched(executor: Any, function: Any, *arguments: Any) -> Any:
        used.append(world.app.database.occupancy()[0])
        return hand_over(executor, function, *arguments)

    monkeypatch.setattr(loop, "run_in_executor", watched)
    newcomer = await world.newcomer("fresh")  # hashes a password
    reset = {"password": "yet another long password"}
    await world.root.post(f"/admin/users/{newcomer.id}/reset_password", reset)  # hashes
    change = {"old_password": reset["password"], "new_password": "and one more of them"}
    await world.as_(newcomer).post("/users/me/change_password", change)  # verifies and hashes
    assert used == [0] * 4
