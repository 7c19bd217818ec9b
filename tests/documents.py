"""An action as a GraphQL document, written from the schema alone, as by a client that knows nothing else."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import httpx
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    get_named_type,
    is_leaf_type,
)

from actions.entities import ALL_SPECS
from actions.standard import Spec
from actions.vocabulary import SEARCH
from server.http.graphql.schema import build
from tests.laws.support import Places, aimed
from tests.world.client import Caller

BUILT = build(ALL_SPECS)


def field_of(spec: Spec) -> Any:
    root = BUILT.schema.query_type if spec.operation.reads else BUILT.schema.mutation_type
    assert root is not None
    return root.fields[spec.graphql_field]


def document(spec: Spec, variables: Mapping[str, object]) -> str:
    """The document of one action, in which everything that it answers is selected."""
    field = field_of(spec)
    declared = ", ".join(f"${name}: {field.args[name].type}" for name in variables)
    passed = ", ".join(f"{name}: ${name}" for name in variables)
    head = f"({declared})" if variables else ""
    return "{} {} {{ told: {}{} {} }}".format(
        "query" if spec.operation.reads else "mutation",
        head,
        spec.graphql_field,
        f"({passed})" if variables else "",
        selection(field.type),
    )


def selection(kind: Any) -> str:
    named = get_named_type(kind)
    if is_leaf_type(named):
        return ""
    return "{ " + " ".join(f"{name} {selection(field.type)}" for name, field in named.fields.items()) + " }"


def variables(spec: Spec, places: Places, target: object, given: object = None) -> dict[str, object]:
    """What the document is sent with, for the same request over REST."""
    made: dict[str, object] = {}
    args = field_of(spec).args
    if "scope" in args:
        made["scope"] = {spec.scope_type.value: places.of(spec.scope_type)}
    if "id" in args:
        made["id"] = str(target)
    if spec.operation == SEARCH and given:
        made |= {name: spelled(part, args[name].type) for name, part in dict(cast(Any, given)).items()}
    if "input" in args and given is not None:
        made["input"] = spelled(aimed(spec, target, given), args["input"].type)
    return made


def spelled(value: Any, kind: Any) -> Any:
    """A JSON value of REST as GraphQL spells it."""
    if isinstance(kind, GraphQLNonNull):
        return spelled(value, kind.of_type)
    if value is None:
        return None
    if isinstance(kind, GraphQLList):
        return [spelled(part, kind.of_type) for part in value]
    if isinstance(kind, GraphQLEnumType):
        return value.upper().replace("-", "_")
    if isinstance(kind, GraphQLInputObjectType | GraphQLObjectType):
        return {camel(name): spelled(part, kind.fields[camel(name)].type) for name, part in value.items()}
    return value


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def connection(page: Mapping[str, Any], spec: Spec) -> dict[str, Any]:
    """What a connection tells that a page of REST tells, too."""
    edge = get_named_type(get_named_type(field_of(spec).type).fields["edges"].type)
    return {
        "nodes": [spelled(item, edge.fields["node"].type) for item in page["items"]],
        "totalCount": page["total_count"],
        "totalCountExact": page["total_count_exact"],
        "hasNextPage": page["next_cursor"] is not None,
    }


async def post(caller: Caller, query: str, **variables: object) -> httpx.Response:
    return await caller.send("POST", "/graphql", {"query": query, "variables": variables})


async def run(caller: Caller, query: str, **variables: object) -> Any:
    """The data of a document in which nothing fails."""
    answer = await post(caller, query, **variables)
    told = answer.json()
    assert answer.status_code == 200, told
    assert "errors" not in told, told
    return told["data"]


class Told(NamedTuple):
    """What came of an action by GraphQL: the status that REST would have had, and the data or the error's code; and
    where the input was wrong."""

    status: int
    told: Any
    pointers: list[str]


async def outcome(caller: Caller, spec: Spec, places: Places, target: object, given: object = None) -> Told:
    made = variables(spec, places, target, given)
    answer = await post(caller, document(spec, made), **made)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    if "errors" in told:
        [error] = told["errors"]
        assert (told["data"], error["path"]) == ({"told": None}, ["told"])
        assert error["extensions"]["request_id"] == answer.headers["x-request-id"]
        told = error["extensions"]
        return Told(told["status"], told["code"], [fault["pointer"] for fault in told.get("errors", ())])
    data = told["data"]["told"]
    if spec.operation == SEARCH:
        data = {
            "nodes": [edge["node"] for edge in data["edges"]],
            "totalCount": data["totalCount"],
            "totalCountExact": data["totalCountExact"],
            "hasNextPage": data["pageInfo"]["hasNextPage"],
        }
    return Told(200, data, [])
