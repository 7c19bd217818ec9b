"""Filters: whatever a caller writes finds what the reference finds, no more and no less."""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings

from actions.entities.domain import DomainFilter
from actions.entities.keypair import KeypairFilter
from actions.entities.user import UserFilter
from actions.query import Filter
from tests.entities.reference import LETTERS, filters, matches, shows_deleted
from tests.world.world import World

ROWS = 24
EVERYTHING = {"OR": [{"deleted": {"equals": True}}, {"deleted": {"equals": False}}]}
_EPOCH = datetime(2026, 3, 1, tzinfo=UTC)


async def populate(world: World) -> None:
    """Rows that lie close together: the same few values, nulls, a third of them deleted."""
    chance = random.Random(7)

    def text() -> str:
        return "".join(chance.choices(LETTERS, k=chance.randrange(4)))

    def moment() -> datetime:
        return _EPOCH + timedelta(days=chance.randrange(3), microseconds=chance.randrange(2))

    for place in range(ROWS):
        gone = _EPOCH if place % 3 == 0 else None
        domain = (uuid4(), f"d{place}", text(), chance.choice([None, text()]), moment(), gone)
        await world.sql(
            "INSERT INTO domain (id, name, description, integration_id, created_at, deleted_at)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            *domain,
        )
        user = (uuid4(), world.places.research, f"u{place}", f"{place}@example.org", text(), moment(), gone)
        status = chance.choice(["active", "inactive", "before-verification"])
        await world.sql(
            "INSERT INTO users (id, domain_id, username, email, full_name, created_at, deleted_at, status,"
            " need_password_change, password_hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '')",
            *user,
            status,
            chance.random() < 0.5,
        )
        keypair = (uuid4(), user[0], world.places.research, f"AK{place}", chance.randrange(1, 4), gone)
        await world.sql(
            "INSERT INTO keypair (id, user_id, domain_id, access_key, rate_limit, deleted_at, num_queries, last_used,"
            " sealed_secret) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '')",
            *keypair,
            chance.choice([0, 1, 2**40, 2**63 - 1]),
            chance.choice([None, moment()]),
        )


@pytest.mark.parametrize(
    ("path", "model"),
    [("/admin/domains", DomainFilter), ("/domains/research/users", UserFilter), ("/admin/keypairs", KeypairFilter)],
)
async def test_a_search_finds_what_its_filter_says(world: World, path: str, model: type[Filter]) -> None:
    await populate(world)
    page = await world.root.get(path, filter=EVERYTHING, limit=100)
    rows = page["items"]
    assert len(rows) > ROWS
    loop = asyncio.get_running_loop()

    async def search(filter: dict[str, Any]) -> dict[str, Any]:
        answer = await world.root.send("GET", path, {"filter": filter, "limit": 100})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    @settings(deadline=None, max_examples=80, derandomize=True, database=None)
    @given(filters(model, rows))
    def it_finds_the_same(filter: dict[str, Any]) -> None:
        found = asyncio.run_coroutine_threadsafe(search(filter), loop).result(20)
        seen = [row for row in rows if shows_deleted(filter, model.speaks_of_deleted) or not row["deleted"]]
        expected = {row["id"] for row in seen if matches(filter, row)}
        assert {item["id"] for item in found["items"]} == expected
        assert found["total_count"] == len(expected)

    await asyncio.to_thread(it_finds_the_same)


async def test_all_operators_of_one_field_count(world: World) -> None:
    """The original system applied the first and dropped the rest."""
    for name in ("alpha", "alps", "beta"):
        await world.root.post("/admin/domains", {"name": name}, expect=201)
    filter = {"name": {"starts_with": "al", "ends_with": "s", "contains": "p", "not_equals": "alas"}}
    found = await world.root.get("/admin/domains", filter=filter)
    assert [item["name"] for item in found["items"]] == ["alps"]
    assert (await world.root.get("/admin/domains", filter={"name": {**filter["name"], "equals": "alpha"}}))[
        "items"
    ] == []


