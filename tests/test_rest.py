"""REST: what every answer has, and what every request must keep to, whatever it is about."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import structlog.testing

from actions.entities import ALL_SPECS
from server.cli.signing_client import SignatureAuth
from server.http.middleware.limits import MAX_HEADERS, MAX_TARGET
from tests.world.stage import Stage
from tests.world.world import World, new_world

UNHEARD_OF = str(uuid4())


def is_problem(answer: httpx.Response, status: int, code: str) -> bool:
    """The one format of every answer that is not a success (RFC 9457)."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    for name in ("type", "title", "detail", "instance", "request_id", "code"):
        assert isinstance(told[name], str), name
    assert told["status"] == status
    assert told["request_id"] == answer.headers["x-request-id"]
    assert told["type"] == f"urn:chamberlain:problem:{told['type'].rpartition(':')[2]}"
    assert told["code"].endswith("-" + told["type"].rpartition(":")[2])
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", told["code"])
    assert told["code"] == code
    return True


async def test_every_error_has_the_one_format(world: World) -> None:
    root, users = world.root, "/domains/research/users"
    a_user = f"{users}/{world.id('mia')}"
    for method, path, body, status, code in (
        ("POST", users, b"{", 400, "user-create-malformed-json"),
        ("POST", users, b"\xff", 400, "user-create-malformed-json"),
        ("DELETE", f"{a_user}?purge=2", None, 400, "user-purge-malformed-purge"),
        ("GET", f"{users}?limit=1&limit=2", None, 400, "user-search-repeated-parameter"),
        ("GET", f"{users}?filter={{", None, 400, "user-search-malformed-filter"),
        ("GET", f"{users}/{UNHEARD_OF}", None, 404, "user-get-not-found"),
        ("GET", "/domains/unheard-of/users", None, 404, "user-search-not-found"),
        ("GET", "/nowhere", None, 404, "request-handle-not-found"),
        ("PUT", a_user, {}, 405, "request-handle-method-not-allowed"),
        ("DELETE", f"{a_user}?purge=1", None, 409, "user-purge-not-deleted"),
        ("PATCH", a_user, {"email": "x"}, 422, "user-update-invalid"),
        ("PATCH", a_user, {"sudo_session_enabled": "yes"}, 422, "user-update-invalid"),
        ("PATCH", a_user, [], 422, "user-update-invalid"),
        ("PATCH", f"{a_user}?dry=1", {}, 422, "user-update-invalid"),
    ):
        assert is_problem(await root.send(method, path, body), status, code)
    assert is_problem(await world.mia.send("GET", "/admin/users"), 403, "user-search-forbidden")
    stranger = await world.stranger().send("GET", users)
    assert is_problem(stranger, 401, "authentication-verify-missing-credentials")
    assert stranger.headers["www-authenticate"] == "Bearer, BackendAI signMethod=HMAC-SHA256"


async def test_a_wrong_value_is_told_by_its_place(world: World) -> None:
    given = {"username": "Not A Name", "email": "x", "allowed_client_ip": ["10.0.0.1", "nonsense"], "extra": 1}
    problem = await world.root.post("/domains/research/users", given, expect=422)
    assert {fault["pointer"] for fault in problem["errors"]} == {
        "/username",
        "/email",
        "/password",
        "/allowed_client_ip/1",
        "/extra",
    }
    assert "Not A Name" not in str(problem)


async def test_no_slip_of_purge_deletes_instead(world: World) -> None:
    path = f"/domains/research/users/{world.id('mia')}"
    before = await world.root.get(path)
    for slip in (
        "purge=",
        "purge=0",
        "purge=2",
        "purge=true",
        "purge=01",
        "purge=1&purge=1",
        "purge=%31%20",
        "Purge=1",
    ):
        answer = await world.root.send("DELETE", f"{path}?{slip}")
        assert answer.status_code in (400, 422), slip
    for method in ("PATCH", "GET"):
        assert (await world.root.send(method, f"{path}?purge=1")).status_code == 422
    assert await world.root.get(path) == before


