"""Law 7, swept: every action of the catalogue leaves its records in each way in which it can end.

The declarations, the pipeline, the units of work and the log are the real ones. So is what an action does, wherever it
is to succeed, to be a stream, to name what is not there, or to be done in part (`STAND_INS` are the few that cannot
here). For the other endings that part alone is replaced, since most actions cannot be made to crash, to lose their
commit or to be late otherwise. `tests/golden/coverage.txt` says what is expected.
"""

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import asyncpg
import pytest
from pydantic import BaseModel

from actions.action import AnyAction
from actions.authorization.index import PolicyIndex
from actions.authorization.source import PolicySource
from actions.entities import ALL_SPECS, whole_vocabulary
from actions.errors import AuditUnavailable, ChamberlainError, Conflict, NotFound, OutcomeUnknown
from actions.processor import Given, Offer, Processor
from actions.standard import Spec
from actions.streams import Progress
from actions.vocabulary import Effect
from audit.record import Phase
from server import sweeper as sweeping
from server.repositories.fate import Unsettled
from server.repositories.unit import Unit
from tests.documents import document, post, variables
from tests.golden.pages import ENDINGS, FOLLOWED, covered
from tests.laws.furnished import Furnished, missing_one, principal_of, unusable, whatever
from tests.laws.support import Places, action, aimed, edited, index_of, pipeline, plausible, request
from tests.world.world import World

Do = Callable[[Unit, Given[Any]], Awaitable[BaseModel]]
Told = Counter[tuple[str, str]]
"""How many records there are of a phase and a result."""
Sent = Mapping[Spec, AnyAction]
AT_ONCE = 8
SERVED = [spec for spec in ALL_SPECS if not spec.internal]
STAND_INS = {
    **dict.fromkeys(
        ("admin_list_audit_partition", "admin_archive_audit_partition", "admin_drop_audit_partition"),
        "who owns the tables does it, and a server is not that",
    ),
    "admin_who_could_policy": "a policy would have to be in force for some time",
    "admin_bootstrap_installation": "the installation would have to be empty",
}
"""What cannot succeed here with its own handler, and why."""


async def done(unit: Unit, given: Given[Any]) -> BaseModel:
    """What every action that changes something comes down to: a transaction in which something was written."""
    if unit.permit.action.spec.effect is not Effect.NONE:
        await unit.begin()
        unit.will_be_written()
        if unit.permit.action.principal.id is not None:
            await unit.require_reach(unit.permit.action.principal.id)
        for account in unit.outcome.parts:
            unit.absorb(unit.part(account, {}, unit.directory))
    return unit.permit.action.spec.output.model_construct()


def ending_in(error: Exception) -> Do:
    async def do(unit: Unit, given: Given[Any]) -> BaseModel:
        await done(unit, given)
        raise error

    return do


async def lost(unit: Unit, given: Given[Any]) -> BaseModel:
    """A commit that nobody can be asked about: it is left to the sweeper, as ``Fates.settle`` does."""
    await done(unit, given)
    unit._units.fates._unsettled.append(Unsettled("no backend of this name", unit.outcome, Phase.DONE))
    raise OutcomeUnknown(str(unit.permit.action.id))


async def far_side(intent: BaseModel) -> object:
    return None


async def breaks_off(intent: BaseModel) -> object:
    raise ConnectionError("the far side is gone")


async def concluded(unit: Unit, effect: object) -> BaseModel:
    return unit.permit.action.spec.output.model_construct()


class OnePart:
    """A stream that nothing comes after."""

    def __init__(self, given: Given[Any]) -> None: ...

    async def part(self, unit: Unit) -> BaseModel:
        return unit.permit.action.spec.output.model_construct()

    async def wait(self) -> None: ...

    def progress(self) -> Progress:
        return Progress(complete=True)


def standing_in(spec: Spec, do: Do, effect: Callable[[BaseModel], Awaitable[object]] = far_side) -> Offer[Unit]:
    """An offer that does nothing of its own."""
    if spec.effect is Effect.OUTSIDE:
        return Offer(spec, do, effect=effect, conclude=concluded)
    return Offer(spec, do)


