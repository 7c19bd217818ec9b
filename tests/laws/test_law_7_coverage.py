"""Law 7, swept: every action of the catalogue leaves its records in each way in which it can end.

The declarations, the pipeline, the units of work and the log are the real ones; only what an action does between is
replaced, so that each can be made to end in every way. `tests/golden/coverage.txt` says what is expected.
"""

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any

import pytest
from pydantic import BaseModel

from actions.action import ANONYMOUS, AnyAction, Principal, PrincipalKind
from actions.authorization.index import PolicyIndex
from actions.authorization.source import PolicySource
from actions.directory import SYSTEM_ROLES
from actions.entities import ALL_SPECS, whole_vocabulary
from actions.errors import AuditUnavailable, ChamberlainError, Conflict, NotFound, OutcomeUnknown
from actions.processor import Given
from actions.standard import Spec
from actions.vocabulary import Effect
from audit.record import Phase
from server.repositories.fate import Unsettled
from server.repositories.unit import Unit
from tests.documents import document, post, variables
from tests.golden.pages import ENDINGS, covered
from tests.laws.support import Places, action, aimed, edited, index_of, persona, pipeline, plausible, request
from tests.world.world import World

Do = Callable[[Unit, Given[Any]], Awaitable[BaseModel]]
Told = Counter[tuple[str, str]]
"""How many records there are of a phase and a result."""
AT_ONCE = 8
SERVED = [spec for spec in ALL_SPECS if not spec.internal]
SWEPT = [spec for spec in ALL_SPECS if spec.effect is not Effect.OUTSIDE]
"""What reaches outside the database leaves an intent, and an outcome or none: law 8 has tests of its own."""


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


def principal_of(world: World, spec: Spec, index: PolicyIndex) -> Principal:
    """Somebody who may do it."""
    if spec.anonymous:
        return ANONYMOUS
    if not spec.internal:
        return persona(world, "root")
    [role, *_] = [role for role in SYSTEM_ROLES if index.decide(frozenset({role}), spec.permission).allowed]
    return Principal(PrincipalKind.SYSTEM, role.replace("_", ":", 1))


def least(model: type[BaseModel]) -> dict[str, object]:
    """The least that an input of the server itself has to say."""
    kinds: dict[str, object] = {
        "str": "words",
        "int": 1,
        "SecretStr": "a long password",
        "datetime": "2026-01-01T00:00Z",
    }
    known = {"partition": "audit_record_2020_01"}
    made: dict[str, object] = {}
    for name, info in model.model_fields.items():
        if info.is_required():
            told = getattr(info.annotation, "__name__", str(info.annotation))
            made[name] = known.get(name) or kinds.get(told, {} if told == "dict" else [])
    return made


class Sweep:
    """Runs every action of the catalogue once, to end in one way."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.index = world.app.policy.current()
        self.places = Places("research", str(world.places.lab), str(world.id("mia")))

    async def run(
        self, do: Do, *, policy: Callable[[], PolicyIndex] | None = None, given: bytes | None = None
    ) -> tuple[Mapping[Spec, AnyAction], Mapping[Spec, ChamberlainError]]:
        processor = pipeline(self.world, dict.fromkeys(SWEPT, do), policy=policy)
        asked = {spec: self._action(spec, given) for spec in SWEPT}
        errors: dict[Spec, ChamberlainError] = {}
        waiting = asyncio.Semaphore(AT_ONCE)

        async def one(spec: Spec) -> None:
            async with waiting:
                try:
                    await processor.execute(asked[spec])
                except ChamberlainError as error:
                    errors[spec] = error

        await asyncio.gather(*(one(spec) for spec in SWEPT))
        return asked, errors

    async def records(self, asked: Mapping[Spec, AnyAction]) -> Mapping[Spec, Told]:
        """What there is of each of these, the records of a batch's items among them."""
        of_request = {asked_for.context.request_id: spec for spec, asked_for in asked.items()}
        found: defaultdict[Spec, Told] = defaultdict(Counter)
        for row in await self.world.sql("SELECT request_id, phase, result FROM audit_record"):
            if (spec := of_request.get(row["request_id"])) is not None:
                found[spec][row["phase"], row["result"]] += 1
        return found

    def _action(self, spec: Spec, given: bytes | None) -> AnyAction:
        world, target = self.world, str(uuid.uuid4())
        body = least(spec.input) if spec.internal else plausible(spec, world.id("mia"), world.places.research)[0]
        who = principal_of(world, spec, self.index)
        sent = aimed(spec, target, body) if given is None else given
        return action(spec, who, self.places.of(spec.scope_type), target=target, given=sent)


@asynccontextmanager
async def refused_log(world: World) -> AsyncIterator[None]:
    await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    yield
    await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")


def undecidable() -> PolicyIndex:
    raise RuntimeError("nothing can be decided")


ENDED: Mapping[str, Do] = {
    "succeeded": done,
    "missing": ending_in(NotFound()),
    "conflict": ending_in(Conflict("It cannot be done now.")),
    "crashed": ending_in(RuntimeError("a mistake of ours")),
    "lost": lost,
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_action_leaves_its_records_however_it_ends(world: World, ending: str) -> None:
    sweep = Sweep(world)
    silent = index_of(edited(world, without="p, "))
    policies: Mapping[str, Callable[[], PolicyIndex]] = {"denied": lambda: silent, "undecided": undecidable}
    log: AbstractAsyncContextManager[None] = refused_log(world) if ending == "refused" else nullcontext()
    async with log:
        asked, errors = await sweep.run(
            ENDED.get(ending, done), policy=policies.get(ending), given=b"{" if ending == "invalid" else None
        )
    if ending == "lost":
        while world.app.units.fates._unsettled:
            await world.app.units.fates.sweep()
    if ending == "refused":
        assert {type(error) for error in errors.values()} == {AuditUnavailable}
    assert (errors.keys() == set(SWEPT)) is (ending != "succeeded")
    found = await sweep.records(asked)
    assert {spec.name: found[spec] for spec in SWEPT} == {spec.name: Counter(covered(spec, ending)) for spec in SWEPT}


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
    sweep = Sweep(world)
    for do, ending in ((done, "quiet"), (ENDED["missing"], "missing")):
        asked, _ = await sweep.run(do, policy=lambda: quiet)
        found = await sweep.records(asked)
        assert {spec.name: found[spec] for spec in SWEPT} == {
            spec.name: Counter(covered(spec, ending)) for spec in SWEPT
        }


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


async def test_a_stream_leaves_two(world: World) -> None:
    [follow] = [spec for spec in ALL_SPECS if spec.name == "admin_tail_audit_record"]
    with suppress(ChamberlainError):
        async with world.app.following(follow, "system:operator", {"count": 1}):
            pass
    told = await world.records(follow.name)
    assert [(record["phase"], record["result"]) for record in told] == [("opened", "pending"), ("closed", "succeeded")]
