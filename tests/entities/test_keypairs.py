"""Key pairs: the standard suite, and what is a key pair's own: secrets, rotation, the default, the tally."""

import asyncio
import re
from typing import Any
from uuid import UUID

from actions.entities.keypair import SPECS
from actions.vocabulary import ScopeType
from server.services.keypairs import sealed_purpose
from tests.entities.standard import StandardSuite, Thing
from tests.world.stage import Persona
from tests.world.world import World


def signer(issued: dict[str, Any]) -> Persona:
    return Persona("signer", UUID(issued["user_id"]), issued["access_key"], issued["secret_key"])


class TestKeypair(StandardSuite):
    specs = SPECS
    rivals = ({"rate_limit": 17}, {"is_default": True})

    async def new(self, world: World, scope_type: ScopeType) -> Thing:
        issued: Thing = await world.root.post(f"/users/{world.id('mia')}/keypairs", {}, expect=201)
        del issued["secret_key"]
        return issued

    def change(self, scope_type: ScopeType) -> Thing:
        return {"is_default": True} if scope_type is ScopeType.USER else {"rate_limit": 42}

    def turn(self, place: int) -> Thing:
        return {"rate_limit": place + 1}


async def test_a_secret_is_shown_once_and_never_again(world: World) -> None:
    issued = await world.mia.post("/users/me/keypairs", {}, expect=201)
    secret = issued.pop("secret_key")
    assert re.fullmatch(r"AK[A-Z2-7]{18}", issued["access_key"])
    assert re.fullmatch(r"[A-Za-z0-9_-]{40}", secret)
    path = f"/users/me/keypairs/{issued['id']}"
    later = [
        await world.mia.get(path),
        await world.mia.get("/users/me/keypairs"),
        await world.mia.patch(path, {"is_default": True}),
        await world.mia.post(f"{path}/deactivate"),
        await world.mia.post(f"{path}/activate"),
        await world.mia.delete(path),
        await world.mia.delete(path, purge="1"),
    ]
    assert not [answer for answer in later if secret in str(answer) or "secret" in str(answer)]


async def test_a_secret_is_sealed_at_rest_and_opens_for_its_own_key_alone(world: World) -> None:
    issued = await world.mia.post("/users/me/keypairs", {}, expect=201)
    (row,) = await world.sql("SELECT * FROM keypair WHERE id = $1", issued["id"])
    sealed = row["sealed_secret"]
    assert issued["secret_key"].encode() not in sealed
    assert re.match(rb"k\d+:", sealed), "a sealed value names its key, so that keys can be rotated"
    assert world.app.ring.open(sealed, sealed_purpose(issued["access_key"])).decode() == issued["secret_key"]
    (other,) = await world.sql("SELECT access_key FROM keypair WHERE user_id = $1", world.id("dana"))
    await world.sql("UPDATE keypair SET sealed_secret = $1 WHERE access_key = $2", sealed, other["access_key"])
    moved = Persona("dana", world.id("dana"), other["access_key"], issued["secret_key"])
    answer = await world.as_(moved).send("GET", "/users/me")
    assert answer.status_code != 200, "a secret moved to another key pair opens nothing"


async def test_a_rotated_key_signs_with_its_new_secret_only(world: World) -> None:
    issued = await world.mia.post("/users/me/keypairs", {}, expect=201)
    old = world.as_(signer(issued))
    await old.get("/users/me")
    rotated = await world.mia.post(f"/users/me/keypairs/{issued['id']}/rotate")
    assert rotated["access_key"] == issued["access_key"]
    assert rotated["secret_key"] != issued["secret_key"]
    assert rotated["version"] == 2
    await old.get("/users/me", expect=401)
    await world.as_(signer(rotated)).get("/users/me")


async def test_a_key_pair_may_replace_its_own_secret(world: World) -> None:
    issued = await world.mia.post("/users/me/keypairs", {}, expect=201)
    rotated = await world.as_(signer(issued)).post(f"/users/me/keypairs/{issued['id']}/rotate")
    await world.as_(signer(rotated)).get("/users/me")


