"""Law 10: GraphQL obeys the same laws in its own order: who, how much, what fits; then each field is an action."""

import inspect
from collections.abc import Mapping
from typing import Any

import httpx
from graphql import (
    GraphQLObjectType,
    get_introspection_query,
    get_named_type,
    is_introspection_type,
    parse,
)

from server.http.graphql.limits import (
    MAX_ACTIONS,
    MAX_ALIASES,
    MAX_DEPTH,
    MAX_DIRECTIVES,
    MAX_FIELDS,
    MAX_OPERATIONS,
    MAX_SCHEMA_DEPTH,
    MAX_SCHEMA_FIELDS,
    MAX_TOKENS,
)
from tests.documents import BUILT, post, run
from tests.original_client import client
from tests.world.counted import registry
from tests.world.world import World

WHO = '{ userWhoamiUser(scope: {user: "me"}) { id } }'
USER = 'domainUser(scope: {domain: "research"}, id: "%s") { id }'


def nested(depth: int) -> str:
    """A selection that many levels deep. That the schema has no such fields is found out later."""
    return "{ a " * depth + "}" * depth


def bomb(levels: int) -> str:
    """A short text in which fragments double each other: two to the power of ``levels`` fields."""
    text = "{ ...F0 }"
    for level in range(levels):
        text += f" fragment F{level} on Query {{ a {{ ...F{level + 1} }} b {{ ...F{level + 1} }} }}"
    return text + f" fragment F{levels} on Query {{ a }}"


OVER = {
    "too-many-tokens": "{ " + "a " * MAX_TOKENS + "}",
    "too-many-operations": " ".join(f"query Q{number} {WHO}" for number in range(MAX_OPERATIONS + 1)),
    "too-many-actions": "{ " + " ".join(f"a{number}: b" for number in range(MAX_ACTIONS + 1)) + " }",
    "too-many-schema-fields": "{ " + " ".join(f"a{n}: __schema {{ b }}" for n in range(MAX_SCHEMA_FIELDS + 1)) + " }",
    "too-deep": nested(MAX_DEPTH + 1),
    "too-many-aliases": "{ a { " + " ".join(f"a{number}: b" for number in range(MAX_ALIASES + 1)) + " } }",
    "too-many-fields": "{ a { " + "b " * MAX_FIELDS + "} }",
    "too-many-directives": "{ a " + "@skip(if: false) " * (MAX_DIRECTIVES + 1) + "}",
    "fragment-cycle": "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
}


HIDDEN = (
    "query A " + "{ ...F } " + "fragment F on Query " + nested(MAX_DEPTH + 1),
    "{ ... on Query " + nested(MAX_DEPTH + 1) + " }",
    bomb(MAX_DEPTH - 2),
    "{ a } fragment Unused on Query " + nested(MAX_SCHEMA_DEPTH + 1),
    "{ ...F }" + "fragment F on Query { " + " ".join(f"a{n}: b" for n in range(MAX_ACTIONS + 1)) + " }",
    "{ ... { " + " ".join(f"a{n}: b" for n in range(MAX_ACTIONS + 1)) + " } }",
    "{ a " + "{ ... " * 250 + "{ b }" + " }" * 250 + " }",
)
"""In a fragment, an inline one, doubled, unused; too many actions in either; and nothing but brackets."""


async def test_what_is_over_a_limit_is_refused_before_anything_runs(world: World) -> None:
    before = len(await world.records())
    for reason, query in OVER.items():
        assert refused(await post(world.root, query), reason)
    assert len(await world.records()) == before


async def test_no_limit_can_be_hidden_from(world: World) -> None:
    before = len(await world.records())
    for query in HIDDEN:
        answer = await post(world.root, query)
        assert answer.status_code == 400, query
        codes = {error["extensions"]["code"].removeprefix("request-handle-") for error in answer.json()["errors"]}
        assert codes <= {*OVER, "malformed-document"}, query
    assert len(await world.records()) == before


async def test_at_the_limits_everything_is_served(world: World) -> None:
    actions = " ".join(f'a{number}: userWhoamiUser(scope: {{user: "me"}}) {{ id }}' for number in range(MAX_ACTIONS))
    assert len(await run(world.mia, f"{{ {actions} }}")) == MAX_ACTIONS
    fields = "id " * (MAX_FIELDS - 1)
    assert await run(world.mia, f'{{ userWhoamiUser(scope: {{user: "me"}}) {{ {fields} }} }}')