async def test_a_method_that_is_not_served_is_told_which_are(world: World) -> None:
    for path, allowed in (
        ("/domains/research/users", "GET, HEAD, POST"),
        (f"/domains/research/users/{world.id('mia')}", "DELETE, GET, HEAD, PATCH"),
        (f"/domains/research/users/{world.id('mia')}/restore", "POST"),
        ("/auth", "GET, HEAD, POST"),
        ("/auth/whoami", "GET, HEAD"),
    ):
        for method in ("PUT", "OPTIONS", "TRACE", "BREW"):
            answer = await world.root.send(method, path)
            assert answer.status_code == 405, f"{method} {path}"
            assert sorted(answer.headers["allow"].split(", ")) == allowed.split(", ")


async def test_a_body_is_json_or_it_is_refused_unread(world: World) -> None:
    path, body = "/domains/research/users", b'{"username": "x"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", "text/json"):
        answer = await world.root.send("POST", path, body, headers={"content-type": kind})
        assert is_problem(answer, 415, "user-create-unsupported-media-type")
    for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
        answer = await world.root.send("POST", path, body, headers={"content-type": kind})
        assert is_problem(answer, 422, "user-create-invalid")


async def test_a_search_is_asked_in_the_query_or_in_a_body_and_not_in_both(world: World) -> None:
    wanted: dict[str, Any] = {"filter": {"username": {"equals": "mia"}}, "limit": 1}
    by_query = await world.root.get("/domains/research/users", **wanted)
    by_body = await world.root.ask("GET", "/domains/research/users", wanted)
    assert by_query == by_body
    assert [item["username"] for item in by_body["items"]] == ["mia"]
    both = await world.root.send("GET", "/domains/research/users?limit=1", wanted)
    assert is_problem(both, 400, "user-search-two-inputs")