class Sweep:
    """Runs actions of the catalogue once each, and counts what they leave."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.places = Places("research", str(world.places.lab), str(world.id("mia")))
        self.sent: dict[Spec, AnyAction] = {}
        self.errors: dict[Spec, ChamberlainError] = {}

    async def run(self, do: Do, *, policy: Callable[[], PolicyIndex] | None = None, given: bytes | None = None) -> None:
        """All of them, with something else in place of what they do."""
        offers = {spec: standing_in(spec, do) for spec in ALL_SPECS}
        processor = pipeline(self.world, offers, policy=policy)
        self.sent = {spec: self._action(spec, given) for spec in ALL_SPECS}
        await self._each(lambda spec: self._execute(processor, spec))

    async def hang_up(self) -> None:
        """All of them, and each time whoever asked goes away in the middle of it."""

        async def one(spec: Spec) -> None:
            begun = asyncio.Event()

            async def waits(unit: Unit, given: Given[Any]) -> BaseModel:
                begun.set()
                await asyncio.Event().wait()
                raise AssertionError

            processor = pipeline(self.world, {spec: standing_in(spec, waits)})
            asking = asyncio.create_task(processor.execute(self.sent[spec]))
            await begun.wait()
            asking.cancel()
            await asyncio.wait({asking})
            assert asking.cancelled()

        self.sent = {spec: self._action(spec, None) for spec in ALL_SPECS}
        await self._each(one)

    async def in_earnest(self, change: Callable[[AnyAction], AnyAction] | None = None, *specs: Spec) -> None:
        """Some of them as they are, one after the other, each on something of its own."""
        real = self.world.app.processor._offers
        offers = {spec: standing_in(spec, done) if spec.name in STAND_INS else real[spec] for spec in ALL_SPECS}
        processor = pipeline(self.world, offers)
        owner = await asyncpg.connect(self.world.urls.migrator)
        try:
            furnished = await Furnished.of(self.world, owner)
            for spec in specs:
                made = await furnished.ready(spec)
                self.sent[spec] = made if change is None else change(made)
                await self._execute(processor, spec)
        finally:
            await owner.close()

    async def follow(self, *, broken: bool) -> None:
        """Those that can be streams, up to their first part. It is told of to whoever reads on, or sending it fails."""
        real = dict(self.world.app.processor._offers)
        assert {spec.operation.word for spec, offer in real.items() if offer.follow is not None} == FOLLOWED
        for spec in [spec for spec, offer in real.items() if offer.follow and spec.name in STAND_INS]:
            real[spec] = Offer(spec, done, follow=OnePart)
        processor = pipeline(self.world, real)
        await self.world.app.sequencer.catch_up()
        for spec in [spec for spec, offer in real.items() if offer.follow is not None]:
            given = {"first": 0, "end": 1} if spec.operation.word == "export" else whatever(self.world, spec)
            self.sent[spec] = action(spec, principal_of(self.world, spec), self.places.of(spec.scope_type), given=given)
            leaving = asyncio.timeout(5)
            async with leaving, processor.follow(self.sent[spec], _breaking() if broken else None) as parts:
                try:
                    await anext(parts)
                except ChamberlainError as error:
                    self.errors[spec] = error

    async def _each(self, one: Callable[[Spec], Awaitable[None]]) -> None:
        waiting = asyncio.Semaphore(AT_ONCE)

        async def some(spec: Spec) -> None:
            async with waiting:
                await one(spec)

        await asyncio.gather(*(some(spec) for spec in ALL_SPECS))

    async def _execute(self, processor: Processor[Unit], spec: Spec) -> None:
        try:
            await processor.execute(self.sent[spec])
        except ChamberlainError as error:
            self.errors[spec] = error

    async def records(self) -> Mapping[Spec, Told]:
        """What there is of each of these, the records of a batch's items among them."""
        of_request = {asked_for.context.request_id: spec for spec, asked_for in self.sent.items()}
        found: defaultdict[Spec, Told] = defaultdict(Counter)
        for row in await self.world.sql("SELECT request_id, phase, result FROM audit_record"):
            if (spec := of_request.get(row["request_id"])) is not None:
                found[spec][row["phase"], row["result"]] += 1
        return found

    def _action(self, spec: Spec, given: bytes | None) -> AnyAction:
        target = str(uuid.uuid4())
        sent = aimed(spec, target, whatever(self.world, spec)) if given is None else given
        return action(spec, principal_of(self.world, spec), self.places.of(spec.scope_type), target=target, given=sent)


def _breaking() -> Callable[[], Awaitable[None]]:
    async def still_good() -> None:
        raise RuntimeError("a mistake of ours")

    return still_good


@asynccontextmanager
async def refused_log(world: World) -> AsyncIterator[None]:
    await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    yield
    await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")


def undecidable() -> PolicyIndex:
    raise RuntimeError("nothing can be decided")


ENDED: Mapping[str, Do] = {
    "missing": ending_in(NotFound()),
    "conflict": ending_in(Conflict("It cannot be done now.")),
    "crashed": ending_in(RuntimeError("a mistake of ours")),
    "lost": lost,
    "late": ending_in(TimeoutError()),
}


async def expect(sweep: Sweep, ending: str) -> None:
    """All records that were to be left, and no other; whatever cannot end so was not sent."""
    found = await sweep.records()
    expected = {spec: covered(spec, ending) for spec in ALL_SPECS}
    assert sweep.sent.keys() == {spec for spec, told in expected.items() if told is not None}
    assert {spec.name: found[spec] for spec in sweep.sent} == {
        spec.name: Counter(told) for spec, told in expected.items() if told is not None
    }