async def test_variables_that_are_nested_without_end_are_refused(world: World) -> None:
    query = "query ($filter: UserFilter) { adminSearchUsers(filter: $filter) { totalCount } }"
    for depth, reason in ((7, None), (400, "too-deep"), (800, "malformed-json")):
        filter = '{"AND": [' * depth + "{}" + "]}" * depth
        body = f'{{"query": "{query}", "variables": {{"filter": {filter}}}}}'.encode()
        answer = await world.root.send("POST", "/graphql", body, headers={"content-type": "application/json"})
        if reason == "malformed-json":
            assert (answer.status_code, answer.json()["code"]) == (400, "request-handle-malformed-json")
        elif reason:
            assert refused(answer, reason)
        else:
            [error] = answer.json()["errors"]
            assert error["extensions"]["code"] == "user-search-filter-too-deep"
            assert error["extensions"]["errors"][0]["pointer"].startswith("/filter/AND/0/AND")


async def test_each_field_is_an_action_of_its_own(world: World) -> None:
    """Decided, recorded and answered each for itself, under the one request."""
    fields = " ".join(f"{name}: {USER % world.id(name)}" for name in ("mia", "piotr", "olga"))
    answer = await post(world.dana, f'{{ {fields} hidden: adminUser(id: "{world.id("mia")}") {{ id }} }}')
    told = answer.json()
    assert {name: part and part["id"] for name, part in told["data"].items()} == {
        "mia": str(world.id("mia")),
        "piotr": str(world.id("piotr")),
        "olga": None,
        "hidden": None,
    }
    assert {error["path"][0]: error["extensions"]["code"] for error in told["errors"]} == {
        "olga": "user-get-not-found",
        "hidden": "user-get-forbidden",
    }
    records = [record for record in await world.records() if record.get("request", {}).get("surface") == "graphql"]
    assert {(record["action"], record["result"]) for record in records} == {
        ("domain_user", "succeeded"),
        ("domain_user", "failed"),
        ("admin_user", "denied"),
    }
    assert len(records) == 4
    assert {record["request"]["id"] for record in records} == {answer.headers["x-request-id"]}


async def test_changes_come_one_after_the_other_each_in_a_transaction_of_its_own(world: World) -> None:
    change = 'userUpdateUser(scope: {user: "me"}, input: {fullName: "%s"}) { fullName version }'
    wrong = 'userUpdateUser(scope: {user: "me"}, input: {email: "x"}) { version }'
    query = f"mutation {{ a: {change % 'A'} wrong: {wrong} b: {change % 'B'} c: {change % 'C'} }}"
    told = (await post(world.mia, query)).json()
    assert [part and (part["fullName"], part["version"]) for part in told["data"].values()] == [
        ("A", 2),
        None,
        ("B", 3),
        ("C", 4),
    ]
    [error] = told["errors"]
    assert (error["path"], error["extensions"]["status"]) == (["wrong"], 422)
    assert len({row["xid"] for row in await world.sql("SELECT DISTINCT xmin::text AS xid FROM audit_record")}) >= 4


async def test_a_document_that_comes_again_changes_nothing_again(world: World) -> None:
    """The signature allows each of its changes once, whatever the others came to."""
    root = client(world, "root")
    headers = root.signed("POST", "/graphql", "application/json")
    make = (
        'mutation { a: adminCreateDomain(input: {name: "a"}) { id } b: adminCreateDomain(input: {name: "b"}) { id } }'
    )

    async def send(query: str) -> dict[str, Any]:
        content = b'{"query": "%s"}' % query.replace('"', '\\"').encode()
        answer = await root.send("POST", "/graphql", headers=headers, content=content)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    assert "errors" not in await send(make)
    for query in (make, make.replace('"a"', '"c"').replace('"b"', '"d"')):
        told = await send(query)
        assert told["data"] == {"a": None, "b": None}
        assert {error["extensions"]["code"] for error in told["errors"]} == {"authentication-verify-signature-replayed"}
        assert {error["extensions"]["status"] for error in told["errors"]} == {401}
    names = {row["name"] for row in await world.sql("SELECT name FROM domain")}
    assert {"a", "b"} <= names
    assert not {"c", "d"} & names


