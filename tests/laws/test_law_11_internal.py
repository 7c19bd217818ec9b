"""Law 11: internal work is somebody. Schedulers and sweepers are decided, narrowed and recorded like anyone else."""

import ast
import asyncio
from typing import Any
from uuid import uuid4

import pytest

from actions.action import Principal, PrincipalKind
from actions.directory import SYSTEM_ROLES
from actions.entities import ALL_SPECS
from actions.entities.audit_export import EXPORT
from actions.entities.policy_usage import REPLAY
from actions.errors import Denied, NotFound, Undecided
from actions.processor import Given, Processor
from actions.standard import Spec
from actions.vocabulary import ScopeType
from server.http import rest
from server.http.events import EventStreams
from server.repositories.unit import Unit
from tests.laws.support import action, edited, persona, pipeline, sources, spec_named
from tests.world.world import World

INTERNAL = [spec for spec in ALL_SPECS if spec.internal]


def system(role: str) -> Principal:
    """The system principal that holds a role: ``system:policy`` holds ``system_policy``."""
    return Principal(PrincipalKind.SYSTEM, role.replace("_", ":", 1))


async def reaches(processor: Processor[Unit], spec: Spec, principal: Principal, ref: object = "") -> bool:
    """Whether the policy lets a principal through to the handler, which then finds nothing."""
    try:
        await processor.execute(action(spec, principal, ref, target=uuid4()))
    except Denied:
        return False
    except NotFound:
        return True
    raise AssertionError("the handler does not return")


async def nothing(unit: Unit, given: Given[Any]) -> Any:
    raise NotFound


def takes_nothing(spec: Spec) -> bool:
    return not any(field.is_required() for field in spec.input.model_fields.values())


async def test_every_system_principal_may_do_what_its_own_lines_say_and_nothing_else(world: World) -> None:
    """The lines in ``superadmin.csv`` are all that a system principal has: its name gives it nothing."""
    lines = world.app.policy.source.files["superadmin.csv"].decode().splitlines()
    written = {tuple(part.strip() for part in line.split(",")[1:5]) for line in lines if line.startswith("p, system_")}
    index = world.app.policy.current()
    for role in SYSTEM_ROLES:
        meant = [*INTERNAL, *(spec for spec in ALL_SPECS if spec.operation in (REPLAY, EXPORT))]  # the machine's, too
        granted = {(role, spec.scope_type.value, spec.entity.name, spec.operation.word) for spec in meant} & written
        assert granted, f"{role} has no line of its own"
        assert {line for line in written if line[0] == role} == granted, f"{role} may do what is not for it"
        for spec in ALL_SPECS:
            asked = spec.permission
            cell = (role, asked.scope, asked.entity, asked.operation)
            assert index.decide(frozenset((role,)), asked).allowed == (cell in written), f"{role} {spec.name}"
    for spec in INTERNAL:
        holders = [role for role in index.roles if index.decide(frozenset((role,)), spec.permission).allowed]
        assert len(holders) == 1, f"{spec.name} is done by {holders}"


async def test_an_internal_action_has_no_route(world: World) -> None:
    streams = EventStreams(world.app.processor, asyncio.Event(), world.app.metrics)
    served = {route.path for route in rest.routes(ALL_SPECS, world.app.processor, streams)}
    for spec in INTERNAL:
        assert spec.path not in served, spec.name
        for method in ("GET", "POST", "PUT", "PATCH"):
            answer = await world.root.send(method, spec.path, {})
            # A path may read as another action's item; then that is asked for, and finds nothing.
            assert answer.status_code in (404, 405), f"{method} {spec.path}"
    assert {record["action"] for record in await world.records()}.isdisjoint(
        spec.name for spec in INTERNAL if spec.operation.word not in ("bootstrap", "publish", "renew")
    )


async def test_nobody_who_can_call_may_do_internal_work(world: World) -> None:
    """Not even root, and not even from inside the process."""
    processor = pipeline(world, dict.fromkeys(ALL_SPECS, nothing))
    callers = [persona(world, name) for name in world.personas]
    callers.append(Principal(PrincipalKind.ANONYMOUS, "anonymous"))
    callers += [Principal(PrincipalKind.SYSTEM, name) for name in ("system:nobody", "system", "superadmin", "system:")]
    for spec in INTERNAL:
        for principal in callers:
            assert not await reaches(processor, spec, principal), f"{principal.name} may {spec.name}"