async def test_a_head_is_a_get_without_its_body(world: World) -> None:
    for path in ("/domains/research/users", "/auth/whoami", "/livez", "/domains/unheard-of", "/nowhere"):
        got, head = await world.root.send("GET", path), await world.root.send("HEAD", path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert abs(int(head.headers["content-length"]) - len(got.content)) < 8  # request ids differ, not in length


async def test_a_path_has_one_spelling(world: World) -> None:
    for path in (
        "/domains/research/users/",
        "//domains/research",
        "/Domains/research",
        "/domains/research/",
        "/livez/",
    ):
        assert (await world.root.send("GET", path)).status_code == 404, path


async def test_what_is_created_says_where_it_is(world: World) -> None:
    for path, body in (
        ("/admin/domains", {"name": "fresh"}),
        ("/users/me/keypairs", {}),
        (f"/projects/{world.places.lab}/role-bindings", {"user_id": str(world.id("dana")), "role": "project_member"}),
    ):
        answer = await world.root.send("POST", path, body)
        assert answer.status_code == 201, answer.text
        assert answer.headers["location"] == f"{path}/{answer.json()['id']}"
        assert (await world.root.get(answer.headers["location"]))["id"] == answer.json()["id"]


async def test_me_is_the_caller_and_nobody_else(world: World) -> None:
    for name in ("mia", "root"):
        assert (await world.as_(name).get("/users/me"))["id"] == str(world.id(name))
    await world.root.get("/users/ME", expect=404)
    await world.root.get("/domains/research/users/me", expect=404)
    await world.root.get("/projects/me/users", expect=404)


async def test_no_answer_is_for_keeping(world: World) -> None:
    for path in (
        "/auth/whoami",
        "/domains/research/users",
        "/admin/users?limit=0",
        "/nowhere",
        "/livez",
        "/readyz",
        "/",
    ):
        answer = await world.root.send("GET", path)
        assert answer.headers.get("cache-control") == "no-store", path


async def test_a_request_id_is_taken_over_if_it_is_well_formed(world: World) -> None:
    for header in ("X-Request-ID", "X-BackendAI-RequestID"):
        answer = await world.root.send("GET", "/auth/whoami", headers={header: "abc-1.2:3_Z"})
        assert answer.headers["x-request-id"] == "abc-1.2:3_Z"
    for bad in ("", "a b", "a" * 65, "a;b", "a\tb", '"quoted"'):
        for path, status in (("/auth/whoami", 200), ("/nowhere", 404)):
            answer = await world.root.send("GET", path, headers={"X-Request-ID": bad})
            assert answer.status_code == status
            assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"]), bad
    recorded = [record["request"]["id"] for record in await world.records("user_whoami_user")]
    assert recorded.count("abc-1.2:3_Z") == 2


async def test_what_is_too_large_is_refused_before_it_is_kept(stage: Stage) -> None:
    async with new_world(stage, max_body=2048) as world:
        root, users = world.root, "/domains/research/users"
        at_most = b'{"username":"' + b"x" * (2048 - 15) + b'"}'
        assert len(at_most) == 2048
        assert is_problem(await root.send("POST", users, at_most), 422, "user-create-invalid")
        answer = await root.send("POST", users, at_most + b" ")
        assert is_problem(answer, 413, "request-handle-body-too-large")
        target = await root.send("GET", f"{users}?cursor={'x' * MAX_TARGET}")
        assert is_problem(target, 414, "request-handle-target-too-long")
        headers = await root.send("GET", users, headers={"X-Long": "x" * MAX_HEADERS})
        assert is_problem(headers, 431, "request-handle-headers-too-large")


async def test_a_body_of_undeclared_length_is_held_to_the_limit_too(stage: Stage) -> None:
    async with new_world(stage, max_body=2048) as world:
        sent = 0

        async def endless() -> dict[str, object]:
            nonlocal sent
            sent += 1024
            assert sent < 64 * 1024, "it is read on and on"
            return {"type": "http.request", "body": b" " * 1024, "more_body": True}

        request = httpx.Request("POST", "http://chamberlain.test/domains/research/users")
        signed = next(world.root._auth.auth_flow(request))  # type: ignore[union-attr]
        scope = {
            "type": "http",
            "method": "POST",
            "path": request.url.path,
            "raw_path": request.url.raw_path,
            "query_string": b"",
            "headers": [
                *((name.lower(), value) for name, value in signed.headers.raw if name.lower() != b"content-length"),
                (b"transfer-encoding", b"chunked"),
            ],
            "client": ("127.0.0.1", 1),
            "http_version": "1.1",
            "scheme": "http",
            "server": ("chamberlain.test", 80),
            "root_path": "",
        }
        answers: list[dict[str, object]] = []

        async def send(message: dict[str, object]) -> None:
            answers.append(message)

        await world.asgi(scope, endless, send)  # type: ignore[arg-type]
        assert answers[0]["status"] == 413
        assert sent <= 4 * 1024


async def test_no_internal_action_has_a_route(world: World) -> None:
    for spec in ALL_SPECS:
        if spec.internal:
            answer = await world.root.send(spec.method, spec.path, {})
            assert answer.status_code in (404, 405), spec.name


async def test_a_value_of_another_type_is_no_value(world: World) -> None:
    (mine,) = (await world.mia.get("/users/me/keypairs"))["items"]
    for number in ("true", '"5"', "5.0", "5.5", "null", "1e400", "9" * 5000):
        body = f'{{"rate_limit": {number}}}'.encode()
        answer = await world.root.send("PATCH", f"/admin/keypairs/{mine['id']}", body)
        assert answer.status_code in (400, 422), answer.text


async def test_a_slash_that_is_written_as_none_divides_no_path(world: World) -> None:
    await world.root.get("/domains/default/users")
    for path in ("/domains/default%2Fusers", "/domains/default%2fusers", "/users%2Fme", "/admin%2Fusers"):
        assert is_problem(await world.root.send("GET", path), 404, "request-handle-not-found")


async def test_a_client_that_hangs_up_is_no_crash(world: World) -> None:
    """Its body ends in the middle: nothing is done, nobody is answered, and the log shows no error."""
    path, root = f"/domains/research/users/{world.id('mia')}", world.personas["root"]
    meant = httpx.Request("PATCH", f"http://chamberlain.test{path}", json={"description": "cut off"})
    signed = next(
        SignatureAuth(root.access_key, root.secret_key, sign_body=True, now=lambda: datetime.now(UTC)).auth_flow(meant)
    )
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "PATCH",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower(), value) for name, value in signed.headers.raw],
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "scheme": "http",
        "server": ("chamberlain.test", 80),
        "root_path": "",
    }
    arriving = iter(({"type": "http.request", "body": signed.content[:5], "more_body": True},))
    answers: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return next(arriving, {"type": "http.disconnect"})

    async def send(message: dict[str, object]) -> None:
        answers.append(message)

    with structlog.testing.capture_logs() as lines:
        await world.asgi(scope, receive, send)  # type: ignore[arg-type]
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []
    assert answers == []
    assert (await world.root.get(path))["version"] == 1
