"""Whatever a caller sends is answered with a success or with a problem of the caller's, never with a 5xx."""

import asyncio
import json
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.entities import ALL_SPECS
from actions.standard import Spec
from actions.vocabulary import PURGE, SEARCH
from tests.entities.test_domains import domain
from tests.entities.test_users import person
from tests.world.world import World

SERVED = [spec for spec in ALL_SPECS if not spec.internal]
TEXTS = (
    "",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "%00",
    "'; DROP TABLE users; --",
    "\\",
    "﷽" * 200,
    "x" * 2_000,
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999-14:00",
    "-infinity",
    "+275760-09-13",
    "00000000-0000-0000-0000-000000000000",
    "me",
    "..",
)
NUMBERS = (0, -1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**200, 1.5, 1e308, float("nan"), float("inf"))
plain = st.one_of(st.sampled_from([None, True, False]), st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.text())
values = st.recursive(
    plain, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(plain.map(str), inner, max_size=3))
)
requests = st.sampled_from(SERVED).flatmap(
    lambda spec: st.tuples(
        st.just(spec),
        st.sampled_from([None, *spec.input.model_fields]).flatmap(
            lambda name: st.dictionaries(st.just(name or "x"), values, max_size=1)
        ),
        st.one_of(st.none(), st.sampled_from(TEXTS[:-5]), st.text(max_size=8)),
        st.booleans(),
    )
)


def complaint(answer: httpx.Response) -> bool:
    return 400 <= answer.status_code < 500 and answer.headers["content-type"] == "application/problem+json"


async def test_no_input_of_any_action_is_an_error_of_ours(world: World) -> None:
    loop = asyncio.get_running_loop()
    key = (await world.mia.get("/users/me/keypairs"))["items"][0]["id"]
    known = {"domain": "research", "project": str(world.places.lab), "user": str(world.id("mia")), "id": key}

    async def send(spec: Spec, body: dict[str, Any], id: str | None, by_query: bool) -> httpx.Response:
        path = spec.path
        for name, ref in known.items():
            strange = id is not None and (name == "id" or "{id}" not in spec.path)
            path = path.replace(f"{{{name}}}", quote(id or "", safe="", errors="replace") if strange else ref)
        params = {"purge": "1"} if spec.operation == PURGE else {}
        if by_query and spec.operation == SEARCH:
            texts = {
                name: value if isinstance(value, str) else json.dumps(value, default=str)
                for name, value in body.items()
            }
            query = "&".join(
                f"{quote(n, errors='replace')}={quote(t[:900], errors='replace')}" for n, t in texts.items()
            )
            return await world.root.send("GET", f"{path}?{query}")
        given = json.dumps(body).encode() if not spec.operation.reads or body else None
        return await world.root.send(spec.method, path, given, params)

    @settings(deadline=None, max_examples=150, derandomize=True, database=None)
    @given(requests)
    def it_is_answered(request: tuple[Spec, dict[str, Any], str | None, bool]) -> None:
        answer = asyncio.run_coroutine_threadsafe(send(*request), loop).result(20)
        assert answer.status_code in (200, 201) or complaint(answer), f"{answer.status_code} {answer.text[:500]}"

    await asyncio.to_thread(it_is_answered)


