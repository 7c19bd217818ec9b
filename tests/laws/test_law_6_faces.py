"""Law 6: denied and missing look alike. The face of a refusal tells nothing that the caller could not have known."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import structlog.testing

from actions.entities import ALL_SPECS
from actions.standard import Spec
from actions.vocabulary import GET, Permission, ScopeType
from tests.laws.support import Places, an_archive, plausible, request
from tests.world.counted import registry
from tests.world.stage import PASSWORD
from tests.world.world import World

OFFERED = [spec for spec in ALL_SPECS if not spec.internal and not spec.anonymous]
GONE = UUID("00000000-0000-4000-8000-000000000000")
NOWHERE = Places("no-such-domain", str(GONE), str(GONE))


def faceless(answer: httpx.Response) -> tuple[Any, ...]:
    """All of an answer that a caller could learn from: what names the request itself apart."""
    body = {name: value for name, value in answer.json().items() if name not in ("request_id", "instance")}
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, tuple(sorted(body.items())), tuple(sorted(headers.items()))


@dataclass(frozen=True)
class Seat:
    """What a persona holds in a place, and whether it may do anything at or under it: told by hand, as the oracle."""

    who: str
    places: Places
    roles: dict[ScopeType, set[str]]
    knows: frozenset[ScopeType]


D, P, U = ScopeType.DOMAIN, ScopeType.PROJECT, ScopeType.USER


def seats(world: World) -> Iterator[Seat]:
    lab, every = str(world.places.lab), frozenset((D, P, U))
    at_dana = Places("research", lab, str(world.id("dana")))
    away = Places("elsewhere", lab, str(world.id("nobody")))
    looking = {D: {"auditor"}, P: {"auditor"}, U: {"auditor"}}
    running: dict[ScopeType, set[str]] = {D: {"domain_admin"}, P: {"domain_admin"}, U: {"domain_admin"}}
    belonging: dict[ScopeType, set[str]] = {D: {"domain_member"}, P: {"domain_member", "project_member"}, U: set()}
    yield Seat("mia", at_dana, belonging, frozenset((D, P)))
    yield Seat("piotr", at_dana, {**belonging, P: {"domain_member", "project_admin"}}, frozenset((D, P)))
    yield Seat("dana", Places("research", lab, str(world.id("mia"))), running, every)
    yield Seat("olga", at_dana, looking, every)
    yield Seat("nobody", at_dana, {D: set(), P: set(), U: set()}, frozenset())
    yield Seat("dana", away, {D: set(), P: running[P], U: set()}, frozenset((P,)))
    yield Seat("nobody", away, {D: set(), P: set(), U: {"owner"}}, frozenset((D, U)))


def face(world: World, seat: Seat, spec: Spec) -> int | None:
    """The law, word by word. None: it is allowed."""
    index, roles = world.app.policy.current(), seat.roles.get(spec.scope_type, set())
    if spec.scope_type is ScopeType.ADMIN:
        roles = {"auditor"} if seat.who == "olga" else set()
    if index.decide(frozenset(roles), spec.permission).allowed:
        return None
    if spec.scope_type is ScopeType.ADMIN:
        return 403
    if spec.scope_type not in seat.knows:
        return 404
    sight = Permission(spec.scope_type.value, spec.entity.name, GET.word)
    if spec.operation.on_item and not index.decide(frozenset(roles), sight).allowed:
        return 404
    return 403


async def existing(world: World, spec: Spec) -> list[object]:
    """A thing of the spec's entity that does exist, wherever it lies."""
    if spec.entity.name == "audit_archive":
        return [await an_archive(world)]
    tables = {"user": "users", "policy": "policy_version", "audit_subject": "subject_key"}
    table = tables.get(spec.entity.name, spec.entity.name)
    keys = {"policy": "digest", "audit_record": "action_id", "audit_subject": "subject_id"}
    key = keys.get(spec.entity.name, "id")
    rows = await world.sql(f"SELECT {key} AS id FROM {table} ORDER BY 1")
    return [rows[-1]["id"]]


async def test_without_credentials_everything_is_a_401(world: World) -> None:
    faces: set[tuple[Any, ...]] = set()
    for spec in OFFERED:
        for places in (NOWHERE, Places("research", str(world.places.lab), str(world.id("mia")))):
            answer = await request(world.stranger(address=f"198.51.{len(faces)}.1"), spec, places, GONE, {})
            if answer.status_code == 429:
                continue  # after the first few, an address is asked to slow down: that is no 404 either
            assert answer.status_code == 401, spec.name
            faces.add(faceless(answer))
    assert len(faces) == 1, "a 401 says nothing of what was asked for"


