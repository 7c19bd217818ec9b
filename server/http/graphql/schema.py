"""From specs to a schema: a field for each, and what each field's arguments are to its action.

What a caller of GraphQL can ask is decided here and nowhere else:

    scope                                what the address of a REST request begins with; none for admin
    id                                   the thing, unless it is the scope itself
    filter, order, first, after, offset  of a search, which answers with a connection
    input                                everything else, under the names of the model in camelCase

A top-level field may be null, so that an action that fails takes no other's answer with it. Nothing below one does
more than look into a dictionary. This module knows no request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from operator import getitem
from typing import Any, Protocol, cast

import orjson
import strawberry
from graphql import GraphQLResolveInfo, GraphQLSchema
from pydantic import BaseModel
from strawberry.schema.config import StrawberryConfig
from strawberry.types.arguments import StrawberryArgument
from strawberry.types.field import StrawberryField

from actions.action import Address
from actions.batch import BatchResult
from actions.errors import BadRequest
from actions.query import Page, Search, Total, filter_of, item_of
from actions.standard import Spec
from actions.vocabulary import SEARCH, ScopeType
from server.http.graphql.types import (
    SCALARS,
    Names,
    SchemaError,
    Types,
    argument,
    input_field,
    name_of,
    output_field,
)

_SEARCH_NAMES = {"first": "limit", "after": "cursor", "offset": "offset"}


class Direction(StrEnum):
    ASC = "asc"
    DESC = "desc"


class Runs(Protocol):
    """A request, as the fields of its document reach it."""

    async def run(self, field: "Served", info: GraphQLResolveInfo[Any], arguments: Mapping[str, Any]) -> object: ...


@dataclass(frozen=True)
class Served:
    """One top-level field: a spec, and how its arguments become an action's address, target and input."""

    spec: Spec
    names: Names | None
    """Of the input, or of the filter of a search. None: it takes none."""
    searches: bool

    async def resolve(self, _root: object, info: GraphQLResolveInfo[Any], **arguments: Any) -> object:
        request: Runs = info.context
        return await request.run(self, info, arguments)

    def address(self, arguments: Mapping[str, Any]) -> Address:
        scope = self.spec.scope_type
        return Address(scope, "" if scope is ScopeType.ADMIN else arguments["scope"][scope.value])

    def given(self, arguments: Mapping[str, Any], *, counted: bool) -> bytes:
        """The input as the JSON that a REST request would have sent. ``counted``: somebody looks at the total.

        Raises ``BadRequest`` for what JSON cannot tell.
        """
        if self.searches:
            given: object = self._search(arguments, counted=counted)
        elif self.names is None or arguments.get("input") is None:
            return b""
        else:
            given = self.names.to_model(arguments["input"])
        try:
            return orjson.dumps(given)
        except TypeError:
            told = "The input is nested too deep, or holds a number that is too large."
            raise BadRequest(told, reason="malformed-json") from None

    def _search(self, arguments: Mapping[str, Any], *, counted: bool) -> dict[str, object]:
        given = {key: arguments[name] for name, key in _SEARCH_NAMES.items() if arguments.get(name) is not None}
        if self.names and arguments.get("filter") is not None:
            given["filter"] = self.names.to_model(arguments["filter"])
        if arguments.get("order"):
            given["order"] = ",".join(
                f"{part['field']}:{part.get('direction') or Direction.ASC}" for part in arguments["order"]
            )
        if not counted:
            given["total"] = Total.NONE
        elif arguments.get("exactTotal"):
            given["total"] = Total.EXACT
        return given

    def pointer(self, pointer: str) -> str:
        """Where the caller of GraphQL wrote what the model complains about."""
        if not self.searches:
            return "/input" + (self.names.pointer(pointer) if self.names else pointer)
        head, _, rest = pointer[1:].partition("/")
        if head == "filter" and rest and self.names:
            return "/filter" + self.names.pointer("/" + rest)
        told = next((name for name, key in _SEARCH_NAMES.items() if key == head), head)
        return f"/{told}" + (f"/{rest}" if rest else "")

    def answer(self, result: BaseModel, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The result as the JSON that a REST request would get; a page of it as a connection."""
        told: dict[str, Any] = result.__pydantic_serializer__.to_python(result, mode="json")
        if isinstance(result, BatchResult):
            for item in told["items"]:
                for fault in item["problem"]["errors"] if item["problem"] else ():
                    fault["pointer"] = self.pointer(fault["pointer"])
        if not self.searches:
            return told
        page = cast(Page[Any], result)
        skipped = arguments.get("after") is not None or (page.offset > 0 and page.items != [])
        return _connection(told, page, skipped=skipped)


@dataclass(frozen=True)
class Built:
    schema: GraphQLSchema
    sdl: str
    fields: Mapping[str, Served]
    """By name; queries and mutations share one space of names, as actions do."""


@lru_cache(maxsize=8)
def build(specs: tuple[Spec, ...]) -> Built:
    """The schema of everything that is served. Raises ``SchemaError`` when the declarations do not fit into one.

    It takes a moment, so a process that serves the same declarations twice makes it once.
    """
    made = _Making([spec for spec in specs if spec.in_graphql])
    queries = [made.field(spec) for spec in made.specs if spec.operation.reads]
    mutations = [made.field(spec) for spec in made.specs if not spec.operation.reads]
    schema = strawberry.Schema(
        query=made.root("Query", queries, "What only reads."),
        mutation=made.root("Mutation", mutations, "What changes something: one after the other, each for itself.")
        if mutations
        else None,
        config=StrawberryConfig(default_resolver=getitem, scalar_map=SCALARS),
    )
    # Strawberry states the schema; graphql-core, which runs it, is handed what it made.
    core: GraphQLSchema = schema._schema
    for root in (core.query_type, core.mutation_type):
        for name, field in root.fields.items() if root else ():
            field.resolve = made.served[name].resolve
    return Built(core, schema.as_str() + "\n", made.served)


class _Making:
    """The parts of a schema while it is made."""

    def __init__(self, specs: Sequence[Spec]) -> None:
        self.specs = specs
        self.served: dict[str, Served] = {}
        self._types = Types()
        self._scopes: dict[ScopeType, type] = {}
        self._connections: dict[type[BaseModel], type] = {}
        self._orders: dict[str, type] = {}
        self._page_info = self._types.new("PageInfo", "Where a page lies among all that was found.")
        for spec in specs:  # outputs first: where a model is both, its input gets the longer name
            if not _searches(spec):
                self._types.annotation(spec.output, None, (), None)
        self._types.fill(
            self._page_info,
            output_field("has_next_page", bool),
            output_field("has_previous_page", bool, "True after a cursor or an offset."),
            output_field("start_cursor", str | None),
            output_field("end_cursor", str | None),
        )

    def root(self, name: str, fields: Sequence[StrawberryField], description: str) -> type:
        made = self._types.new(name, description)
        self._types.fill(made, *fields)
        return made

    def field(self, spec: Spec) -> StrawberryField:
        arguments: list[StrawberryArgument] = []
        if spec.scope_type is not ScopeType.ADMIN:
            arguments.append(argument("scope", self._scope(spec.scope_type)))
        if spec.operation.on_item and not spec.on_own_scope:
            arguments.append(argument("id", strawberry.ID))
        searches, names = _searches(spec), None
        if searches:
            names = self._search_arguments(spec, arguments)
        elif spec.input.model_fields:
            shape, names = self._types.input(spec.input)
            needed = any(info.is_required() for info in spec.input.model_fields.values())
            arguments.append(argument("input", shape if needed else shape | None))
        told: Any = (
            self._connection(item_of(spec.output)) if searches else self._types.annotation(spec.output, None, (), None)
        )
        made = output_field(spec.graphql_field, told | None, spec.sentence)
        made.arguments = arguments
        if spec.graphql_field in self.served:
            raise SchemaError(f"{spec.name}: two actions want to be called {spec.graphql_field}")
        self.served[spec.graphql_field] = Served(spec, names, searches)
        return made

    def _scope(self, scope_type: ScopeType) -> type:
        if scope_type not in self._scopes:
            by_name = scope_type is ScopeType.DOMAIN
            told = {
                ScopeType.DOMAIN: "A domain, by its name.",
                ScopeType.PROJECT: "A project, by its id.",
                ScopeType.USER: "A user, by its id; `me` is the caller.",
            }[scope_type]
            made = self._types.new(f"{scope_type.capitalize()}Scope", told, is_input=True)
            self._types.fill(made, input_field(scope_type.value, str if by_name else strawberry.ID))
            self._scopes[scope_type] = made
        return self._scopes[scope_type]

    def _search_arguments(self, spec: Spec, arguments: list[StrawberryArgument]) -> Names:
        shape, names = self._types.input(filter_of(spec.input))
        fields = Search.model_fields
        arguments += [
            argument("filter", shape | None),
            argument("order", list[self._order(spec)] | None, "Ties fall to the id."),  # type: ignore[misc]
            argument("first", int | None, f"Items on a page, at most 100. If unsaid: {fields['limit'].default}."),
            argument("after", str | None, "The `cursor` or `endCursor` after which the page begins."),
            argument("offset", int | None, "Items to leave out, at most 10,000, in place of a cursor."),
            argument("exactTotal", bool | None, "Count beyond 10,000."),
        ]
        return names

    def _order(self, spec: Spec) -> type:
        """An order by the fields that a search offers. Scopes that offer different ones have each a type of theirs."""
        name = name_of(item_of(spec.output))
        if any(
            item_of(other.output) is item_of(spec.output) and other.orders != spec.orders
            for other in self.specs
            if _searches(other)
        ):
            name = f"{spec.scope_type.capitalize()}{name}"
        if name not in self._orders:
            fields = self._types.words(f"{name}OrderField", {part.upper(): part for part in spec.orders})
            made = self._types.new(f"{name}Order", is_input=True)
            self._types.fill(
                made,
                input_field("field", fields),
                input_field("direction", self._types.enum(Direction) | None, "If unsaid: ASC."),
            )
            self._orders[name] = made
        return self._orders[name]

    def _connection(self, item: type[BaseModel]) -> type:
        if item not in self._connections:
            node = self._types.output(item)
            edge = self._types.new(f"{name_of(item)}Edge")
            self._types.fill(edge, output_field("node", node), output_field("cursor", str))
            made = self._types.new(f"{name_of(item)}Connection", "One page of what was found.")
            self._types.fill(
                made,
                output_field("edges", list[edge]),  # type: ignore[valid-type]
                output_field("page_info", self._page_info),
                output_field("total_count", int, "Everything that was found, on all pages."),
                output_field("total_count_exact", bool, "False where counting stopped, at 10,000: there are more."),
            )
            self._connections[item] = made
        return self._connections[item]


def _searches(spec: Spec) -> bool:
    """Whether a spec answers with a page of what a filter finds."""
    return spec.operation == SEARCH and issubclass(spec.input, Search) and issubclass(spec.output, Page)


def _connection(told: dict[str, Any], page: Page[Any], *, skipped: bool) -> dict[str, Any]:
    cursors = page.cursors
    return {
        "edges": [{"node": node, "cursor": cursor} for node, cursor in zip(told["items"], cursors, strict=True)],
        "page_info": {
            "has_next_page": page.next_cursor is not None,
            "has_previous_page": skipped,
            "start_cursor": cursors[0] if cursors else None,
            "end_cursor": cursors[-1] if cursors else None,
        },
        "total_count": page.total_count,
        "total_count_exact": page.total_count_exact,
    }
