"""The OpenAPI 3.1 document, made from the declarations alone: one operation for each served action and each alias.

``DELETE`` with and without ``?purge=1`` is two actions and, since OpenAPI tells operations apart by method and path
alone, one operation. Knows no entity by name.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actions.model import NAME_PATTERN
from actions.query import MAX_ORDERS
from actions.standard import Spec
from actions.streams import AFTER, item_of
from actions.vocabulary import CREATE, PURGE, Effect, ScopeType
from server.http.exchange import Exchange
from server.http.openapi_fixed import ABOUT, FIXED, HEADERS, PROBLEM, SECURITY, problem_responses
from server.http.pages import Page
from server.http.schemas import PREFIX, Schema, Schemas

Document = dict[str, Any]
_UUID = {"type": "string", "format": "uuid"}
_SCOPES: Mapping[str, tuple[str, Schema]] = {
    ScopeType.DOMAIN: ("The name of a domain.", {"type": "string", "pattern": NAME_PATTERN}),
    ScopeType.PROJECT: ("The id of a project.", _UUID),
    ScopeType.USER: ("The id of a user, or `me`: the caller.", {"anyOf": [_UUID, {"const": "me", "type": "string"}]}),
}
_STREAM = (
    "Server-sent events, each with an `id` to go on from. The last one is `problem`, with a problem as its data, or "
    "`end` where the server stops."
)
_LAST_EVENT = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": f"The `id` that was read last, by one that comes back: it goes before `{AFTER}`.",
}
_BY_BODY = "The parameters can also be sent as a JSON body of the same names, where no query is."


@cache
def document(specs: tuple[Spec, ...], version: str, fixed: Sequence[str] = tuple(FIXED)) -> Document:
    """The document of all served specs, and of the routes ``fixed`` that are no action's.

    Raises ``SchemaError`` when two models have one name. It is kept and shared, so nobody may change it.
    """
    served = [spec for spec in specs if not spec.internal]
    schemas = Schemas([spec.input for spec in served], [_told(spec) for spec in served])
    paths: dict[str, dict[str, object]] = {}
    for place in _places(served):
        paths.setdefault(place.path, {})[place.method.lower()] = _operation(place, schemas)
    for route in fixed:
        method, _, path = route.partition(" ")
        paths.setdefault(path, {})[method.lower()] = FIXED[route]
    entities = dict.fromkeys(spec.entity for spec in served)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Chamberlain", "version": version, "description": ABOUT},
        "tags": [
            *(
                {"name": entity.name, "description": f"What is done to {entity.plural.replace('_', ' ')}."}
                for entity in entities
            ),
            {"name": "server", "description": "What the server tells of itself, to anyone."},
        ],
        "paths": paths,
        "components": {
            "schemas": {**_reached(paths, schemas.components), "Problem": PROBLEM},
            "responses": problem_responses(),
            "headers": HEADERS,
            "securitySchemes": SECURITY,
        },
    }


@dataclass
class _Place:
    """One method of one path, and the specs that it stands for: two where a ``DELETE`` can purge."""

    method: str
    path: str
    specs: list[Spec] = field(default_factory=list)

    @property
    def main(self) -> Spec:
        return next((spec for spec in self.specs if spec.operation != PURGE), self.specs[0])

    @property
    def id(self) -> str:
        """The action's name; for an alias, its route: ``get_auth_whoami``."""
        if self.path == self.main.path:
            return self.main.name
        return self.method.lower() + self.path.replace("/", "_").replace("-", "_")


def _places(specs: Iterable[Spec]) -> Iterable[_Place]:
    found: dict[tuple[str, str], _Place] = {}
    for spec in specs:
        routes = [(spec.method, spec.path), *((alias.method, alias.path) for alias in spec.aliases)]
        for method, path in routes:
            found.setdefault((method, path), _Place(method, path)).specs.append(spec)
    return found.values()


def _operation(place: _Place, schemas: Schemas) -> Schema:
    spec = place.main
    parameters = [*_path_parameters(place)]
    told: Schema = {
        "operationId": place.id,
        "tags": [spec.entity.name],
        "summary": " Or: ".join(spec.sentence for spec in place.specs),
        "x-chamberlain-permission": str(spec.permission),
    }
    if len(place.specs) > 1:
        told["x-chamberlain-actions"] = {spec.name: str(spec.permission) for spec in place.specs}
    if PURGE in (spec.operation for spec in place.specs):
        parameters.append(_purge(required=len(place.specs) == 1))
    if place.method == "GET":
        given = list(_query_parameters(spec, schemas))
        parameters += given
        told |= {"description": _BY_BODY} if given else {}
        parameters += [_LAST_EVENT] if spec.stream is not None else []
    elif spec.input.model_fields:
        told["requestBody"] = _body(spec.input, schemas)
    if parameters:
        told["parameters"] = parameters
    if spec.anonymous:
        told["security"] = []
    else:
        told["security"] = [{name: []} for name in SECURITY]
    told["responses"] = {**_success(place, schemas), **_problems(spec)}
    return told


def _path_parameters(place: _Place) -> Iterator[Schema]:
    for segment in place.path.split("/"):
        if not segment.startswith("{"):
            continue
        name = segment.strip("{}")
        if name == "id":
            entity = place.main.entity
            schema = _UUID if entity.uuid_keyed else {"type": "string", "pattern": "^[A-Za-z0-9._~-]+$"}
            says = f"Which {entity.words}."
        else:
            says, schema = _SCOPES[name]
        yield {"name": name, "in": "path", "required": True, "description": says, "schema": schema}