async def test_every_refusal_has_the_face_of_the_law_and_a_404_depends_on_its_route_alone(world: World) -> None:
    """Hidden scopes, hidden things, denied operations and things that were never there, of every action, compared."""
    missing: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    refused: dict[tuple[str, str], set[tuple[Any, ...]]] = defaultdict(set)
    told: dict[int, int] = defaultdict(int)
    callers = {name: world.as_(name) for name in world.personas}
    given = {"domain": "research", "username": "mia", "password": PASSWORD}
    await world.stranger().post("/auth/authorize", given)
    for spec in OFFERED:
        body = plausible(spec, world.id("mia"), world.places.research)[0]
        aimed = spec.operation.on_item and not spec.on_own_scope
        targets = [*(await existing(world, spec)), GONE] if aimed else [""]
        for seat in seats(world):
            expected = face(world, seat, spec)
            if expected is None:
                continue
            for target in targets:
                answer = await request(callers[seat.who], spec, seat.places, target, body)
                assert answer.status_code == expected, f"{seat.who} {spec.name} {target}: {answer.text}"
                told[expected] += 1
                (missing[spec.route] if expected == 404 else refused[spec.route, seat.who]).add(faceless(answer))
        if spec.scope_type is not ScopeType.ADMIN:
            for who in ("root", "nobody"):
                missing[spec.route].add(faceless(await request(callers[who], spec, NOWHERE, targets[0], body)))
        if aimed:
            at_home = Places("research", str(world.places.lab), str(world.id("mia")))
            for key in (uuid4(), "not-an-id"):
                missing[spec.route].add(faceless(await request(callers["root"], spec, at_home, key, body)))
    for route, faces in missing.items():
        assert len(faces) == 1, f"the 404s of {route} can be told apart: {faces}"
        assert next(iter(faces))[0] == 404, route
    for (route, who), faces in refused.items():
        assert len(faces) == 1, f"the 403s of {route} tell {who} what is there"
    assert told[403] > 100
    assert told[404] > 100


async def test_the_order_is_scope_then_thing_then_permission(world: World) -> None:
    """Mia belongs to research and sees its users in lab alone; dana may look at key pairs, and not rotate them."""
    dana, lab = world.id("dana"), world.places.lab
    for method, path, status in (
        ("GET", "/admin/users", 403),
        ("GET", f"/admin/users/{dana}", 403),
        ("GET", "/domains/elsewhere/users", 404),
        ("POST", "/domains/elsewhere/users", 404),
        ("GET", f"/domains/research/users/{dana}", 404),
        ("DELETE", f"/domains/research/users/{dana}", 404),
        ("GET", "/domains/research/users", 403),
        ("POST", "/domains/research/users", 403),
        ("GET", f"/projects/{lab}/role-bindings", 403),
        ("PATCH", f"/projects/{lab}", 403),
        ("GET", f"/domains/research/projects/{lab}", 404),
        ("GET", "/domains/research/projects", 403),
        ("GET", "/domains/elsewhere/users/lookup?known_as=nobody", 404),
        ("GET", "/admin/users/lookup?known_as=nobody", 403),
        ("GET", f"/users/{dana}", 404),
    ):
        assert (await world.mia.send(method, path, {})).status_code == status, f"{method} {path}"
    key = (await world.dana.get("/domains/research/keypairs"))["items"][0]["id"]
    for target in (key, uuid4()):
        await world.dana.post(f"/domains/research/keypairs/{target}/rotate", expect=403)
    await world.dana.get(f"/domains/research/keypairs/{uuid4()}", expect=404)


async def test_the_decision_falls_before_the_input_is_read(world: World) -> None:
    """Whoever may not do a thing is told nothing about its input, not even that it cannot be read."""
    for body in (b"{", b"[]", b'{"unknown": 1}'):
        await world.mia.post("/domains/research/users", body, expect=403)
        await world.mia.post("/domains/elsewhere/users", body, expect=404)
        assert (await world.dana.send("POST", "/domains/research/users", body)).status_code in (400, 422)


class Slip(NamedTuple):
    """A fault of transport: what is sent instead of what would be right, and its face to somebody allowed."""

    method: str
    path: str
    body: object
    headers: dict[str, str]
    status: int


