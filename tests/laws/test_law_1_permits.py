"""Law 1: default deny, and nothing to remember. A handler gets a unit of work, which opens on a permit alone."""

import ast
import asyncio
import copy
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from actions.action import _MINT, ADMIN_LINEAGE, Decision, Permit, PermitMisused
from actions.entities import ALL_SPECS
from actions.errors import Denied
from actions.hooks import Outcome
from actions.processor import Given
from actions.vocabulary import Effect
from audit.record import Phase
from server.repositories.unit import Unit
from server.services.catalogue import CatalogueError, pair
from server.services.users import UserService
from tests.laws.support import action, catalogue, imported, persona, pipeline, sources, spec_named
from tests.world.world import World

RUNNING_SQL = {
    "connection",
    "connect",
    "fetch",
    "fetchrow",
    "fetchval",
    "fetchmany",
    "cursor",
    "execute",
    "create_pool",
}
"""What one does with a database connection."""
CONNECTING = ("asyncpg.c", "sqlalchemy.create_", "sqlalchemy.engine", "sqlalchemy.ext.asyncio", "sqlalchemy.orm")
"""Imports that can only mean a connection of one's own; an error's class does not."""
CONNECTED = ("server/repositories/", "audit/writer.py", "audit/sequencer.py")
ITS_OWN_SERVER = ("server/embedded.py", "server/embedded_account.py")
"""The embedded PostgreSQL makes databases and roles before there is any application."""


async def minted_here(world: World) -> Permit:
    """A permit that the processor minted for dana, in the calling task, and that has opened nothing yet."""
    minted: list[Permit] = []

    @asynccontextmanager
    async def keep(permit: Permit, outcome: Outcome, phase: Phase = Phase.DONE) -> AsyncIterator[None]:
        minted.append(permit)
        yield None

    async def nothing(unit: object, given: Given[Any]) -> Any: ...

    spec = spec_named("domain_user")
    asked = action(spec, persona(world, "dana"), "research", target=world.id("mia"))
    await pipeline(world, {spec: nothing}, open_unit=keep).execute(asked)
    return minted[0]


def mints(module: ast.Module) -> bool:
    calls = (node.func for node in ast.walk(module) if isinstance(node, ast.Call))
    return any(getattr(called, "id", getattr(called, "attr", "")) in ("Permit", "_MINT") for called in calls)


def test_a_permit_is_minted_in_the_processor_and_nowhere_else() -> None:
    minting = {path for path, module in sources("actions", "audit", "server") if mints(module)}
    holding = {
        path
        for path, module in sources("actions", "audit", "server")
        if any(getattr(node, "id", getattr(node, "attr", "")) == "_MINT" for node in ast.walk(module))
    }
    assert minting == {"actions/processor.py"}
    assert holding == {"actions/action.py", "actions/processor.py"}


@pytest.mark.parametrize("mint", [None, object(), True, "mint"])
def test_a_permit_cannot_be_forged(mint: object) -> None:
    with pytest.raises(PermitMisused):
        Permit(None, Decision(True, "superadmin.csv:1", "0"), ADMIN_LINEAGE, None, mint=mint)  # type: ignore[arg-type]


def test_a_permit_is_minted_only_for_an_allow() -> None:
    with pytest.raises(PermitMisused):
        Permit(None, Decision(False, None, "0"), ADMIN_LINEAGE, None, mint=_MINT)  # type: ignore[arg-type]


async def test_no_permit_can_be_copied_or_changed(world: World) -> None:
    permit = await minted_here(world)
    ways: list[Callable[[Permit], object]] = [copy.copy, copy.deepcopy, lambda permit: permit.__replace__()]
    ways += [lambda permit, protocol=protocol: pickle.dumps(permit, protocol) for protocol in range(6)]  # type: ignore[misc]
    for way in ways:
        with pytest.raises(PermitMisused):
            way(permit)
    for name in ("action", "decision", "lineage", "authority", "more"):
        with pytest.raises(PermitMisused):
            setattr(permit, name, None)


async def test_a_permit_opens_one_unit_of_work_and_no_second(world: World) -> None:
    permit = await minted_here(world)
    async with world.app.units.open(permit, Outcome(permit.action)):
        pass
    with pytest.raises(PermitMisused):
        async with world.app.units.open(permit, Outcome(permit.action)):
            pytest.fail("a spent permit opened a unit of work")


async def test_a_permit_is_good_only_in_the_task_it_was_minted_in(world: World) -> None:
    permit = await minted_here(world)

    async def elsewhere() -> None:
        async with world.app.units.open(permit, Outcome(permit.action)):
            pytest.fail("a permit was good in another task")

    with pytest.raises(PermitMisused):
        await asyncio.create_task(elsewhere())


async def test_a_permit_is_good_only_for_the_action_it_names(world: World) -> None:
    permit = await minted_here(world)
    other = action(spec_named("domain_purge_user"), permit.action.principal, "research", target=world.id("mia"))
    with pytest.raises(PermitMisused):
        async with world.app.units.open(permit, Outcome(other)):
            pytest.fail("a permit was good for another action")