async def test_a_name_that_looks_like_a_system_principals_gives_a_user_nothing(world: World) -> None:
    processor = pipeline(world, dict.fromkeys(ALL_SPECS, nothing))
    pretender = Principal(PrincipalKind.USER, "system:policy", world.id("nobody"))
    stranger = Principal(PrincipalKind.ANONYMOUS, "system:policy")
    for principal in (pretender, stranger):
        assert not await reaches(processor, spec_named("admin_publish_policy"), principal)
    sneaking = Principal(PrincipalKind.SYSTEM, "superadmin")
    assert not await reaches(processor, spec_named("admin_user"), sneaking), "a system principal of a user's role"


async def test_without_its_line_internal_work_is_refused_and_the_refusal_recorded(world: World) -> None:
    whole, index = world.app.policy.source, world.app.policy.current()
    for spec in INTERNAL:
        role = next(role for role in SYSTEM_ROLES if index.decide(frozenset((role,)), spec.permission).allowed)
        processor = pipeline(world, {spec: nothing})
        if takes_nothing(spec):
            assert await reaches(processor, spec, system(role)), "with its line it is done"
        await world.app.policy.use(edited(world, without=f"p, {role},"))
        with pytest.raises(Denied):
            await world.app.internally(spec, system(role).name, {})
        record = (await world.records(spec.name))[-1]
        assert (record["result"], record["principal"]["name"]) == ("denied", system(role).name)
        assert record["principal"]["kind"] == "system"
        await world.app.policy.use(whole)


async def test_the_sweeper_is_recorded_by_name(world: World) -> None:
    await world.sql("INSERT INTO request_signature VALUES ('\\x00', now() - interval '1 day')")
    await world.mia.get("/users/me")
    async with world.app.working(housekeeper=True) as sweeper:
        await sweeper.once()
    for name in ("admin_sweep_installation", "admin_tally_keypair"):
        record = (await world.records(name))[0]
        assert (record["principal"]["name"], record["result"]) == ("system:sweeper", "succeeded")
        assert record["decision"]["rule"].startswith("superadmin.csv:")


async def test_the_first_start_is_recorded_by_name(world: World) -> None:
    for name, principal in (
        ("admin_publish_policy", "system:policy"),
        ("admin_bootstrap_installation", "system:bootstrap"),
    ):
        (record,) = await world.records(name)
        assert (record["principal"]["name"], record["result"]) == (principal, "succeeded")


async def test_an_error_while_deciding_is_a_refusal_of_its_own_kind(world: World) -> None:
    """There is no way to be let through because nobody could say no."""

    def broken() -> Any:
        raise RuntimeError("no policy")

    spec = spec_named("admin_sweep_installation")
    for principal in (system("system_sweeper"), persona(world, "root")):
        with pytest.raises(Undecided):
            await pipeline(world, {spec: nothing}, policy=broken).execute(action(spec, principal))
        assert (await world.records(spec.name))[-1]["result"] == "undecided"


def test_every_call_of_the_processor_authorizes_first() -> None:
    """Read from the source: the ways in, on each of them the decision first, and a permit only behind an allow."""
    module = next(module for path, module in sources("actions") if path == "actions/processor.py")
    processor = next(node for node in ast.walk(module) if isinstance(node, ast.ClassDef) and node.name == "Processor")
    methods = {node.name: node for node in processor.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}
    assert [name for name in methods if not name.startswith("_")] == ["execute", "follow"]
    deciding = ("execute", "_open_stream", "_parts")
    for name in deciding:
        calls = [ast.unparse(node.func) for node in ast.walk(methods[name]) if isinstance(node, ast.Call)]
        ours = [call for call in calls if call.startswith(("self._", "offer.", "follower."))]
        steps = sorted(set(ours), key=ast.unparse(methods[name]).index)
        assert steps[0] == "self._authorize", (name, steps)
    arguments = {argument.arg for method in methods.values() for argument in method.args.args}
    assert not arguments & {"check", "checked", "skip", "force", "trusted", "authorize", "authorized"}
    ways = [node for name in (*deciding, "follow") for node in ast.walk(methods[name])]
    branches = [ast.unparse(node.test) for node in ways if isinstance(node, ast.If)]
    assert not any("principal" in branch or "internal" in branch for branch in branches), branches


def test_no_work_is_done_for_nobody() -> None:
    """Every unit of work in the server is opened by the processor: nothing else calls for one."""
    for path, module in sources("server", "actions"):
        opening = [
            ast.unparse(node)
            for node in ast.walk(module)
            if isinstance(node, ast.Attribute) and node.attr == "open" and ast.unparse(node.value).endswith("units")
        ]
        assert opening == (["units.open"] if path == "server/app.py" else []), path


def test_internal_work_takes_place_in_the_admin_scope() -> None:
    assert INTERNAL
    assert {spec.scope_type for spec in INTERNAL} == {ScopeType.ADMIN}