async def test_a_key_pair_signs_only_while_it_is_active(world: World) -> None:
    issued = await world.mia.post("/users/me/keypairs", {}, expect=201)
    using, path = world.as_(signer(issued)), f"/users/me/keypairs/{issued['id']}"
    await using.get("/users/me")
    assert not (await world.mia.post(f"{path}/deactivate"))["is_active"]
    await using.get("/users/me", expect=401)
    assert (await world.mia.post(f"{path}/activate"))["is_active"]
    await using.get("/users/me")
    await world.mia.delete(path)
    await using.get("/users/me", expect=401)
    await world.mia.delete(path, purge="1")
    await using.get("/users/me", expect=401)


async def test_one_key_pair_at_most_is_the_default(world: World) -> None:
    """Whether made so, changed so, or chosen in a crowd."""

    async def defaults() -> list[str]:
        page = await world.mia.get("/users/me/keypairs", filter={"is_default": {"equals": True}})
        return [item["id"] for item in page["items"]]

    first = await world.mia.post("/users/me/keypairs", {"is_default": True}, expect=201)
    assert await defaults() == [first["id"]]
    second = await world.mia.post("/users/me/keypairs", {"is_default": True}, expect=201)
    assert await defaults() == [second["id"]]
    assert (await world.mia.get(f"/users/me/keypairs/{first['id']}"))["version"] == 2
    await world.mia.patch(f"/users/me/keypairs/{first['id']}", {"is_default": True})
    assert await defaults() == [first["id"]]
    others = [await world.mia.post("/users/me/keypairs", {}, expect=201) for _ in range(3)]
    for _ in range(4):
        chosen = [first, second, *others]
        paths = [f"/users/me/keypairs/{one['id']}" for one in chosen]
        await asyncio.gather(*(world.mia.patch(path, {"is_default": True}) for path in paths))
        made = await asyncio.gather(
            *(world.mia.send("POST", "/users/me/keypairs", {"is_default": True}) for _ in range(2))
        )
        assert {answer.status_code for answer in made} == {201}
        assert len(await defaults()) == 1
    (last,) = await defaults()
    await world.mia.patch(f"/users/me/keypairs/{last}", {"is_default": False})
    assert await defaults() == []
    assert len((await world.root.get("/admin/keypairs", filter={"is_default": {"equals": True}}))["items"]) == 0


async def test_the_use_of_a_key_pair_is_tallied(world: World) -> None:
    issued = await world.mia.post("/users/me/keypairs", {}, expect=201)
    using, path = world.as_(signer(issued)), f"/users/me/keypairs/{issued['id']}"
    for _ in range(3):
        await using.get("/users/me")
    await using.get("/domains/elsewhere", expect=404)
    async with world.app.working(housekeeper=False) as sweeper:
        await sweeper.tally()
        told = await world.mia.get(path)
        assert told["num_queries"] == 4
        assert told["last_used"] > told["created_at"]
        assert told["version"] == 1, "being used is no change of it"
        await using.get("/users/me")
        await sweeper.tally()
    again = await world.mia.get(path)
    assert again["num_queries"] == 5
    assert again["last_used"] > told["last_used"]


async def test_a_key_pair_that_is_gone_spoils_no_tally(world: World) -> None:
    gone, stays = [await world.mia.post("/users/me/keypairs", {}, expect=201) for _ in range(2)]
    for issued in (gone, stays):
        await world.as_(signer(issued)).get("/users/me")
    path = f"/users/me/keypairs/{gone['id']}"
    await world.mia.delete(path)
    await world.mia.delete(path, purge="1")
    async with world.app.working(housekeeper=False) as sweeper:
        await sweeper.tally()
    assert (await world.mia.get(f"/users/me/keypairs/{stays['id']}"))["num_queries"] == 1


async def test_a_rate_limit_is_a_positive_number_that_the_owner_cannot_raise(world: World) -> None:
    (mine,) = (await world.mia.get("/users/me/keypairs"))["items"]
    assert mine["rate_limit"] == 30000
    await world.mia.patch(f"/users/me/keypairs/{mine['id']}", {"rate_limit": 1}, expect=422)
    path = f"/domains/research/keypairs/{mine['id']}"
    for wrong in (0, -1, 10_000_001, 2**70, "many", True, 1.5):
        await world.dana.patch(path, {"rate_limit": wrong}, expect=422)
    assert (await world.dana.patch(path, {"rate_limit": 10_000_000}))["rate_limit"] == 10_000_000
