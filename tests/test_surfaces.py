"""REST and GraphQL are two spellings of one thing: what one of them does and tells, the other does and tells."""

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from graphql import GraphQLNonNull, GraphQLObjectType, get_named_type, is_scalar_type
from pydantic import BaseModel

from actions.directory import OWNER
from actions.entities import ALL_SPECS
from actions.entities.audit_record import AUDIT_RECORD
from actions.model import Sparse
from actions.query import Page
from actions.standard import Spec
from actions.vocabulary import SEARCH, ScopeType
from server.http.openapi import document as described
from tests.documents import BUILT, camel, connection, document, field_of, outcome, post, spelled, variables
from tests.laws.support import Places, plausible, request, spec_named
from tests.signing_in import bearer, claim, log_in
from tests.world.counted import registry
from tests.world.world import World

SERVED = [spec for spec in ALL_SPECS if spec.in_graphql]
PERSONAS = ("root", "dana", "piotr", "mia", "olga", "nobody")


# -- by construction --


def test_every_action_is_one_field_and_every_field_an_action() -> None:
    queries, mutations = BUILT.schema.query_type, BUILT.schema.mutation_type
    assert queries is not None
    assert mutations is not None
    named = [spec.graphql_field for spec in SERVED]
    assert sorted(named) == sorted([*queries.fields, *mutations.fields])
    assert {name: field.spec for name, field in BUILT.fields.items()} == {spec.graphql_field: spec for spec in SERVED}
    assert set(queries.fields) == {spec.graphql_field for spec in SERVED if spec.operation.reads}


@pytest.mark.parametrize("spec", SERVED, ids=lambda spec: spec.name)
def test_a_field_takes_what_the_address_and_the_input_of_its_action_are(spec: Spec) -> None:
    field = field_of(spec)
    expected: dict[str, str] = {}
    if spec.scope_type is not ScopeType.ADMIN:
        expected["scope"] = f"{spec.scope_type.capitalize()}Scope!"
    if "{id}" in spec.path:
        expected["id"] = "ID!"
    told = {name: str(argument.type) for name, argument in field.args.items()}
    if spec.operation == SEARCH:
        expected |= {"first": "Int", "after": "String", "offset": "Int", "exactTotal": "Boolean"}
        orders = get_named_type(field.args["order"].type)
        assert set(get_named_type(orders.fields["field"].type).values) == {name.upper() for name in spec.orders}
        assert set(told) == {*expected, "filter", "order"}
    elif spec.input.model_fields:
        needed = any(info.is_required() for info in spec.input.model_fields.values())
        assert told["input"].endswith("!") is needed
        fields = get_named_type(field.args["input"].type).fields
        assert set(fields) == {camel(name) for name in spec.input.model_fields}
        for name, info in spec.input.model_fields.items():
            assert isinstance(fields[camel(name)].type, GraphQLNonNull) is info.is_required(), name
        assert set(told) == {*expected, "input"}
    else:
        assert set(told) == set(expected)
    assert expected.items() <= told.items()
    assert field.description == spec.sentence
    assert not isinstance(field.type, GraphQLNonNull), "one that fails would take the others' answers with it"


@pytest.mark.parametrize("spec", SERVED, ids=lambda spec: spec.name)
def test_a_field_answers_all_that_its_action_answers(spec: Spec) -> None:
    kind, model = get_named_type(field_of(spec).type), spec.output
    if issubclass(model, Page):
        assert {"edges", "pageInfo", "totalCount", "totalCountExact"} == set(kind.fields)
        kind, (model,) = get_named_type(kind.fields["edges"].type), model.__pydantic_generic_metadata__["args"]
        kind = get_named_type(kind.fields["node"].type)
    _same_fields(kind, model)


def _same_fields(kind: Any, model: type[BaseModel]) -> None:
    assert isinstance(kind, GraphQLObjectType)
    assert set(kind.fields) == {camel(name) for name in model.model_fields}
    for name, info in model.model_fields.items():
        nullable = info.annotation is Any or type(None) in getattr(info.annotation, "__args__", ())
        assert isinstance(kind.fields[camel(name)].type, GraphQLNonNull) is not nullable, name


def test_a_model_has_one_name_in_both_documents() -> None:
    told = described(ALL_SPECS, "1")
    named: set[tuple[str, str]] = set()
    for spec in SERVED:
        operation = told["paths"][spec.path][spec.method.lower()]
        field = field_of(spec)
        if "input" in field.args and "requestBody" in operation:
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            named |= set(_names(told["components"]["schemas"], body, field.args["input"].type))
        if spec.operation != SEARCH:
            answer = next(shown for status, shown in operation["responses"].items() if status.startswith("2"))
            for shown in _kinds(answer["content"]["application/json"]["schema"]):
                if len(_kinds(answer["content"]["application/json"]["schema"])) == 1:
                    named |= set(_names(told["components"]["schemas"], shown, field.type))
    assert {one for one, _ in named} >= {"UserBatchUpdate", "UserBatchUpdateItem", "Batch", "UserBatchItemResult"}
    assert [pair for pair in sorted(named) if pair[0] != pair[1]] == []


