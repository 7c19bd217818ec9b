"""Any model becomes a GraphQL type: these are models that no entity has, yet or ever, and what is served of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import orjson
import pytest
import structlog.testing
from pydantic import BaseModel, Field, SecretStr, computed_field

from actions.action import Principal, PrincipalKind
from actions.errors import Unauthenticated
from actions.model import Input, Output
from actions.processor import Given
from actions.query import Filter, StringFilter
from actions.standard import Spec, Standard
from actions.vocabulary import SEARCH, Entity, Operation, ScopeType
from server.http.exchange import Exchange
from server.http.graphql.endpoint import GraphQLEndpoint
from server.http.graphql.schema import build
from server.http.graphql.types import SchemaError
from server.repositories.unit import Unit
from tests.laws.support import edited, index_of, persona, pipeline
from tests.world.world import World

T = TypeVar("T", bound=BaseModel)
MEASURE = Operation("measure", on_item=False, reads=True)
A = ScopeType.ADMIN


class Colour(StrEnum):
    DARK_RED = "dark-red"
    GREEN = "green"


class Part(Input):
    """A part of it."""

    version: int | None = None
    colour: Colour = Colour.GREEN


class Item(Input, Generic[T]):
    id: UUID
    change: T


class Many(Input, Generic[T]):
    items: Annotated[list[Item[T]], Field(max_length=3)]
    mode: Literal["atomic", "partial"] = "atomic"
    secret: SecretStr | None = None
    extra: dict[str, Any] = Field(default_factory=dict)
    few: Annotated[int, Field(ge=0, le=9, description="How few.")] = 3
    when: datetime | None = None
    either: int | str | None = None


class Shown(Output):
    """What is shown."""

    id: UUID
    at: datetime
    few: Annotated[int, Field(ge=0, le=9)]
    many: int
    ratio: float
    price: Decimal
    colours: list[Colour]
    parts: list[Part] | None
    anything: dict[str, Any]
    whatever: Any = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def doubled(self) -> int:
        return 2 * self.few


THING = Standard(Entity("thing", "things"), Shown)
[MEASURED] = THING.offer(MEASURE, A, input=Many[Part], sentence="Measure the things.")
SHOWN: dict[str, Any] = {
    "id": UUID(int=1),
    "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "few": 3,
    "many": 2**62,
    "ratio": 0.5,
    "price": Decimal("1.10"),
    "colours": [Colour.DARK_RED],
    "parts": [Part(version=2**40)],
    "anything": {"under_score": [1, None, {"a": "b"}]},
}


def test_every_kind_of_field_has_its_type() -> None:
    sdl = build((MEASURED,)).sdl
    for part in (
        "adminMeasureThing(input: PartMany!): Shown",
        "items: [PartItem!]!",
        "mode: String",
        "secret: String",
        "extra: JSON",
        "few: Int",
        "when: DateTime",
        "either: JSON",
        "change: PartInput!",
        "DARK_RED",
        "many: Long!",
        "ratio: Float!",
        "price: String!",
        "colours: [Colour!]!",
        "parts: [Part!]",
        "anything: JSON!\n",
        "whatever: JSON\n",
        "doubled: Long!\n",
        '"""How few. If unsaid: 3."""',
        '"""If unsaid: GREEN."""',
        '"""What is shown."""',
        '"""Measure the things."""',
    ):
        assert part in sdl, sdl
    assert "input PartInput {" in sdl  # the model is an output, too, and that has the name
    assert not hasattr(Colour, "__strawberry_definition__"), "a declaration was marked by a surface"
    assert not hasattr(Part, "__strawberry_definition__"), "a declaration was marked by a surface"


def test_what_has_no_fields_is_json() -> None:
    class Nowhere(Output):
        """Nothing at all."""

    sdl = build(THING.offer(MEASURE, A, output=Nowhere, sentence="Measure.")).sdl
    assert "adminMeasureThing: JSON\n" in sdl


def test_two_models_of_one_name_stop_the_start() -> None:
    class Item(Output):
        a: str

    class Page(Output):
        item: Item

    def another() -> type[BaseModel]:
        class Item(Output):
            b: str

        return Item

    first = THING.offer(MEASURE, A, output=Item, sentence="Measure.")
    second = THING.offer(Operation("weigh", reads=True, on_item=False), A, output=another(), sentence="Weigh.")
    with pytest.raises(SchemaError, match="two types want to be called Item"):
        build((*first, *second))
    with pytest.raises(SchemaError, match="two types want to be called Int"):
        build(THING.offer(MEASURE, A, output=type("Int", (Page,), {}), sentence="Measure."))


def test_searches_that_offer_different_orders_have_each_an_order_of_theirs() -> None:
    class ThingFilter(Filter):
        name: StringFilter | None = None

    wide = THING.offer(SEARCH, A, filter=ThingFilter, orders=("at", "many"))
    narrow = THING.offer(SEARCH, ScopeType.DOMAIN, filter=ThingFilter, orders=("at",))
    sdl = build((*wide, *narrow)).sdl
    assert "enum AdminShownOrderField {\n  AT\n  MANY\n}" in sdl
    assert "enum DomainShownOrderField {\n  AT\n}" in sdl
    assert "enum ShownOrderField {" in build(wide).sdl


async def _asked(
    world: World, spec: Spec, answer: object, query: str, who: Principal | None, **variables: object
) -> tuple[int, dict[str, Any], list[Given[Any]]]:
    """One document to an endpoint that serves one spec, whose handler keeps what it is given."""
    given: list[Given[Any]] = []

    async def handler(_: Unit, told: Given[Any]) -> Any:
        given.append(told)
        return answer

    endpoint = GraphQLEndpoint(build((spec,)), pipeline(world, {spec: handler}, policy=lambda: _open(world, spec)))
    exchange = Exchange("asked", datetime.now(UTC), 0.0, "127.0.0.1", principal=who)
    status, told = await _posted(endpoint, exchange, query, **variables)
    return status, told, given


async def _posted(
    endpoint: GraphQLEndpoint, exchange: Exchange, query: str, **variables: object
) -> tuple[int, dict[str, Any]]:
    body = orjson.dumps({"query": query, "variables": variables})
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/graphql", "headers": headers}
    scope["query_string"] = b""
    exchange.enter(scope)
    await endpoint(scope, receive, send)
    told: dict[str, Any] = orjson.loads(sent[1]["body"])
    return sent[0]["status"], told


def _open(world: World, spec: Spec) -> Any:
    """The policy in force, with a word more: root's wildcard covers it."""
    return index_of(edited(world), spec)


