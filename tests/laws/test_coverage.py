"""Coverage both ways: nothing is granted that does not exist, and nothing exists that is not decided and recorded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.routing import BaseRoute, Mount, Route, Router

from actions.authorization.source import parse, read_folder
from actions.entities import ALL_SPECS, whole_vocabulary
from server.http import rest
from server.http.graphql.explorer import Explorer
from tests.laws.support import Places, index_of, plausible, request
from tests.world.counted import registry
from tests.world.stage import POLICIES
from tests.world.world import World

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
OFFERED = [spec for spec in ALL_SPECS if not spec.internal]


def listed(name: str) -> set[str]:
    lines = (GOLDEN / name).read_text().splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def test_every_rule_of_the_shipped_policy_names_an_action_that_exists() -> None:
    parsed = parse(read_folder(POLICIES), whole_vocabulary())
    assert parsed.findings == ()
    cells = {(cell.scope, cell.entity, cell.operation) for cell in whole_vocabulary()}
    for rule in parsed.rules:
        words = (rule.scope, rule.entity, rule.operation)
        assert any(all(word in ("*", part) for word, part in zip(words, cell, strict=True)) for cell in cells), rule


def test_every_action_is_granted_to_somebody_or_listed_as_ungranted() -> None:
    index = index_of(read_folder(POLICIES))
    roles = list(index.roles)
    granted = {
        spec.name
        for spec in ALL_SPECS
        if any(index.decide(frozenset((role,)), spec.permission).allowed for role in roles)
    }
    # A batch is granted with what it does to each, and listed with it.
    assert {spec.name for spec in ALL_SPECS if spec.each is None} - granted == listed("ungranted.txt")


def routes_of(app: object, seen: set[int]) -> Iterator[tuple[str, BaseRoute]]:
    """Every route that an ASGI application serves, however deep under its middleware, with its path."""
    if id(app) in seen:
        return
    seen.add(id(app))
    for route in app.routes if isinstance(app, Router) else ():
        if isinstance(route, Mount):
            yield from ((route.path + path, inner) for path, inner in routes_of(route.app, seen))
        else:
            assert isinstance(route, Route), f"a route of an unknown kind: {route}"
            yield route.path, route
    for held in getattr(app, "__dict__", {}).values():
        if callable(held) and not isinstance(app, Router):
            yield from routes_of(held, seen)


async def test_every_route_comes_from_a_spec_or_is_listed_as_ungoverned(world: World) -> None:
    served: set[str] = set()
    for path, route in routes_of(world.asgi, set()):
        assert isinstance(route, Route)
        if isinstance(route.endpoint, rest.Resource):
            served |= {f"{method} {path}" for method in route.endpoint._specs}
        elif isinstance(route.endpoint, Explorer):
            served.add(f"GET {path}")
        else:
            served |= {f"{method} {path}" for method in route.methods or () if method != "HEAD"}
    declared = {f"{'PURGE' if '?purge=1' in spec.route else spec.method} {spec.path}" for spec in OFFERED}
    declared |= {f"{alias.method} {alias.path}" for spec in OFFERED for alias in spec.aliases}
    assert declared <= served, "an action that nobody can ask for"
    ungoverned = listed("ungoverned.txt")
    assert served - declared == ungoverned - {"GET /metrics"}, "`/metrics` is served on a port of its own"


async def test_every_action_is_authorized_recorded_and_counted(world: World) -> None:
    """Root asks for each action once, with an input that may well be wrong: each leaves its record and its count."""
    nowhere = Places("research", str(world.places.lab), str(world.id("mia")))
    for spec in OFFERED:
        body = plausible(spec, world.id("mia"), world.places.research)[0]
        answer = await request(world.root, spec, nowhere, uuid4(), body)
        assert answer.status_code < 500, f"{spec.name}: {answer.text}"
    for spec in OFFERED:
        found = await world.records(spec.name)
        who = "anonymous" if spec.anonymous else f"user:{world.id('root')}"
        mine = [record for record in found if record["principal"]["name"] == who]
        assert mine, f"{spec.name} left no record"
        assert mine[-1]["decision"] is not None or mine[-1]["error"]["cause"] == "no such scope", spec.name
    counted: dict[str, Any] = {}
    for family in registry(world.app.metrics).collect():
        for sample in family.samples:
            if sample.name.endswith("action_total"):
                counted[sample.labels["action"]] = sample.value
    assert {spec.name for spec in OFFERED} <= counted.keys()