def _kinds(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas that a schema is one of, a list's being its items'; null is none."""
    if "anyOf" in shown:
        return [kind for part in shown["anyOf"] for kind in _kinds(part)]
    if shown.get("type") == "array":
        return _kinds(shown.get("items", {}))
    return [] if shown == {"type": "null"} else [shown]


def _names(components: dict[str, Any], shown: dict[str, Any], kind: Any) -> Iterator[tuple[str, str]]:
    """The name of each model and enum below a place, by OpenAPI and by GraphQL."""
    found, named = _kinds(shown), get_named_type(kind)
    if len(found) != 1 or "$ref" not in found[0] or is_scalar_type(named):
        return
    name = found[0]["$ref"].rpartition("/")[2]
    yield name, named.name
    for key, below in components[name].get("properties", {}).items():
        if (told := named.fields.get(camel(key))) is not None:
            yield from _names(components, below, told.type)


# -- who may ask without being anybody --

_BAD = {
    "a scheme that nobody knows": "Basic bWlhOm1pYQ==",
    "no token": "Bearer nonsense",
    "a token of another": "Bearer eyJhbGciOiJFZERTQSJ9.e30.AAAA",
    "no signature": "BackendAI signMethod=HMAC-SHA256, credential=AKIANOBODYNOBODYNOBO:00",
    "nothing": "",
}


@pytest.mark.parametrize("proof", [None, *_BAD.values()], ids=["none", *_BAD])
async def test_what_anybody_may_ask_is_served_whatever_the_request_carries(world: World, proof: str | None) -> None:
    """Who has a token that is no good any more has to be able to get another."""
    headers = None if proof is None else {"authorization": proof}
    places, stranger = Places("research", "", "me"), world.stranger()
    before = len(await world.records())
    served = [spec for spec in SERVED if spec.anonymous]
    assert {spec.name for spec in served} == {"admin_authorize_login", "admin_refresh_login"}
    held = await log_in(world)
    for spec in served:
        logs_in = spec.name == "admin_authorize_login"
        given = claim() if logs_in else {"refresh_token": held["refresh_token"]}
        made = variables(spec, places, "", given)
        sent = {"query": document(spec, made), "variables": made}
        told = (await stranger.send("POST", "/graphql", sent, headers=headers)).json()["data"]["told"]
        answer = await post(bearer(world, told["accessToken"]), WHO)
        assert answer.json()["data"]["told"] == {"username": "mia"}
        wrong = claim(password="another long password") if logs_in else {"refresh_token": "x" * 60}
        rest = await stranger.send("POST", spec.path, wrong, headers=headers)
        sent["variables"] = variables(spec, places, "", wrong)
        [error] = (await stranger.send("POST", "/graphql", sent, headers=headers)).json()["errors"]
        assert (error["extensions"]["status"], error["extensions"]["code"]) == (rest.status_code, rest.json()["code"])
    assert "authenticate" not in {record["action"] for record in (await world.records())[before:]}


@pytest.mark.parametrize("proof", _BAD.values(), ids=[*_BAD])
async def test_bad_credentials_are_refused_as_they_are_at_every_other_route(world: World, proof: str) -> None:
    """The same answer, record and count, whatever the document is: of actions, of none, broken, or no document."""
    headers = {"authorization": proof, "content-type": "application/json"}
    expected = await _refusal(world, "GET", "/auth/whoami", headers, "")
    opens = 'adminRefreshLogin(input: {refreshToken: "x"}) { login }'
    queries = (WHO, "{ __typename }", f"mutation {{ {opens} userCreateKeypair {{ id }} }}", "{")
    for body in (*(orjson.dumps({"query": query}).decode() for query in queries), "{", "[]"):
        assert await _refusal(world, "POST", "/graphql", headers, body) == expected, body
    assert await _refusal(world, "PUT", "/graphql", headers, "") == expected


WHO = '{ told: userWhoamiUser(scope: {user: "me"}) { username } }'


async def _refusal(world: World, method: str, path: str, headers: dict[str, str], body: str) -> object:
    """An answer, and what was recorded and counted of it."""
    records, counted = len(await world.records()), _failures(world)
    address = f"192.0.2.{records}"  # one of its own, for which nothing was counted yet
    answer = await world.stranger(address=address).send(method, path, body.encode(), headers=headers)
    [record] = (await world.records())[records:]
    told = {name: count - counted.get(name, 0) for name, count in _failures(world).items()}
    problem = {name: part for name, part in answer.json().items() if name not in ("instance", "request_id")}
    assert record["action"] == "authenticate"
    kinds = answer.headers["content-type"], answer.headers.get_list("www-authenticate")
    return answer.status_code, problem, kinds, record["error"], {name: count for name, count in told.items() if count}


def _failures(world: World) -> dict[str, float]:
    """Refusals so far, by reason."""
    return {
        sample.labels["reason"]: sample.value
        for family in registry(world.app.metrics).collect()
        for sample in family.samples
        if sample.name.endswith("auth_failures_total")
    }


# -- the personas, by both --


@pytest.mark.parametrize("persona", PERSONAS)
async def test_both_surfaces_tell_a_persona_the_same(world: World, persona: str) -> None:
    """Every read, and every change that is refused: on what exists and on what does not."""
    places = Places("research", str(world.places.lab), str(world.id("mia")))
    caller, root = world.as_(persona), world.root
    targets = {}
    for spec in SERVED:
        if spec.operation == SEARCH and spec.scope_type is ScopeType.ADMIN:
            found = (await root.get(spec.path, limit=100))["items"]
            targets[spec.entity.name] = [found[-1]["id"]] if found else []
    held = (await caller.get("/auth/whoami"))["bindings"]
    roles = frozenset(binding["role"] for binding in held) | {OWNER}
    policy = world.app.policy.current()
    allowed = {spec.name for spec in SERVED if policy.decide(roles, spec.permission).allowed}
    seen: dict[int, int] = {}
    so_far: dict[str, Any] = {
        "filter": {"at": {"before": datetime.now(UTC).isoformat()}}
    }  # the log grows by being read
    for spec in SERVED:
        changes = not spec.operation.reads and spec.name in allowed
        if spec.anonymous or (changes and (spec.on_own_scope or not (spec.operation.on_item or spec.each))):
            continue
        there = [] if changes else targets.get(spec.entity.name, [])
        names_one = spec.each is not None or (spec.operation.on_item and not spec.on_own_scope)
        for target in [*there, uuid.uuid4()] if names_one else [""]:
            given: dict[str, Any] = plausible(spec, world.id("mia"), world.places.research)[0]
            body: dict[str, Any] | None = given if spec.input.model_fields and spec.operation != SEARCH else None
            if spec.operation == SEARCH and spec.entity is AUDIT_RECORD:
                body = so_far
            answer = await request(caller, spec, places, target, body)
            told = await outcome(caller, spec, places, target, body)
            rest = answer.json()
            if answer.is_error:
                assert told == (answer.status_code, rest["code"], places_of(rest)), spec.name
                assert spec.operation != SEARCH or told.status in (403, 404), (spec.name, told)
            else:
                assert spec.operation.reads, f"{persona} was thought not to hold {spec.name}"
                expected = connection(rest, spec) if spec.operation == SEARCH else spelled(rest, field_of(spec).type)
                found = _without_null(told.told) if issubclass(spec.output, Sparse) else told.told
                assert (told.status, found) == (200, expected), spec.name
            seen[told.status] = seen.get(told.status, 0) + 1
    assert seen[404] > 10
    assert seen.get(200, 0) > 2 or persona == "nobody"
    assert seen.get(403, 0) > 10 or persona == "root"


def _without_null(told: Any) -> Any:
    if isinstance(told, list):
        return [_without_null(part) for part in told]
    if not isinstance(told, dict):
        return told
    return {name: _without_null(part) for name, part in told.items() if part is not None}


HERE, NOWHERE = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def _partly(*told: dict[str, Any]) -> dict[str, object]:
    """A batch, done as far as it goes: of the thing at hand, and then of one that is not there."""
    items = [{"id": HERE, **told[0]}, {"id": NOWHERE, **told[0], **told[-1]}]
    return {"mode": "partial", "items": items}


_STEPS: tuple[tuple[str, str, str, dict[str, object] | None], ...] = (
    ("dana", "domain_create_user", "", {"username": "eve", "email": "eve@example.org", "password": "a long password"}),
    ("dana", "domain_create_user", "", {"username": "eve", "email": "two@example.org", "password": "a long password"}),
    ("dana", "domain_create_user", "", {"username": "E V", "email": "x", "password": "short"}),
    ("dana", "domain_update_user", "user", {"status": "before-verification", "allowed_client_ip": ["10.0.0.0/8"]}),
    ("dana", "domain_update_user", "user", {"description": None}),
    ("dana", "domain_update_user", "user", {"allowed_client_ip": ["10.0.0.1", "nonsense"]}),
    ("dana", "domain_update_user", "user", {}),
    ("dana", "domain_batch_update_users", "user", {"full_name": "Eve", "allowed_client_ip": ["10.0.0.0/8"]}),
    ("dana", "domain_batch_update_users", "user", {"allowed_client_ip": ["10.0.0.1", "nonsense"]}),
    ("dana", "domain_batch_update_users", "user", {"email": "mia@example.org"}),
    ("dana", "domain_batch_update_users", "user", _partly({"change": {"email": "mia@example.org"}})),
    ("dana", "domain_batch_update_users", "user", _partly({"change": {"description": "two"}}, {"version": 1})),
    ("dana", "domain_batch_delete_users", "user", _partly({"version": 1})),
    ("dana", "domain_batch_delete_users", "user", {}),
    ("root", "domain_restore_user", "user", None),
    ("dana", "domain_purge_user", "user", None),
    ("dana", "domain_delete_user", "user", None),
    ("dana", "domain_update_user", "user", {"description": "too late"}),
    ("root", "domain_restore_user", "user", None),
    ("root", "domain_delete_user", "user", None),
    ("root", "domain_purge_user", "user", None),
    ("root", "domain_purge_user", "user", None),
    ("mia", "user_create_keypair", "", {"is_default": False}),
    ("mia", "user_rotate_keypair", "keypair", None),
    ("root", "admin_update_keypair", "keypair", {"rate_limit": 0}),
    ("root", "admin_update_keypair", "keypair", {"rate_limit": 10_000_000}),
    ("dana", "domain_create_role_binding", "", {"user_id": str(uuid.UUID(int=7)), "role": "domain_member"}),
    ("root", "admin_update_domain", "domain", {"total_resource_slots": {"cuda_shares": 2**40, "cpu": 1}}),
    ("root", "admin_update_domain", "domain", {"total_resource_slots": {"a": -1}}),
)
_OF_ITS_OWN = re.compile(r"^(id|name|username|email|accessKey|secretKey|isDefault|.*At)$")


async def test_a_life_goes_the_same_way_on_both(world: World) -> None:
    """Changes, made on a thing of each surface's own, end alike: the same status, code and values."""
    made = {("rest", "domain"): str(world.places.research), ("graphql", "domain"): str(world.places.elsewhere)}
    places = Places("research", str(world.places.lab), "me")
    for who, name, kind, given in _STEPS:
        spec, own = spec_named(name), _own(given)
        here, there = made.get(("rest", kind)), made.get(("graphql", kind))
        answer = await request(world.as_(who), spec, places, here, _aimed_at(here, given))
        found = await outcome(world.as_(who), spec, places, there, _aimed_at(there, own))
        rest = answer.json()
        if answer.is_error:
            assert found == (answer.status_code, rest["code"], places_of(rest)), (name, given, rest)
            continue
        assert found.status == 200, (name, given, found)
        expected = spelled(_placed(rest), field_of(spec).type)
        assert _shared(found.told) == _shared(expected), (name, given)
        told_of = [item["id"] for item in found.told.get("items", ())]
        assert told_of == [item["id"].replace(str(here), str(there)) for item in rest.get("items", ())]
        if kind == "":
            made["rest", spec.entity.name], made["graphql", spec.entity.name] = rest["id"], found.told["id"]


def _aimed_at(key: str | None, given: dict[str, Any] | None) -> dict[str, Any] | None:
    if not given or "items" not in given:
        return given
    return {**given, "items": [{**item, "id": key if item["id"] == HERE else item["id"]} for item in given["items"]]}


def places_of(problem: dict[str, Any]) -> list[str]:
    """Where GraphQL says that the input is wrong, by where REST says it."""
    return [_place(fault["pointer"]) for fault in problem.get("errors", ())]


def _place(pointer: str) -> str:
    return "/input" + "/".join(camel(part) for part in pointer.split("/"))


def _placed(told: Any) -> Any:
    """An answer of REST with its pointers as GraphQL has them."""
    if isinstance(told, list):
        return [_placed(part) for part in told]
    if not isinstance(told, dict):
        return told
    return {key: _place(part) if key == "pointer" else _placed(part) for key, part in told.items()}


def _shared(told: Any) -> Any:
    """An answer less what is each thing's own."""
    if isinstance(told, list):
        return [_shared(part) for part in told]
    if not isinstance(told, dict):
        return told
    return {key: _shared(part) for key, part in told.items() if not _OF_ITS_OWN.match(key)}


def _own(given: dict[str, object] | None) -> dict[str, object] | None:
    """The same input for a thing of another name."""
    names = ("username", "email") if given and "username" in given and given["email"] != "x" else ()
    return given and {**given, **{name: f"g{given[name]}" for name in names}}
