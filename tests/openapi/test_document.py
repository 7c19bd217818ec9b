"""The document says what is served, all of it and nothing else, and is OpenAPI."""

import json
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel

from actions.entities import ALL_SPECS
from actions.vocabulary import PURGE
from server.app import VERSION
from server.http.names import public_name
from server.http.openapi import document, order_pattern
from server.http.schemas import SchemaError, Schemas
from tests.commands import invoke
from tests.golden.pages import PAGES
from tests.world.world import World

DOCUMENT = document(ALL_SPECS, VERSION)
OPERATIONS = {
    (method.upper(), path): operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
SERVED = [spec for spec in ALL_SPECS if not spec.internal]


DOCUMENTS = ("POST", "/graphql")
"""The one route of all actions at once."""


def test_each_action_and_alias_has_one_operation_and_each_operation_an_action() -> None:
    routes = {
        route: spec
        for spec in SERVED
        for route in [(spec.method, spec.path), *((a.method, a.path) for a in spec.aliases)]
    }
    lines = PAGES["ungoverned.txt"]().splitlines()[1:]
    ungoverned = {(method, path) for method, _, path in (line.partition(" ") for line in lines)} - {("GET", "/metrics")}
    assert set(OPERATIONS) == set(routes) | ungoverned | {DOCUMENTS}
    for spec in SERVED:
        operation = OPERATIONS[spec.method, spec.path]
        assert spec.sentence in operation["summary"]
        if spec.operation == PURGE:
            assert operation["x-chamberlain-actions"][spec.name] == str(spec.permission)
            assert "purge" in {given["name"] for given in operation["parameters"]}
        else:
            assert operation["operationId"] == spec.name
            assert operation["x-chamberlain-permission"] == str(spec.permission)
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(ids) == len(set(ids))


def test_who_needs_no_credentials_is_said() -> None:
    anonymous = {(spec.method, spec.path) for spec in SERVED if spec.anonymous}
    anonymous |= {(alias.method, alias.path) for spec in SERVED if spec.anonymous for alias in spec.aliases}
    for route, operation in OPERATIONS.items():
        open_to_all = ("x-chamberlain-permission" not in operation and route != DOCUMENTS) or route in anonymous
        assert (operation["security"] == []) is open_to_all, route


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    for reference in set(_references(DOCUMENT)):
        at: Any = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            at = at[name]
    used = {reference.rpartition("/")[2] for reference in _references(DOCUMENT) if "/schemas/" in reference}
    assert set(DOCUMENT["components"]["schemas"]) == used
    for name, shown in DOCUMENT["components"]["schemas"].items():
        assert not jsonschema_rs.meta.is_valid({"$schema": _DIALECT, "type": 1})
        assert jsonschema_rs.meta.is_valid({"$schema": _DIALECT, **shown}), name
        assert name.isalnum()


_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _references(shown: object) -> list[str]:
    if isinstance(shown, dict):
        own = [shown["$ref"]] if isinstance(shown.get("$ref"), str) else []
        return own + [found for member in shown.values() for found in _references(member)]
    return [found for member in shown for found in _references(member)] if isinstance(shown, list) else []


def test_every_parameter_of_a_path_is_described() -> None:
    for (method, path), operation in OPERATIONS.items():
        given = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
        assert given == {part[1:-1] for part in path.split("/") if part.startswith("{")}, f"{method} {path}"
        assert {"400", "405", "500"} <= operation["responses"].keys()


def test_a_schema_is_as_strict_as_its_model() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for model, field, good, bad in (
        ("NewUser", "email", "mia@example.org", "mia@example"),
        ("NewUser", "password", "ten letters", "too short"),
        ("UserChange", "description", "", "a\0b"),
        ("UserChange", "description", "", None),
        ("NewDomain", "name", "you", "me"),
        ("DomainChange", "integration_id", None, 1),
        ("DomainChange", "total_resource_slots", {"cpu": 1}, {"\0": 1}),
        ("Activation", "reason", "as it was", "  "),
    ):
        shown = schemas[model]["properties"][field]
        assert jsonschema_rs.is_valid(shown, good), (model, field)
        assert not jsonschema_rs.is_valid(shown, bad), (model, field)


def test_an_order_names_each_field_once() -> None:
    shown = {"pattern": order_pattern(("name", "created_at", "id"))}
    for good in ("name", "name:asc", "name:desc,created_at", "id,name,created_at:asc"):
        assert jsonschema_rs.is_valid(shown, good), good
    for bad in ("", "name,", "name,name", "name:asc,id,name:desc", "nam", "name:up", " name", "name;id"):
        assert not jsonschema_rs.is_valid(shown, bad), bad


def test_a_generic_model_is_called_by_its_argument() -> None:
    assert public_name("User") == "User"
    assert public_name("Page[User]") == "UserPage"
    assert public_name("Batch[Change[User]]") == "UserChangeBatch"


def test_two_models_of_one_name_stop_the_start() -> None:
    class Twin(BaseModel):
        left: int

    first = Twin

    class Twin(BaseModel):  # type: ignore[no-redef]
        right: int

    with pytest.raises(SchemaError, match="two models are called Twin"):
        Schemas([first, Twin], [])


async def test_it_is_served_and_need_not_be_sent_twice(world: World) -> None:
    answer = await world.stranger().send("GET", "/openapi.json")
    assert answer.json() == json.loads(json.dumps(DOCUMENT))
    again = await world.stranger().send("GET", "/openapi.json", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await world.stranger().send("GET", "/openapi.json", headers={"If-None-Match": '"another"'})
    assert other.status_code == 200


def test_the_command_line_prints_it() -> None:
    assert json.loads(invoke("openapi").stdout) == json.loads(json.dumps(DOCUMENT))


async def test_a_name_given_twice_in_a_body_is_refused(world: World) -> None:
    body = b'{"description": "one", "description": "two"}'
    answer = await world.mia.send("PATCH", "/users/me", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "user-update-repeated-name")


async def test_a_method_that_an_open_route_does_not_serve_is_a_problem_too(world: World) -> None:
    for path in ("/", "/livez", "/readyz", "/openapi.json", "/docs"):
        answer = await world.stranger().send("POST", path)
        assert answer.status_code == 405
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["allow"] == "GET, HEAD"


async def test_a_query_is_read_as_strictly_as_a_body(world: World) -> None:
    for query in (
        "limit=1.0",
        "limit=true",
        "order=",
        "order=created_at:",
        'filter={"created_at": {"after": "1700000000"}}',
        'filter={"created_at": {"after": "20260131T12"}}',
        'filter={"is_active": {"equals": "true"}}',
        'filter="{}"',
    ):
        answer = await world.mia.send("GET", f"/users/me/keypairs?{query}")
        assert answer.status_code == 422, query
