"""Policy versions: to be looked at, and made active by name; the one that was left stays refused."""

from typing import Any

import pytest

from actions.authorization.source import PolicySource, read_folder
from actions.errors import Conflict
from tests.stored_policies import planted
from tests.world.stage import POLICIES
from tests.world.world import World


def altered(comment: str) -> PolicySource:
    files = dict(read_folder(POLICIES).files)
    name = "user.csv"
    files[name] = files[name] + f"\n# {comment}\n".encode()
    return PolicySource(files)


async def test_the_active_version_is_the_one_of_the_folder(world: World) -> None:
    digest = read_folder(POLICIES).digest
    (version,) = (await world.root.get("/admin/policies"))["items"]
    assert version == await world.root.get(f"/admin/policies/{digest}")
    assert (version["id"], version["active"], version["refused"]) == (digest, True, False)
    assert version["activated_by"] == "system:policy"
    assert version["reason"] == "the policy of the tests"


async def test_a_version_that_does_not_exist_is_missing(world: World) -> None:
    for id in ("0" * 64, "nonsense", "A" * 64, "0" * 63):
        await world.root.get(f"/admin/policies/{id}", expect=404)
        await world.root.post(f"/admin/policies/{id}/activate", {"reason": "x"}, expect=404)


async def test_versions_are_searched_like_anything_else(world: World) -> None:
    second = altered("second")
    await world.app.publish(second, "once more")
    found = await world.root.get("/admin/policies", filter={"active": {"equals": True}})
    assert [item["id"] for item in found["items"]] == [second.digest]
    assert found["items"][0]["reason"] == "once more"
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await world.root.get("/admin/policies", order="id:desc", limit=1, **cursor)
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == sorted({second.digest, read_folder(POLICIES).digest}, reverse=True)


async def test_a_rollback_leaves_a_version_refused_until_it_is_named(world: World) -> None:
    first, second = read_folder(POLICIES).digest, altered("second")
    await world.app.publish(second, "the folder changed")
    async with world.app.working(housekeeper=False):
        back = await world.root.post(f"/admin/policies/{first}/activate", {"reason": "it was wrong"})
        assert (back["active"], back["reason"]) == (True, "it was wrong")
        assert back["activated_by"] == f"user:{world.id('root')}"
        left = await world.root.get(f"/admin/policies/{second.digest}")
        assert (left["active"], left["refused"]) == (False, True)
        with pytest.raises(Conflict, match="only activating it by name brings it back"):
            await world.app.publish(second, "the folder still holds it")
        again = await world.root.post(f"/admin/policies/{second.digest}/activate", {"reason": "it was right"})
        assert (again["active"], again["refused"]) == (True, False)
    assert [(change["old"], change["new"]) for change in await changes(world)] == [
        (second.digest, first),
        (first, second.digest),
    ]


async def test_a_version_that_this_program_cannot_use_is_not_activated(world: World) -> None:
    first, unusable = read_folder(POLICIES).digest, await planted(world)
    path = f"/admin/policies/{unusable}/activate"
    refusal = await world.root.post(path, {"reason": "it was good once"}, expect=409)
    assert refusal["code"] == "policy-activate-unusable-policy"
    assert "user.csv" in refusal["detail"]
    assert "spaceship" in refusal["detail"]
    await world.mia.post(path, {"reason": "whoever may not activate learns nothing"}, expect=403)
    versions = {item["id"]: item for item in (await world.root.get("/admin/policies"))["items"]}
    assert (versions[first]["active"], versions[first]["refused"]) == (True, False)
    assert (versions[unusable]["active"], versions[unusable]["activated_at"]) == (False, None)
    assert await changes(world) == []


async def changes(world: World) -> list[dict[str, str]]:
    records = await world.records("admin_activate_policy")
    return [change for record in records for change in record["changes"] if change["field"] == "active"]


async def test_an_activation_has_a_reason(world: World) -> None:
    path = f"/admin/policies/{read_folder(POLICIES).digest}/activate"
    for body in ({}, {"reason": ""}, {"reason": "   "}, {"reason": None}, {"reason": "x" * 513}):
        await world.root.post(path, body, expect=422)


async def test_nobody_but_a_superadmin_activates_and_nobody_publishes(world: World) -> None:
    path = f"/admin/policies/{read_folder(POLICIES).digest}/activate"
    for who in ("dana", "olga", "mia"):
        await world.as_(who).post(path, {"reason": "x"}, expect=403)
    await world.olga.get("/admin/policies")
    await world.root.post("/admin/policies/publish", {"digest": "x", "files": {}, "reason": "x"}, expect=405)
