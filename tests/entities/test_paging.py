"""Order and pages: by offset and by cursor every row comes once, in the order asked for; totals are honest."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from actions.entities.keypair import KEYPAIRS
from tests.entities.reference import as_value
from tests.world.world import World

ORDERS = st.lists(st.sampled_from(KEYPAIRS.orders), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.tuples(*(st.tuples(st.just(name), st.sampled_from(["asc", "desc"])) for name in names))
)


async def keypairs(world: World, count: int) -> None:
    """Key pairs of mia, with so few different values that every order has ties."""
    chance, epoch = random.Random(3), datetime(2026, 3, 1, tzinfo=UTC)
    for place in range(count):
        await world.sql(
            "INSERT INTO keypair (id, user_id, domain_id, access_key, rate_limit, num_queries, created_at, updated_at,"
            " sealed_secret) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '')",
            uuid4(),
            world.id("mia"),
            world.places.research,
            f"{chance.choice('aBb_é')}{place}",
            chance.randrange(1, 4),
            chance.choice([0, 2**40]),
            *(epoch + timedelta(microseconds=chance.randrange(3)) for _ in range(2)),
        )


def in_order(rows: list[dict[str, Any]], orders: tuple[tuple[str, str], ...]) -> list[str]:
    """Ids, ordered one field after the other from the last; ties fall to the id."""
    rows = sorted(rows, key=lambda row: str(row["id"]))
    for name, direction in reversed(orders):
        rows = sorted(rows, key=lambda row: as_value(row[name]), reverse=direction == "desc")
    return [row["id"] for row in rows]


async def test_every_row_comes_once_in_the_order_asked_for_by_offset_and_by_cursor(world: World) -> None:
    await keypairs(world, 25)
    path = "/users/me/keypairs"
    rows = (await world.mia.get(path, limit=100))["items"]
    loop = asyncio.get_running_loop()

    async def turn_pages(order: str, limit: int, by_cursor: bool) -> list[str]:
        seen: list[str] = []
        more: dict[str, Any] = {}
        while True:
            page = await world.mia.get(path, order=order, limit=limit, **more)
            assert (page["total_count"], page["total_count_exact"]) == (len(rows), True)
            assert len(page["items"]) <= limit
            seen += [item["id"] for item in page["items"]]
            assert (page["next_cursor"] is None) == (len(seen) >= len(rows))
            if page["next_cursor"] is None:
                return seen
            more = {"cursor": page["next_cursor"]} if by_cursor else {"offset": len(seen)}

    @settings(deadline=None, max_examples=30, derandomize=True, database=None)
    @given(ORDERS, st.integers(5, 30), st.booleans())
    def every_row_comes_once(orders: tuple[tuple[str, str], ...], limit: int, by_cursor: bool) -> None:
        order = ",".join(f"{name}:{direction}" for name, direction in orders)
        turning = asyncio.run_coroutine_threadsafe(turn_pages(order, limit, by_cursor), loop)
        assert turning.result(20) == in_order(rows, orders)

    await asyncio.to_thread(every_row_comes_once)


async def test_a_cursor_is_not_led_astray_by_what_comes_and_goes(world: World) -> None:
    """Between two pages a row before the mark goes and one arrives: no other row is missed or seen twice."""
    await keypairs(world, 12)
    path, order = "/users/me/keypairs", "access_key"
    rows = in_order((await world.mia.get(path, limit=100))["items"], (("access_key", "asc"),))
    first = await world.mia.get(path, order=order, limit=5)
    await world.sql("DELETE FROM keypair WHERE id = $1", first["items"][1]["id"])
    await world.sql(
        "INSERT INTO keypair (id, user_id, domain_id, access_key, sealed_secret) VALUES ($1, $2, $3, '!', '')",
        uuid4(),
        world.id("mia"),
        world.places.research,
    )
    rest = await world.mia.get(path, order=order, limit=100, cursor=first["next_cursor"])
    assert [item["id"] for item in (*first["items"], *rest["items"])] == rows


async def test_a_cursor_holds_for_its_own_order_alone(world: World) -> None:
    await keypairs(world, 3)
    path = "/users/me/keypairs"
    cursor = (await world.mia.get(path, order="rate_limit", limit=1))["next_cursor"]
    for wrong in (
        {"order": "rate_limit:desc", "cursor": cursor},
        {"cursor": cursor},
        {"order": "rate_limit", "cursor": cursor[:-4]},
        {"cursor": "rubbish"},
        {"cursor": "é"},
        {"cursor": ""},
        {"cursor": "W10"},
        {"cursor": "MQ"},
        {"cursor": "eyJhIjoxfQ"},
    ):
        problem = await world.mia.get(path, **wrong, expect=400)
        assert problem["code"] == "keypair-search-invalid-cursor"
    problem = await world.mia.get(path, order="rate_limit", cursor=cursor, offset=1, expect=422)
    assert problem["errors"][0]["pointer"] == "/cursor"


BEYOND = [
    ("limit", 0, "/limit"),
    ("limit", 101, "/limit"),
    ("limit", "many", "/limit"),
    ("limit", 10**30, "/limit"),
    ("offset", -1, "/offset"),
    ("offset", 10_001, "/offset"),
    ("order", "secret_key", "/order"),
    ("order", "rate_limit:up", "/order"),
    ("order", "rate_limit,rate_limit:desc", "/order"),
    ("order", "rate_limit,", "/order"),
    ("order", "last_used", "/order"),
    ("order", "created_at,updated_at,access_key,rate_limit,num_queries", "/order"),
    ("order", "x" * 201, "/order"),
    ("total", "all", "/total"),
    ("cursor", "x" * 2001, "/cursor"),
    ("page", 2, "/page"),
]


async def test_the_limits_of_a_search_are_told_with_their_place(world: World) -> None:
    for name, value, pointer in BEYOND:
        problem = await world.mia.get("/users/me/keypairs", **{str(name): value}, expect=422)
        assert problem["errors"][0]["pointer"] == pointer, name


async def test_a_total_is_exact_to_ten_thousand_and_says_when_it_is_not(world: World) -> None:
    (there,) = await world.sql("SELECT count(*) FROM domain")
    fill = "INSERT INTO domain (id, name) SELECT gen_random_uuid(), 'd' || n FROM generate_series(1, $1::int) n"
    await world.sql(fill, 10_000 - there["count"])
    counted = await world.root.get("/admin/domains")
    assert (counted["total_count"], counted["total_count_exact"]) == (10_000, True)
    await world.sql(fill.replace("'d'", "'e'"), 50)
    bounded = await world.root.get("/admin/domains")
    assert (bounded["total_count"], bounded["total_count_exact"]) == (10_000, False)
    exact = await world.root.get("/admin/domains", total="exact")
    assert (exact["total_count"], exact["total_count_exact"]) == (10_050, True)
    deep = await world.root.get("/admin/domains", offset=10_000, limit=100)
    assert len(deep["items"]) == 50
    some = await world.root.get("/admin/domains", filter={"name": {"starts_with": "e"}})
    assert (some["total_count"], some["total_count_exact"]) == (51, True)