@pytest.mark.parametrize("ending", [*ENDED, "denied", "undecided", "invalid", "refused"])
async def test_every_action_leaves_its_records_however_it_fails(world: World, ending: str) -> None:
    sweep = Sweep(world)
    silent = index_of(edited(world, without="p, "))
    policies: Mapping[str, Callable[[], PolicyIndex]] = {"denied": lambda: silent, "undecided": undecidable}
    log: AbstractAsyncContextManager[None] = refused_log(world) if ending == "refused" else nullcontext()
    async with log:
        await sweep.run(
            ENDED.get(ending, done), policy=policies.get(ending), given=b"{" if ending == "invalid" else None
        )
    if ending == "lost":
        while world.app.units.fates._unsettled:
            await world.app.units.fates.sweep()
    if ending == "refused":
        assert {type(error) for error in sweep.errors.values()} == {AuditUnavailable}
    assert sweep.errors.keys() == set(ALL_SPECS)
    await expect(sweep, ending)


async def test_every_action_leaves_its_records_when_it_is_done(world: World) -> None:
    sweep = Sweep(world)
    await sweep.in_earnest(None, *ALL_SPECS)
    assert {spec.name: str(error) for spec, error in sweep.errors.items()} == {}
    await expect(sweep, "succeeded")


async def test_every_action_leaves_its_record_when_nobody_waits_for_it(world: World) -> None:
    sweep = Sweep(world)
    await sweep.hang_up()
    await expect(sweep, "hung_up")


@pytest.mark.parametrize("ending", ["followed", "broken"])
async def test_every_stream_leaves_its_records_however_it_ends(world: World, ending: str) -> None:
    sweep = Sweep(world)
    await sweep.follow(broken=ending == "broken")
    assert bool(sweep.errors) is (ending == "broken")
    await expect(sweep, ending)


async def test_every_action_that_names_things_leaves_its_record_when_they_cannot_be_used(world: World) -> None:
    sweep = Sweep(world)
    await sweep.in_earnest(unusable, *(spec for spec in ALL_SPECS if spec.uses))
    assert {error.reason for error in sweep.errors.values()} == {"unknown-reference"}
    await expect(sweep, "unusable")


async def test_every_batch_leaves_its_records_when_it_is_done_in_part(world: World) -> None:
    sweep = Sweep(world)
    await sweep.in_earnest(missing_one, *(spec for spec in ALL_SPECS if spec.each is not None))
    assert sweep.errors == {}
    await expect(sweep, "partial")


async def test_every_effect_outside_leaves_its_records_when_it_is_cut_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "INTENT_SECONDS", 0)
    sweep = Sweep(world)
    for spec in [spec for spec in ALL_SPECS if spec.effect is Effect.OUTSIDE]:
        sweep.sent[spec] = sweep._action(spec, None)
        await sweep._execute(pipeline(world, {spec: standing_in(spec, done, breaks_off)}), spec)
    assert {type(error) for error in sweep.errors.values()} == {OutcomeUnknown}
    await world.app.sweeper(housekeeper=True).once()
    await expect(sweep, "cut_off")


def test_no_ending_is_left_out() -> None:
    swept = {*ENDED, "denied", "undecided", "invalid", "refused"}
    swept |= {"succeeded", "hung_up", "followed", "broken", "unusable", "partial", "cut_off"}
    assert swept == set(ENDINGS)


async def test_what_the_audit_policy_leaves_out_is_all_that_leaves_no_record(world: World) -> None:
    """Of all that it may leave out, nothing is recorded that succeeded, and everything that did not."""
    cells = sorted({(cell.entity, cell.operation) for cell in whole_vocabulary() if cell.optional})
    mandatory = {(cell.entity, cell.operation) for cell in whole_vocabulary() if not cell.optional}
    rules = "".join(
        f"  - {{level: none, entities: [{entity}], operations: [{operation}], results: [succeeded]}}\n"
        for entity, operation in cells
        if (entity, operation) not in mandatory
    )
    files = {**edited(world).files, "audit.yaml": f"rules:\n{rules}".encode()}
    quiet = index_of(PolicySource(files))
    for do, ending in ((done, "quiet"), (ENDED["missing"], "missing")):
        sweep = Sweep(world)
        await sweep.run(do, policy=lambda: quiet)
        await expect(sweep, ending)


@pytest.mark.parametrize("surface", ["rest", "graphql"])
async def test_every_request_of_either_surface_leaves_exactly_one_record(world: World, surface: str) -> None:
    """By whoever may do nothing, so that nothing is in the way; what it did in earnest is told elsewhere."""
    places = Places("research", str(world.places.lab), str(world.id("mia")))
    sent: dict[str, str] = {}
    for spec in SERVED:
        if surface == "graphql" and not spec.in_graphql:
            continue
        given, target = plausible(spec, world.id("mia"), world.places.research)[0], uuid.uuid4()
        if surface == "rest":
            answer = await request(world.nobody, spec, places, target, given)
        else:
            made = variables(spec, places, target, given)
            answer = await post(world.nobody, document(spec, made), **made)
        assert answer.status_code < 500
        sent[answer.headers["x-request-id"]] = spec.name
    rows = await world.sql("SELECT request_id, action FROM audit_record WHERE request_id = ANY($1)", [*sent])
    assert Counter((row["request_id"], row["action"]) for row in rows) == Counter(sent.items())