async def test_a_replay_is_counted_as_the_failed_authentication_that_it_is(world: World) -> None:
    root = client(world, "root")
    headers = root.signed("POST", "/graphql", "application/json")
    content = b'{"query": "mutation { adminCreateDomain(input: {name: \\"once\\"}) { id } }"}'
    for _ in range(3):
        await root.send("POST", "/graphql", headers=headers, content=content)
    sample = registry(world.app.metrics).get_sample_value
    assert sample("chamberlain_auth_failures_total", {"reason": "signature-replayed"}) == 2


async def test_nobody_without_credentials_learns_anything(world: World) -> None:
    before = await world.records()
    for query in (WHO, "{ __typename }", "{ __schema { types { name } } }", "{ nonsense }", "{{", OVER["too-deep"], ""):
        answer = await post(world.stranger(), query)
        assert answer.status_code == 401
        assert answer.json()["code"] == "authentication-verify-missing-credentials"
    assert {record["action"] for record in (await world.records())[len(before) :]} == {"authenticate"}


async def test_the_hidden_and_the_missing_are_one(world: World) -> None:
    """What a 404 says depends on the field alone (law 6)."""
    faces = []
    for scope, target in (
        ("research", world.id("olga")),  # lives elsewhere
        ("research", "01a2062b-0000-7000-8000-000000000000"),  # lives nowhere
        ("research", "no id at all"),
        ("elsewhere", world.id("nobody")),  # in a domain that dana cannot see
        ("unheard-of", world.id("mia")),
    ):
        query = f'{{ domainUser(scope: {{domain: "{scope}"}}, id: "{target}") {{ id }} }}'
        told = (await post(world.dana, query)).json()
        del told["errors"][0]["extensions"]["request_id"]
        faces.append(told)
    assert all(face == faces[0] for face in faces)
    assert faces[0]["errors"][0]["extensions"] == {"code": "user-get-not-found", "status": 404}


async def test_nothing_below_a_top_level_field_reaches_for_anything() -> None:
    """Objects are flat and relations are ids: under a field there is nothing but the look into its answer."""
    roots = (BUILT.schema.query_type, BUILT.schema.mutation_type)
    for kind in BUILT.schema.type_map.values():
        if isinstance(kind, GraphQLObjectType) and kind not in roots and not is_introspection_type(kind):
            for name, field in kind.fields.items():
                assert field.args == {}, f"{kind}.{name}"
                assert getattr(field.resolve, "_is_default", False), f"{kind}.{name}"
                assert not inspect.iscoroutinefunction(field.resolve), f"{kind}.{name}"
    types: Mapping[str, Any] = BUILT.schema.type_map
    nodes = {get_named_type(kind.fields["node"].type) for name, kind in types.items() if name.endswith("Edge")}
    assert len(nodes) > 4
    for node in nodes:
        for name, field in node.fields.items():
            assert get_named_type(field.type) not in nodes, f"{node}.{name}"


async def test_the_schema_may_be_asked_for_by_anybody_who_is_somebody(world: World) -> None:
    before = len(await world.records())
    told = await run(world.nobody, get_introspection_query())
    assert {kind["name"] for kind in told["__schema"]["types"]} == set(BUILT.schema.type_map)
    deeper = "{ __schema { types " + "{ fields { type " * 12 + "{ name }" + " } }" * 12 + " } }"
    assert refused(await post(world.nobody, deeper), "too-deep")
    wider = "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }"
    assert refused(await post(world.nobody, wider), "invalid-document")
    assert len(await world.records()) == before


def test_the_usual_question_about_the_schema_is_within_the_limits() -> None:
    text = get_introspection_query(descriptions=True, specified_by_url=True, input_value_deprecation=True)
    parse(text, max_lexical_tokens=MAX_TOKENS // 2)  # or it raises


def refused(answer: httpx.Response, reason: str) -> bool:
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert "data" not in told
    for error in told["errors"]:
        assert error["extensions"]["code"] == f"request-handle-{reason}", told
        assert error["extensions"]["status"] == 400
        assert error["extensions"]["request_id"] == answer.headers["x-request-id"]
    return True