async def test_what_only_reads_begins_no_transaction_and_writes_nothing(world: World) -> None:
    """A handler cannot do more than its spec declares, whatever its code says."""
    spec = spec_named("domain_user")
    assert spec.effect is Effect.NONE

    async def writes(unit: Unit, given: Given[Any]) -> Any:
        with pytest.raises(PermitMisused):
            await unit.begin()
        await unit.write(None)  # type: ignore[arg-type]

    asked = action(spec, persona(world, "dana"), "research", target=world.id("mia"))
    with pytest.raises(Exception, match="our side") as failure:
        await pipeline(world, {spec: writes}).execute(asked)
    assert isinstance(failure.value.__cause__, PermitMisused)


async def test_a_refused_action_reaches_no_handler(world: World) -> None:
    async def reached(unit: Unit, given: Given[Any]) -> Any:
        pytest.fail("a handler ran without a permit")

    offers = dict.fromkeys(ALL_SPECS, reached)
    processor = pipeline(world, offers)
    for spec in ALL_SPECS:
        places = {"admin": "", "domain": "research", "project": world.places.lab, "user": world.id("mia")}
        asked = action(spec, persona(world, "nobody"), places[spec.scope_type], target=uuid4())
        with pytest.raises(Denied) as refused:
            await processor.execute(asked)
        assert type(refused.value) is Denied, "refused by the policy, and by nothing that went wrong"


FOR_THE_LOG = "database.connect('audit')"
"""The composition root hands the log a connection of its own; who numbers its records has one too."""


BY_ITSELF = ("audit/verify.py",)
"""It runs without the server; what it connects to is a file of its own, to sort by."""


def uses_a_connection(module: ast.Module) -> bool:
    """Whether a module runs SQL by itself: the processor's own ``execute`` is no statement."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called, on = node.func.attr, node.func.value
            if called in RUNNING_SQL and ast.unparse(node) != FOR_THE_LOG and not ast.unparse(on).endswith("processor"):
                return True
    return any(name.startswith(CONNECTING) for name in imported(module))


def test_raw_connections_stay_inside_the_repositories() -> None:
    raw = {path for path, module in sources("actions", "audit", "server") if uses_a_connection(module)}
    assert {path for path in raw if not path.startswith((*CONNECTED, *ITS_OWN_SERVER, *BY_ITSELF))} == set()


INSIDE_A_UNIT = ("_transaction", "_units", "_cleared", "_reached", "_scope", "_stack")


def test_only_units_make_a_unit_of_work_and_nobody_reaches_into_one() -> None:
    for path, module in sources("actions", "audit", "server"):
        if path == "server/repositories/unit.py":
            continue
        for node in ast.walk(module):
            if isinstance(node, ast.Call):
                assert getattr(node.func, "id", "") != "Unit", f"{path} makes a unit of work"
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) != "self":
                assert node.attr not in INSIDE_A_UNIT, f"{path} reaches into a unit of work"


def test_a_handler_is_reachable_only_through_the_catalogue() -> None:
    for path, module in sources("actions", "audit", "server"):
        called = {node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute)}
        assert "handler" not in called or path == "actions/processor.py", f"{path} calls a handler itself"
        names = [name for name in imported(module) if name.startswith("server.services.")]
        if not path.startswith("server/services/"):
            makes = {name for name in names if name.endswith("Service")}
            assert not makes, f"{path} knows {makes}"


def test_http_imports_no_entity_and_no_service() -> None:
    for path, module in sources("server/http"):
        known = [name for name in imported(module) if name.startswith(("actions.entities", "server.services"))]
        assert not known, f"{path} imports {known}"
        assert "import_module" not in ast.unparse(module), path


async def test_a_spec_without_a_handler_and_a_handler_without_a_spec_stop_the_start(world: World) -> None:
    offered = catalogue(world)
    assert offered.keys() == set(ALL_SPECS)

    class Service:
        """One that offers what it is given."""

        def __init__(self, *specs: Any) -> None:
            self.specs = specs

        def offers(self) -> Any:
            return (offered[spec] for spec in self.specs)

    spec, other = spec_named("admin_policy"), spec_named("admin_search_policies")
    assert pair(Service(spec), declared=(spec,)).keys() == {spec}
    for services, declared, fault in (
        ((Service(spec),), (spec, other), "no service offers it"),
        ((Service(spec, other),), (spec,), "not declared"),
        ((Service(spec), Service(spec)), (spec,), "offered twice"),
    ):
        with pytest.raises(CatalogueError, match=fault):
            pair(*services, declared=declared)


def test_services_have_no_way_to_the_database_but_their_unit() -> None:
    """What a handler gets is its unit of work; no service holds a pool or a connection."""
    for path, module in sources("server/services"):
        held = {name.rpartition(".")[2] for name in imported(module)} & {"Database", "Connection", "Query", "Units"}
        assert not held, f"{path} imports {held}"
    assert "database" not in UserService.__init__.__annotations__