def _purge(*, required: bool) -> Schema:
    says = "Remove for good what is deleted already." if required else "Given, it purges; left out, it soft-deletes."
    schema = {"type": "string", "enum": ["1"]}
    return {"name": "purge", "in": "query", "required": required, "description": says, "schema": schema}


def _query_parameters(spec: Spec, schemas: Schemas) -> Iterator[Schema]:
    for name, info in spec.input.model_fields.items():
        name = info.alias or name
        shown = _without_null(schemas.properties(spec.input)[name])
        says = shown.pop("description", None)
        if name == "order" and spec.orders:
            shown = {"type": "string", "maxLength": 200, "pattern": order_pattern(spec.orders)}
            says = f"Of {', '.join(spec.orders)}: up to {MAX_ORDERS}, each perhaps with :asc or :desc."
        elif _is_object(shown, schemas):
            shown = {"type": "string", "contentMediaType": "application/json", "contentSchema": shown}
            says = f"{says or 'An object'}, as JSON."
        parameter = {"name": name, "in": "query", "required": info.is_required(), "schema": shown}
        yield {**parameter, "description": says} if says else parameter


def _without_null(shown: Schema) -> Schema:
    """What can stand in a query: a parameter that is null is one that is left out."""
    if "anyOf" not in shown:
        return dict(shown)
    kinds = [kind for kind in shown["anyOf"] if kind != {"type": "null"}]
    rest = {name: value for name, value in shown.items() if name != "anyOf"}
    return {**rest, **(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})}


def _is_object(shown: Schema, schemas: Schemas) -> bool:
    if "$ref" in shown:
        shown = schemas.components[shown["$ref"].removeprefix(PREFIX)]
    return shown.get("type") in ("object", "array")


def order_pattern(orders: Sequence[str]) -> str:
    """What the parameter ``order`` may say: some of the fields, none of them twice."""
    part = f"(?:{'|'.join(orders)})(?::asc|:desc)?"
    twice = r"(?!(?:.*,)?(\w+)(?::\w+)?,(?:.*,)?\1(?:[:,]|$))"
    return f"^{twice}{part}(?:,{part}){{0,{MAX_ORDERS - 1}}}$"


def _body(model: type[BaseModel], schemas: Schemas) -> Schema:
    required = any(info.is_required() for info in model.model_fields.values())
    return {"required": required, "content": {"application/json": {"schema": schemas.input(model)}}}


def _success(place: _Place, schemas: Schemas) -> Schema:
    headers = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
    if place.main.stream is not None:
        return {"200": {"description": _STREAM, "headers": headers, "content": _events(place.main, schemas)}}
    shown = list({str(found): found for spec in place.specs for found in [schemas.output(spec.output)]}.values())
    created = place.main.operation == CREATE
    if created:
        headers["Location"] = {"$ref": "#/components/headers/Location"}
    answer = {
        "description": "It was created." if created else "It was done.",
        "headers": headers,
        "content": {"application/json": {"schema": shown[0] if len(shown) == 1 else {"anyOf": shown}}},
    }
    return {"201" if created else "200": answer}


def _told(spec: Spec) -> type[BaseModel]:
    """The model of what is told: whole, or by a stream in each of its events."""
    return item_of(spec.output) if spec.stream is not None else spec.output


def _events(spec: Spec, schemas: Schemas) -> Schema:
    """OpenAPI 3.1 has no word for what an event holds, so it stands beside."""
    event = {"name": spec.stream, "data": schemas.output(_told(spec))}
    return {"text/event-stream": {"schema": {"type": "string"}, "x-chamberlain-event": event}}


def _problems(spec: Spec) -> Schema:
    statuses = (400, 401, 403, 404, 405, 409, 413, 414, 415, 422, 429, 431, 500, 503)
    return {
        str(status): {"$ref": f"#/components/responses/{status}"}
        for status in statuses
        if status != 409 or spec.effect is not Effect.NONE or spec.operation.conflicts
    }


def _reached(paths: object, components: Mapping[str, Schema]) -> dict[str, Schema]:
    """The components that the paths speak of, by themselves or through others."""
    reached: set[str] = set()
    waiting = list(_references(paths))
    while waiting:
        name = waiting.pop()
        if name not in reached and name in components:
            reached.add(name)
            waiting += _references(components[name])
    return {name: shown for name, shown in components.items() if name in reached}


def _references(shown: object) -> Iterator[str]:
    if isinstance(shown, list):
        for member in shown:
            yield from _references(member)
    elif isinstance(shown, dict):
        for name, member in shown.items():
            if name == "$ref":
                yield member.removeprefix(PREFIX)
            else:
                yield from _references(member)


@dataclass(frozen=True)
class Described:
    """``/openapi.json`` and the page that reads it. The bytes are made once."""

    body: bytes
    tag: str
    page: Page

    @classmethod
    def of(cls, document: Document) -> "Described":
        body = orjson.dumps(document)
        return cls(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', Page.read("docs.html"))

    def routes(self) -> list[Route]:
        return [
            Route("/openapi.json", self.document, methods=["GET"]),
            Route("/docs", self.page, methods=["GET"]),
        ]

    async def document(self, request: Request) -> Response:
        Exchange.of(request.scope).route = "/openapi.json"
        headers = {"etag": self.tag, "cache-control": "no-cache"}
        if self.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type="application/json")