async def test_what_is_given_reaches_the_model_and_what_it_answers_the_caller(world: World) -> None:
    query = """query ($input: PartMany!) { adminMeasureThing(input: $input) {
        id at few many ratio price colours parts { version colour } anything whatever doubled
    } }"""
    items = [{"id": str(UUID(int=9)), "change": {"version": 2**40, "colour": "DARK_RED"}}]
    sent = {"items": items, "secret": "s3cret", "extra": {"a_b": 1}, "when": "2026-01-02T03:04:05Z", "either": "x"}
    root = persona(world, "root")
    status, told, [given] = await _asked(world, MEASURED, Shown(**SHOWN), query, root, input=sent)
    assert status == 200
    assert told == {
        "data": {
            "adminMeasureThing": {
                "id": str(UUID(int=1)),
                "at": "2026-01-02T03:04:05Z",
                "few": 3,
                "many": 2**62,
                "ratio": 0.5,
                "price": "1.10",
                "colours": ["DARK_RED"],
                "parts": [{"version": 2**40, "colour": "GREEN"}],
                "anything": {"under_score": [1, None, {"a": "b"}]},
                "whatever": None,
                "doubled": 6,
            }
        }
    }
    taken = given.input
    assert taken.items[0].change == Part(version=2**40, colour=Colour.DARK_RED)
    assert (taken.secret.get_secret_value(), taken.extra, taken.either) == ("s3cret", {"a_b": 1}, "x")
    assert (taken.few, taken.mode) == (3, "atomic")
    assert taken.model_fields_set == set(sent)


async def test_a_value_that_its_type_cannot_hold_is_a_crash_that_shows_nothing(world: World) -> None:
    broken = Shown.model_construct(**{**SHOWN, "few": 2**40})
    measure = "adminMeasureThing(input: {items: []})"
    query = f"{{ {measure} {{ few }} other: {measure} {{ many }} }}"
    root = persona(world, "root")
    with structlog.testing.capture_logs() as lines:
        status, told, _ = await _asked(world, MEASURED, broken, query, root)
    assert [line for line in lines if line["event"] == "crash"] != []
    assert str(2**40) not in str(lines)
    assert (status, told["data"]) == (200, {"adminMeasureThing": None, "other": {"many": 2**62}})
    [error] = told["errors"]
    assert error["extensions"] == {"code": "thing-measure-internal", "status": 500, "request_id": "asked"}
    assert str(2**40) not in str(told)


async def test_what_is_served_to_anybody_needs_no_credentials_and_knows_none(world: World) -> None:
    [spec] = THING.offer(MEASURE, A, input=Many[Part], sentence="Measure the things.", anonymous=True)
    seen: list[Principal] = []

    class Noting:
        async def execute(self, action: Any) -> Any:
            seen.append(action.principal)
            return Shown(**SHOWN)

    endpoint = GraphQLEndpoint(build((spec,)), Noting())
    for who in (None, persona(world, "root")):
        exchange = Exchange("asked", datetime.now(UTC), 0.0, "127.0.0.1", principal=who)
        status, _ = await _posted(endpoint, exchange, "{ adminMeasureThing(input: {items: []}) { few } }")
        assert status == 200
    assert {principal.kind for principal in seen} == {PrincipalKind.ANONYMOUS}
    nobody = Exchange("asked", datetime.now(UTC), 0.0, "127.0.0.1")
    for query in (
        "{ adminMeasureThing(input: {items: []}) { few } __schema { types { name } } }",
        "{ ...F } fragment F on Query { adminMeasureThing(input: {items: []}) { few } __typename }",
        "{ __typename }",
        "{ nonsense }",
        "{",
    ):
        with pytest.raises(Unauthenticated):
            await _posted(endpoint, nobody, query)
    assert len(seen) == 2