async def test_a_value_that_is_not_there_satisfies_what_is_negative_and_nothing_else(world: World) -> None:
    for filter, found in (
        ({"integration_id": {"equals": "x"}}, 0),
        ({"integration_id": {"not_equals": "x"}}, 3),
        ({"integration_id": {"i_not_in": ["x"]}}, 3),
        ({"NOT": [{"integration_id": {"equals": "x"}}]}, 3),
        ({"NOT": [{"NOT": [{"integration_id": {"equals": "x"}}]}]}, 0),
    ):
        assert (await world.root.get("/admin/domains", filter=filter))["total_count"] == found


async def test_a_name_given_twice_is_an_error_and_drops_nothing_in_silence(world: World) -> None:
    doubled = '{"name": {"equals": "research"}, "name": {"equals": "elsewhere"}}'
    problem = await world.root.get("/admin/domains", filter=doubled, expect=400)
    assert problem["code"] == "domain-search-malformed-filter"


async def test_a_wildcard_of_sql_is_a_letter_like_any_other(world: World) -> None:
    for letter in ("%", "_", "\\", "a%", "_____"):
        for operator in ("contains", "starts_with", "ends_with", "equals", "i_contains"):
            found = await world.root.get("/admin/domains", filter={"name": {operator: letter}})
            assert found["total_count"] == 0


async def test_a_time_without_a_zone_is_utc_wherever_the_server_stands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        made = await world.root.get("/domains/research")
        naive = made["created_at"].removesuffix("Z")
        for filter in ({"equals": naive}, {"equals": f"{naive}+00:00"}):
            found = await world.root.get("/admin/domains", filter={"created_at": filter})
            assert [item["id"] for item in found["items"]] == [made["id"]]
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_the_first_and_the_last_moment_can_be_asked_for(world: World) -> None:
    for operand in ("0001-01-01T00:00:00", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"):
        assert (await world.root.get("/admin/domains", filter={"created_at": {"after": operand}}))["total_count"] == 3
    for operand in ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-00:00", "9999-12-31T23:59:59+14:00"):
        assert (await world.root.get("/admin/domains", filter={"created_at": {"before": operand}}))["total_count"] == 3


SENSELESS: list[object] = [
    {"name": "research"},
    {"name": {"equals": 1}},
    {"name": {"equals": ["research"]}},
    {"name": {"in": "research"}},
    {"name": {"contains": "x" * 513}},
    {"name": {"in": ["x"] * 101}},
    {"id": {"equals": "research"}},
    {"created_at": {"before": "yesterday"}},
    {"created_at": {"after": "0001-01-01T00:00:00+14:00"}},
    {"created_at": {"before": "9999-12-31T23:59:59-14:00"}},
    {"is_active": {"equals": "perhaps"}},
    {"AND": {"name": {"equals": "research"}}},
    {"and": []},
    {"name": {"like": "x"}},
    {"OR": [{}] * 21},
    [],
    "research",
    1,
]


async def test_a_filter_that_makes_no_sense_is_told_so(world: World) -> None:
    for filter in SENSELESS:
        answer = await world.root.send("GET", "/admin/domains", {"filter": filter})
        assert answer.status_code in (400, 422), answer.text
        if answer.status_code == 422:
            assert answer.json()["errors"][0]["pointer"].startswith("/filter"), filter


async def test_a_filter_is_neither_deep_nor_large(world: World) -> None:
    def nested(depth: int) -> dict[str, Any]:
        return {"NOT": [nested(depth - 1)]} if depth > 1 else {"name": {"equals": "research"}}

    await world.root.get("/admin/domains", filter=nested(5))
    problem = await world.root.get("/admin/domains", filter=nested(6), expect=422)
    assert problem["errors"][0]["message"] == "nested more than 5 deep"
    wide = [{"name": {"not_equals": "a", "not_contains": "b", "not_in": []}}] * 17
    problem = await world.root.get("/admin/domains", filter={"AND": wide}, expect=422)
    assert problem["errors"] == [{"pointer": "/filter", "message": "more than 50 conditions"}]
    await world.root.get("/admin/domains", filter={"AND": wide[:16]})
    bottomless: bytes = b'{"filter":' + b'{"NOT":[' * 20_000 + b"]}" * 20_000 + b"}"
    assert (await world.root.send("GET", "/admin/domains", bottomless)).status_code in (400, 422)
    assert (await world.root.send("GET", "/admin/domains", None, {"filter": "[" * 2000})).status_code == 400