def slips(scope: str, thing: UUID) -> Iterator[tuple[Slip, tuple[str, str, object]]]:
    """Each slip beside the request that was meant."""
    users, user = f"{scope}/users", f"{scope}/users/{thing}"
    plain = {"content-type": "text/plain"}
    yield Slip("POST", users, b"{}", plain, 415), ("POST", users, {})
    yield Slip("PATCH", user, b"{}", plain, 415), ("PATCH", user, {})
    yield Slip("GET", f"{users}?nonsense=1", None, {}, 422), ("GET", users, None)
    yield Slip("PATCH", f"{user}?nonsense=1", {}, {}, 422), ("PATCH", user, {})
    yield Slip("GET", f"{users}?limit=1&limit=2", None, {}, 400), ("GET", users, None)
    yield Slip("PATCH", f"{user}?a=1&a=2", {}, {}, 400), ("PATCH", user, {})
    yield Slip("GET", f"{users}?limit=1", {"limit": 1}, {}, 400), ("GET", users, None)
    yield Slip("DELETE", f"{user}?purge=2", None, {}, 400), ("DELETE", f"{user}?purge=1", None)


async def test_a_slip_of_transport_tells_no_more_than_a_request_without_one(world: World) -> None:
    """How a request is written is looked at once it is allowed; before, there is one refusal, and it is recorded."""
    for scope, status in (("/domains/elsewhere", 404), ("/admin", 403)):
        for slip, meant in slips(scope, world.id("nobody")):
            right = await world.mia.send(*meant)
            before = len(await world.records())
            wrong = await world.mia.send(slip.method, slip.path, slip.body, headers=slip.headers)
            assert wrong.status_code == status, f"{slip}: {wrong.text}"
            assert faceless(wrong) == faceless(right), slip
            records = await world.records()
            assert len(records) == before + 1, slip
            assert (records[-1]["result"], records[-1]["error"]["status"]) == ("denied", status)
    for slip, _ in slips("/admin", world.id("nobody")):
        before = len(await world.records())
        answer = await world.root.send(slip.method, slip.path, slip.body, headers=slip.headers)
        assert answer.status_code == slip.status, f"{slip}: {answer.text}"
        records = await world.records()
        assert len(records) == before + 1, slip
        assert (records[-1]["result"], records[-1]["error"]["status"]) == ("failed", slip.status)
    assert (await world.root.get(f"/admin/users/{world.id('nobody')}"))["version"] == 1


async def test_log_record_and_metrics_hold_the_truth(world: World) -> None:
    """Two 404s that look alike outside: inside, one was denied and the other missing."""
    with structlog.testing.capture_logs() as lines:
        hidden = await world.mia.send("GET", f"/domains/research/users/{world.id('dana')}")
        missing = await world.dana.send("GET", f"/domains/research/users/{uuid4()}")
        unknown = await world.mia.send("GET", f"/domains/elsewhere/users/{world.id('nobody')}")
        nowhere = await world.mia.send("GET", f"/domains/no-such-domain/users/{world.id('nobody')}")
    assert len({faceless(answer) for answer in (hidden, missing, unknown, nowhere)}) == 1
    denied, absent, outside, lost = (await world.records("domain_user"))[-4:]
    lines = [line for line in lines if line["event"] == "action"]
    for answer, record, line in zip(
        (hidden, missing, unknown, nowhere), (denied, absent, outside, lost), lines, strict=True
    ):
        assert answer.json()["request_id"] == record["request"]["id"] == line["request_id"]
        assert record["result"] == line["result"]
        assert record["error"]["status"] == line["status"] == 404
    assert (denied["result"], denied["error"]["cause"]) == ("denied", "no rule allows it")
    assert (denied["decision"]["allowed"], denied["decision"]["roles"]) == (False, ["domain_member"])
    assert lines[0]["cause"] == "no rule allows it"
    assert (absent["result"], absent["error"]["reason"], absent["decision"]["allowed"]) == ("failed", "not-found", True)
    assert (outside["result"], outside["decision"]["roles"]) == ("denied", [])
    assert (lost["result"], lost["error"]["cause"], lost["decision"]) == ("denied", "no such scope", None)
    counted = {
        (sample.labels["decision"], sample.labels["outcome"]): sample.value
        for family in registry(world.app.metrics).collect()
        for sample in family.samples
        if sample.name.endswith("action_total") and sample.labels.get("action") == "domain_user"
    }
    assert counted == {("deny", "denied"): 2, ("allow", "failed"): 1, ("none", "denied"): 1}
