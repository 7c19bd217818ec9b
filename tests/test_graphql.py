"""GraphQL over HTTP: how it is asked, how it answers, how pages are walked, and what its errors never tell."""

import base64
import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from server.cli.signing_client import SignatureAuth
from server.repositories.database import Database
from tests.documents import post, run
from tests.world.world import World

WHO = '{ userWhoamiUser(scope: {user: "me"}) { username } }'
SEARCH = """
query ($filter: UserFilter, $order: [UserOrder!], $first: Int, $after: String, $offset: Int) {
    adminSearchUsers(filter: $filter, order: $order, first: $first, after: $after, offset: $offset) {
        edges { node { username } cursor }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        totalCount
    }
}"""


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of a refusal, be it a problem or a list of errors."""
    told = answer.json()
    code: str = told["code"] if "code" in told else told["errors"][0]["extensions"]["code"]
    return answer.status_code, code


# -- how it is asked --


async def test_a_document_is_sent_as_json_by_post_and_no_other_way(world: World) -> None:
    body = orjson.dumps({"query": WHO})
    assert (await world.mia.send("POST", "/graphql", body)).status_code == 415  # of no type at all
    for kind in (
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/graphql",
    ):
        answer = await world.mia.send("POST", "/graphql", body, headers={"content-type": kind})
        assert code_of(answer) == (415, "request-handle-unsupported-media-type")
    for path in (f"/graphql?query={WHO}", "/graphql?x=1"):
        answer = await world.mia.send("GET", path)
        assert code_of(answer) == (400, "request-handle-query-in-address")
        assert (await world.mia.send("HEAD", path)).status_code == 400
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert code_of(await world.mia.send(method, "/graphql", body)) == (405, "request-handle-method-not-allowed")
    in_both = await world.mia.send("POST", "/graphql?operationName=X", {"query": WHO})
    assert code_of(in_both) == (400, "request-handle-query-in-address")


async def test_a_body_that_was_signed_is_the_body_that_is_run(world: World) -> None:
    meant = httpx.Request("POST", "http://chamberlain.test/graphql", json={"query": WHO})
    mia = world.personas["mia"]
    auth = SignatureAuth(mia.access_key, mia.secret_key, sign_body=True, now=lambda: datetime.now(UTC))
    headers = {name: value for name, value in next(auth.auth_flow(meant)).headers.items() if name != "content-length"}
    assert (await world.stranger().send("POST", "/graphql", meant.content, headers=headers)).status_code == 200
    other = meant.content.replace(b"username", b"email")
    refused = await world.stranger().send("POST", "/graphql", other, headers=headers)
    assert code_of(refused) == (401, "authentication-verify-unauthenticated")


NO_REQUESTS: tuple[tuple[object, str], ...] = (
    (b"{", "malformed-json"),
    (b"\xff", "malformed-json"),
    (b"", "malformed-json"),
    (b'{"query": "{ a }", "query": "{ b }"}', "repeated-name"),
    (b'{"query": "{ a }", "variables": {"a": [{"b": 1, "\\u0062": 2}]}}', "repeated-name"),
    (b'{"query": "{ a }", "variables": ' + b"[" * 1000 + b"]" * 1000 + b"}", "too-deep"),
    ([{"query": WHO}], "batched"),
    ("text", "malformed-request"),
    ({}, "malformed-request"),
    ({"query": None}, "malformed-request"),
    ({"query": {"a": 1}}, "malformed-request"),
    ({"query": WHO, "variables": []}, "malformed-request"),
    ({"query": WHO, "variables": "x"}, "malformed-request"),
    ({"query": WHO, "operationName": 1}, "malformed-request"),
    ({"query": WHO, "operationName": "Other"}, "unknown-operation"),
    ({"query": f"query A {WHO} query B {WHO}"}, "unknown-operation"),
    ({"query": "fragment F on Query { __typename }"}, "unknown-operation"),
    ({"query": ""}, "malformed-document"),
    ({"query": "{"}, "malformed-document"),
    ({"query": "type A { b: C }"}, "unknown-operation"),
    ({"query": f"query A {WHO} type A {{ b: C }}"}, "invalid-document"),
    ({"query": "subscription { a }"}, "invalid-document"),
    ({"query": "{ nonsense }"}, "invalid-document"),
    ({"query": "{ adminUser { id } }"}, "invalid-document"),
    ({"query": "{ adminUser(id: 1.5) { id } }"}, "invalid-document"),
    ({"query": "{ adminUser(id: 1) }"}, "invalid-document"),
    ({"query": "mutation { adminUser(id: 1) { id } }"}, "invalid-document"),
    ({"query": "query ($a: ID!) { adminUser(id: $a) { id } }"}, "invalid-variables"),
    ({"query": "query ($a: ID!) { adminUser(id: $a) { id } }", "variables": {"a": None}}, "invalid-variables"),
    ({"query": "query ($a: ID!) { adminUser(id: $a) { id } }", "variables": {"a": [1]}}, "invalid-variables"),
)


async def test_what_is_no_request_is_told_so_and_nothing_is_run(world: World) -> None:
    before = len(await world.records())
    for body, reason in NO_REQUESTS:
        kind = {"content-type": "application/json"} if isinstance(body, bytes) else None
        answer = await world.root.send("POST", "/graphql", body, headers=kind)
        assert code_of(answer) == (400, f"request-handle-{reason}"), body
    assert len(await world.records()) == before


async def test_the_operation_that_is_named_is_the_one_that_runs(world: World) -> None:
    query = f'query A {WHO} query B {{ userUser(scope: {{user: "me"}}) {{ email }} }}'
    told = (await world.mia.send("POST", "/graphql", {"query": query, "operationName": "B"})).json()
    assert told == {"data": {"userUser": {"email": "mia@example.org"}}}


async def test_a_document_that_was_seen_before_is_held_to_the_same(world: World) -> None:
    query = "query ($id: ID!) { adminUser(id: $id) { username } }"
    for _ in range(2):
        assert (await run(world.root, query, id=str(world.id("mia"))))["adminUser"] == {"username": "mia"}
        assert code_of(await post(world.root, query)) == (400, "request-handle-invalid-variables")
        assert code_of(await post(world.mia, query, id=str(world.id("mia")))) == (200, "user-get-forbidden")
        assert code_of(await post(world.stranger(), query)) == (401, "authentication-verify-missing-credentials")


# -- how it answers --


async def test_the_form_of_the_answer_is_the_one_that_was_asked_for(world: World) -> None:
    own = "application/graphql-response+json"
    for accept, form in (
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        (own, own),
        (f"{own}, application/json;q=0.9", own),
    ):
        for query in (WHO, "{ nonsense }"):
            answer = await world.mia.send("POST", "/graphql", {"query": query}, headers={"accept": accept})
            assert answer.headers["content-type"] == form
            assert answer.headers["cache-control"] == "no-store"


async def test_an_error_names_the_place_in_the_words_of_the_caller(world: World) -> None:
    query = """mutation ($input: NewUser!) {
        domainCreateUser(scope: {domain: "research"}, input: $input) { id }
    }"""
    given = {"username": "Not A Name", "email": "x", "password": "short", "allowedClientIp": ["10.0.0.1", "no"]}
    [error] = (await post(world.dana, query, input=given)).json()["errors"]
    assert error["message"] == "The input is not valid."
    assert {fault["pointer"] for fault in error["extensions"]["errors"]} == {
        "/input/username",
        "/input/email",
        "/input/password",
        "/input/allowedClientIp/1",
    }
    for variables, pointer in (
        ({"first": 101}, "/first"),
        ({"offset": -1}, "/offset"),
        ({"after": "x" * 3000}, "/after"),
        ({"filter": {"createdAt": {"before": "noon"}}}, "/filter/createdAt/before"),
        ({"filter": {"OR": [{"fullName": {"notIn": ["a\0"]}}]}}, "/filter/OR/0/fullName/notIn/0"),
        ({"filter": {"id": {"in": ["x"]}}}, "/filter/id/in/0"),
    ):
        [error] = (await post(world.root, SEARCH, **variables)).json()["errors"]
        assert error["extensions"]["code"] == "user-search-invalid", variables
        assert [fault["pointer"] for fault in error["extensions"]["errors"]] == [pointer]


async def test_no_error_repeats_a_value_that_it_was_given(world: World) -> None:
    """A password in the wrong place is still a password."""
    made = "mutation ($input: %s) { domainCreateUser(scope: {domain: %s}, input: %s) { id } }"
    literal = made.partition("(")[0] + made.partition(")")[2]
    literal = literal % ('"research"', '{username: "a", email: "b", password: %s}')
    for query, variables in (
        (literal % 77777777, {}),
        (literal % "[77777777]", {}),
        (literal % '{of: "77777777"}', {}),
        (literal % "x77777777", {}),
        (literal % '"77777777" "77777777"', {}),
        (literal % '"77777777', {}),
        (literal % '"7777777"', {}),
        (made % ("NewUser!", '"research"', "$input"), {"input": {"username": {"77777777": 1}, "password": 77777777}}),
        (made % ("NewUser!", '"research"', "$input"), {"input": {"password": "77777777"}}),
        (made % ("NewUser!", '"research"', "$input"), {"input": "77777777"}),
        (made % ("NewUser!", '"research"', "$input"), {"input": ["77777777"]}),
        (made % ("NewUser! = 77777777", '"research"', "$input"), {}),
        (made % ("NewUser!", "77777777", "$input"), {}),
    ):
        answer = await post(world.dana, query, **variables)
        assert "errors" in answer.json(), query
        assert "7777777" not in answer.text, answer.text


async def test_a_crash_shows_nothing_of_itself(world: World) -> None:
    await world.sql("ALTER TABLE users RENAME COLUMN full_name TO another_name")
    told = (await post(world.root, f'{{ adminUser(id: "{world.id("mia")}") {{ id }} me: __typename }}')).json()
    assert told["data"] == {"adminUser": None, "me": "Query"}
    [error] = told["errors"]
    assert error["extensions"]["code"] == "user-get-internal"
    assert error["extensions"]["status"] == 500
    assert "full_name" not in str(told)


async def test_a_variable_that_is_null_where_nothing_may_be_is_the_callers_mistake(world: World) -> None:
    for query, path, code in (
        ('query ($id: ID = "x") { adminUser(id: $id) { id } }', ["adminUser"], "user-get-invalid-variables"),
        (
            'query ($x: Boolean = true) { adminUser(id: "1") @skip(if: $x) { id } }',
            None,
            "request-handle-invalid-variables",
        ),
    ):
        told = (await post(world.root, query, id=None, x=None)).json()
        assert not (told["data"] or {}).get("adminUser")
        [error] = told["errors"]
        assert (error["path"], error["extensions"]["code"], error["extensions"]["status"]) == (path, code, 400)


async def test_a_character_that_no_path_has_names_nothing(world: World) -> None:
    query = "query ($domain: String!, $id: ID!) { domainUser(scope: {domain: $domain}, id: $id) { id } }"
    for domain, key in (("research\0", "a"), ("research", "\0"), ("research", "a\nb")):
        answer = await post(world.dana, query, domain=domain, id=key)
        assert code_of(answer) == (200, "user-get-malformed-address")


# -- pages --


async def test_pages_are_walked_by_the_cursor_of_any_edge(world: World) -> None:
    order = [{"field": "USERNAME", "direction": "DESC"}]
    whole = (await run(world.root, SEARCH, order=order))["adminSearchUsers"]
    names = [edge["node"]["username"] for edge in whole["edges"]]
    assert names == ["root", "piotr", "olga", "nobody", "mia", "dana"]
    assert whole["pageInfo"] == {
        "hasNextPage": False,
        "hasPreviousPage": False,
        "startCursor": whole["edges"][0]["cursor"],
        "endCursor": whole["edges"][-1]["cursor"],
    }
    for place, edge in enumerate(whole["edges"]):
        page = (await run(world.root, SEARCH, order=order, first=2, after=edge["cursor"]))["adminSearchUsers"]
        assert [edge["node"]["username"] for edge in page["edges"]] == names[place + 1 : place + 3]
        assert page["pageInfo"]["hasNextPage"] is (place + 3 < len(names))
        assert page["pageInfo"]["hasPreviousPage"] is True
        assert page["totalCount"] == 6
    skipped = (await run(world.root, SEARCH, order=order, first=2, offset=4))["adminSearchUsers"]
    assert [edge["node"]["username"] for edge in skipped["edges"]] == names[4:]
    assert skipped["pageInfo"]["hasPreviousPage"] is True
    none = (await run(world.root, SEARCH, offset=6))["adminSearchUsers"]
    assert none["edges"] == []
    assert none["pageInfo"] == {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None}


async def test_a_cursor_is_good_on_both_surfaces_and_only_for_its_order(world: World) -> None:
    by_rest = await world.root.get("/admin/users", order="username", limit=2)
    page = await run(world.root, SEARCH, order=[{"field": "USERNAME"}], after=by_rest["next_cursor"])
    assert page["adminSearchUsers"]["edges"][0]["node"]["username"] == "nobody"
    cursor = page["adminSearchUsers"]["edges"][1]["cursor"]
    further = await world.root.get("/admin/users", order="username", cursor=cursor)
    assert [item["username"] for item in further["items"]] == ["piotr", "root"]
    for after in (cursor, "nonsense", ""):
        answer = await post(world.root, SEARCH, order=[{"field": "EMAIL"}], after=after)
        assert code_of(answer) == (200, "user-search-invalid-cursor")
    both = await post(world.root, SEARCH, order=[{"field": "USERNAME"}], after=cursor, offset=1)
    assert code_of(both) == (200, "user-search-two-pages")


async def test_every_time_and_id_survives_in_a_cursor(world: World) -> None:
    for field in ("CREATED_AT", "UPDATED_AT", "EMAIL", "FULL_NAME", "STATUS"):
        seen: list[str] = []
        after = None
        while len(seen) < 6:
            page = (await run(world.root, SEARCH, order=[{"field": field}], first=1, after=after))["adminSearchUsers"]
            seen += [edge["node"]["username"] for edge in page["edges"]]
            after = page["pageInfo"]["endCursor"]
        assert sorted(seen) == ["dana", "mia", "nobody", "olga", "piotr", "root"], field


async def test_a_total_that_nobody_looks_at_is_not_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    fetchrow = Database.fetchrow

    async def noting(self: Database, query: Any, values: Any) -> Any:
        asked.append(query.sql)
        return await fetchrow(self, query, values)

    monkeypatch.setattr(Database, "fetchrow", noting)
    for selected, counted in (
        ("edges { cursor } pageInfo { hasNextPage }", False),
        ("totalCount", True),
        ("...F", True),
        ("... { totalCountExact }", True),
    ):
        asked.clear()
        fragment = " fragment F on UserConnection { total: totalCount }" if "F" in selected else ""
        await run(world.root, f"{{ adminSearchUsers(first: 1) {{ {selected} }} }}{fragment}")
        assert any("count(" in sql for sql in asked) is counted, selected
    untold = await world.root.get("/admin/users", limit=2, offset=1, total="none")
    assert (untold["total_count"], untold["total_count_exact"]) == (4, False)  # one left out, two shown, one more


async def test_a_filter_finds_what_it_finds_over_rest(world: World) -> None:
    for filter, names in (
        ({"username": {"in": ["mia", "dana"]}}, ["dana", "mia"]),
        ({"username": {"iContains": "IA"}}, ["mia"]),
        ({"username": {"notIn": ["mia"]}, "email": {"endsWith": "@example.org"}}, ["dana", "nobody", "olga", "piotr"]),
        (
            {"NOT": [{"username": {"startsWith": "m"}}], "domainId": {"equals": str(world.places.research)}},
            ["dana", "piotr"],
        ),
        ({"OR": [{"username": {"equals": "mia"}}, {"AND": [{"username": {"equals": "olga"}}]}]}, ["mia", "olga"]),
        ({"status": {"in": ["INACTIVE", "BEFORE_VERIFICATION"]}}, []),
        ({"deleted": {"equals": True}}, []),
        ({"createdAt": {"after": "2001-01-01T00:00:00Z"}, "username": {"equals": "root"}}, ["root"]),
    ):
        found = (await run(world.root, SEARCH, filter=filter, order=[{"field": "USERNAME"}]))["adminSearchUsers"]
        assert [edge["node"]["username"] for edge in found["edges"]] == names, filter


async def test_what_is_not_given_stays_and_what_is_null_is_null(world: World) -> None:
    change = (
        "mutation ($input: DomainChange!) { adminUpdateDomain(id: %s, input: $input) { description integrationId } }"
    )
    change = change.replace("DomainChange!", "DomainChange") % f'"{world.places.research}"'
    for given, expected in (
        ({"description": "A", "integrationId": "x"}, ("A", "x")),
        ({"description": "B"}, ("B", "x")),
        ({"integrationId": None}, ("B", None)),
        ({}, ("B", None)),
    ):
        told = (await run(world.root, change, input=given))["adminUpdateDomain"]
        assert (told["description"], told["integrationId"]) == expected
    assert code_of(await post(world.root, change, input={"description": None})) == (200, "domain-update-invalid")
    slots = {"cuda_shares": 2**62, "cpu": 4}
    update = (
        'mutation ($s: JSON) { adminUpdateDomain(id: "%s", input: {totalResourceSlots: $s}) { totalResourceSlots } }'
    )
    told = await run(world.root, update % world.places.research, s=slots)
    assert told["adminUpdateDomain"] == {"totalResourceSlots": slots}
    literal = update.replace("($s: JSON)", "").replace("$s", "{cpu: 1, cuda_shares: 9}") % world.places.research
    assert (await run(world.root, literal))["adminUpdateDomain"] == {"totalResourceSlots": {"cpu": 1, "cuda_shares": 9}}


async def test_what_json_cannot_tell_is_the_callers_mistake(world: World) -> None:
    """A number of any length, and depth without end: nothing of it is a crash."""
    update = 'mutation { adminUpdateDomain(id: "%s", input: {totalResourceSlots: {cpu: %s}}) { id } }'
    for number in ("9" * 30, "9" * 5000, "1e400", "-1", "1.5"):
        answer = await post(world.root, update % (world.places.research, number))
        assert 400 <= answer.json()["errors"][0]["extensions"]["status"] < 500, number
    query = "query ($filter: UserFilter) { adminSearchUsers(filter: $filter) { totalCount } }"
    change = 'mutation ($slots: JSON) { adminUpdateDomain(id: "%s", input: {totalResourceSlots: $slots}) { id } }'
    change %= world.places.research
    for depth in (20, 60, 100, 126, 127, 128, 140, 200, 260, 330, 500):
        nest = '{"AND": [' * depth + "{}" + "]}" * depth
        slots = '{"a": ' * depth + "1" + "}" * depth
        for asked, variables in ((query, f'{{"filter": {nest}}}'), (change, f'{{"slots": {slots}}}')):
            body = f'{{"query": {orjson.dumps(asked).decode()}, "variables": {variables}}}'.encode()
            answer = await world.root.send("POST", "/graphql", body, headers={"content-type": "application/json"})
            told = answer.json()
            status = told["errors"][0]["extensions"]["status"] if "errors" in told else told["status"]
            assert 400 <= status < 500, (depth, told)


# -- the page --


async def test_the_explorer_loads_nothing_and_runs_nothing_but_itself(world: World) -> None:
    answer = await world.stranger().send("GET", "/graphql", headers={"accept": "text/html"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    directives = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    for name in ("default-src", "frame-ancestors", "base-uri", "form-action"):
        assert directives[name] == "'none'"
    assert directives["connect-src"] == "'self'"
    for element in ("script", "style"):
        [content] = re.findall(rf"<{element}>(.*?)</{element}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives[f"{element}-src"] == f"'sha256-{digest}'"
    assert not re.search(
        r"https?://|\bon\w+=\"|style=\"|src=|@import|localStorage|sessionStorage|innerHTML|eval\(", answer.text
    )
    head = await world.stranger().send("HEAD", "/graphql")
    assert (head.status_code, head.content) == (200, b"")