async def test_no_filter_and_no_cursor_is_an_error_of_ours(world: World) -> None:
    loop = asyncio.get_running_loop()
    searches = [spec for spec in SERVED if spec.operation == SEARCH and spec.scope_type == "admin"]
    fields = st.sampled_from(searches).flatmap(
        lambda spec: st.tuples(
            st.just(spec.path),
            st.sampled_from(sorted(_filter_of(spec).model_fields)),
            st.sampled_from(["equals", "not_equals", "in", "i_in", "contains", "i_ends_with", "before", "less_than"]),
            values,
        )
    )

    @settings(deadline=None, max_examples=80, derandomize=True, database=None)
    @given(fields, st.booleans())
    def it_is_answered(asked: tuple[str, str, str, Any], nested: bool) -> None:
        path, field, operator, value = asked
        filter = {field: {operator: value}}
        body = json.dumps({"filter": {"NOT": [{"OR": [filter]}]} if nested else filter}).encode()
        answer = asyncio.run_coroutine_threadsafe(world.root.send("GET", path, body), loop).result(20)
        assert answer.status_code == 200 or complaint(answer), f"{answer.status_code} {answer.text[:500]}"

    @settings(deadline=None, max_examples=40, derandomize=True, database=None)
    @given(st.lists(plain, max_size=3), st.sampled_from(["created_at:asc,id:asc", "name:desc,id:asc", "", None]))
    def a_forged_cursor_is_answered(marks: list[Any], order: str | None) -> None:
        cursor = urlsafe_b64encode(json.dumps([order, *marks]).encode()).decode()
        params = {"cursor": cursor, **({"order": "name:desc"} if order and order.startswith("name") else {})}
        asking = world.root.send("GET", "/admin/domains", json.dumps(params).encode())
        answer = asyncio.run_coroutine_threadsafe(asking, loop).result(20)
        assert answer.status_code == 200 or complaint(answer), f"{answer.status_code} {answer.text[:500]}"

    await asyncio.to_thread(it_is_answered)
    await asyncio.to_thread(a_forged_cursor_is_answered)


def _filter_of(spec: Spec) -> Any:
    return next(kind for kind in spec.input.model_fields["filter"].annotation.__args__ if kind is not type(None))


async def test_no_text_holds_a_nul(world: World) -> None:
    nul, root = "a\0b", world.root
    user, made = f"/admin/users/{world.id('mia')}", f"/admin/domains/{world.places.elsewhere}"
    for method, path, body, pointer in (
        *(
            ("POST", "/domains/research/users", person(**{n: nul}), f"/{n}")
            for n in ("username", "full_name", "description")
        ),
        ("POST", "/domains/research/users", person(email="a\0@example.org"), "/email"),
        *(("PATCH", user, {n: nul}, f"/{n}") for n in ("username", "full_name", "description")),
        ("PATCH", user, {"allowed_client_ip": [nul]}, "/allowed_client_ip/0"),
        ("POST", "/admin/domains", domain(name=nul), "/name"),
        *(("PATCH", made, {n: nul}, f"/{n}") for n in ("description", "integration_id")),
        *(("PATCH", made, {n: [nul]}, f"/{n}/0") for n in ("allowed_vfolder_hosts", "allowed_docker_registries")),
        ("POST", "/admin/role-bindings", {"user_id": str(world.id("mia")), "role": nul}, "/role"),
        ("GET", "/admin/domains", {"filter": {"name": {"equals": nul}}}, "/filter/name/equals"),
        ("GET", "/admin/domains", {"filter": {"name": {"in": ["a", nul]}}}, "/filter/name/in/1"),
    ):
        answer = await root.send(method, path, body)
        assert answer.status_code == 422, f"{path} {answer.text}"
        assert answer.json()["errors"][0]["pointer"] == pointer
    slots = await root.send("PATCH", made, {"total_resource_slots": {nul: 1}})
    assert slots.status_code == 422


_UNPRINTABLE = ("%00", "%0a", "a%00b", "%0a%0d", "a%7f")


async def test_no_path_is_an_error_of_ours(world: World) -> None:
    odd = (*_UNPRINTABLE, "%ff", "%C3%A9", "%F0%9F%98%80", "%2e%2e", "%2F", "%25", "x" * 300, "*", "{id}")
    for ref in odd:
        for path in (
            f"/domains/{ref}",
            f"/domains/{ref}/users",
            f"/projects/{ref}/users",
            f"/users/{ref}",
            f"/admin/users/{ref}",
            f"/admin/policies/{ref}",
            f"/{ref}",
        ):
            answer = await world.root.send("GET", path)
            assert complaint(answer), path
            assert answer.status_code == (400 if ref in _UNPRINTABLE else 404), f"{path} {answer.text}"
    assert (await world.root.send("GET", f"/users/{uuid4()}")).status_code == 404
