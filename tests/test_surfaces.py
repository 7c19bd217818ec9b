"""REST and GraphQL are two spellings of one thing: what one of them does and tells, the other does and tells."""

import re
import uuid
from typing import Any

import pytest
from graphql import GraphQLNonNull, GraphQLObjectType, get_named_type
from pydantic import BaseModel

from actions.directory import OWNER
from actions.entities import ALL_SPECS
from actions.query import Page
from actions.standard import Spec
from actions.vocabulary import SEARCH, ScopeType
from tests.documents import BUILT, camel, connection, field_of, outcome, spelled
from tests.laws.support import Places, plausible, request, spec_named
from tests.world.world import World

SERVED = [spec for spec in ALL_SPECS if not spec.internal]
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
    for spec in SERVED:
        changes = not spec.operation.reads and spec.name in allowed
        if spec.anonymous or (changes and (spec.on_own_scope or not (spec.operation.on_item or spec.each))):
            continue
        there = [] if changes else targets.get(spec.entity.name, [])
        names_one = spec.each is not None or (spec.operation.on_item and not spec.on_own_scope)
        for target in [*there, uuid.uuid4()] if names_one else [""]:
            given = plausible(spec, world.id("mia"), world.places.research)[0]
            body = given if spec.input.model_fields and spec.operation != SEARCH else None
            answer = await request(caller, spec, places, target, body)
            told = await outcome(caller, spec, places, target, body)
            rest = answer.json()
            if answer.is_error:
                assert told == (answer.status_code, rest["code"]), spec.name
            else:
                assert spec.operation.reads, f"{persona} was thought not to hold {spec.name}"
                expected = connection(rest, spec) if spec.operation == SEARCH else spelled(rest, field_of(spec).type)
                assert told[0] == 200, (spec.name, told)
                if told[1] != expected:  # a log grows by being read
                    assert rest != (await request(caller, spec, places, target, body)).json(), spec.name
            seen[told[0]] = seen.get(told[0], 0) + 1
    assert seen[404] > 10
    assert seen.get(200, 0) > 2 or persona == "nobody"
    assert seen.get(403, 0) > 10 or persona == "root"


_STEPS: tuple[tuple[str, str, str, dict[str, object] | None], ...] = (
    ("dana", "domain_create_user", "", {"username": "eve", "email": "eve@example.org", "password": "a long password"}),
    ("dana", "domain_create_user", "", {"username": "eve", "email": "two@example.org", "password": "a long password"}),
    ("dana", "domain_create_user", "", {"username": "E V", "email": "x", "password": "short"}),
    ("dana", "domain_update_user", "user", {"status": "before-verification", "allowed_client_ip": ["10.0.0.0/8"]}),
    ("dana", "domain_update_user", "user", {"description": None}),
    ("dana", "domain_update_user", "user", {"allowed_client_ip": ["10.0.0.1", "nonsense"]}),
    ("dana", "domain_update_user", "user", {}),
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
_OF_ITS_OWN = re.compile(r"^(id|name|username|email|access_key|secret_key|is_default|.*_at)$")


async def test_a_life_goes_the_same_way_on_both(world: World) -> None:
    """Changes, made on a thing of each surface's own, end alike: the same status, code and values."""
    made = {("rest", "domain"): str(world.places.research), ("graphql", "domain"): str(world.places.elsewhere)}
    places = Places("research", str(world.places.lab), "me")
    for who, name, kind, given in _STEPS:
        spec, own = spec_named(name), _own(given)
        answer = await request(world.as_(who), spec, places, made.get(("rest", kind)), given)
        status, told = await outcome(world.as_(who), spec, places, made.get(("graphql", kind)), own)
        rest = answer.json()
        if answer.is_error:
            assert (status, told) == (answer.status_code, rest["code"]), (name, given, rest)
            continue
        assert status == 200, (name, given, told)
        expected = spelled(rest, field_of(spec).type)
        for key in rest:
            if not _OF_ITS_OWN.match(key):
                assert told[camel(key)] == expected[camel(key)], (name, key)
        if kind == "":
            made["rest", spec.entity.name], made["graphql", spec.entity.name] = rest["id"], told["id"]


def _own(given: dict[str, object] | None) -> dict[str, object] | None:
    """The same input for a thing of another name."""
    names = ("username", "email") if given and "username" in given and given["email"] != "x" else ()
    return given and {**given, **{name: f"g{given[name]}" for name in names}}
