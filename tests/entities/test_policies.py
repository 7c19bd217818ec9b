"""Policy versions: looked at, stored by hand, made active by name, gone back from; what a rollback left is refused."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from actions.authorization.source import PolicySource, read_folder
from actions.entities.policy import ROLLBACK
from actions.errors import Conflict
from actions.processor import Given
from server.repositories.policies import digest_before
from tests.laws.support import action, catalogue, persona, pipeline
from tests.stored_policies import UNUSABLE, planted, shipped_with
from tests.world.stage import POLICIES
from tests.world.world import World

SHIPPED = read_folder(POLICIES)


def altered(comment: str) -> PolicySource:
    files = dict(read_folder(POLICIES).files)
    name = "user.csv"
    files[name] = files[name] + f"\n# {comment}\n".encode()
    return PolicySource(files)


def texts(source: PolicySource) -> dict[str, str]:
    return {name: content.decode() for name, content in source.files.items()}


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
        back = await world.root.post("/admin/policies/rollback", {"reason": "it was wrong"})
        assert (back["id"], back["active"], back["reason"]) == (first, True, "it was wrong")
        assert back["activated_by"] == f"user:{world.id('root')}"
        left = await world.root.get(f"/admin/policies/{second.digest}")
        assert (left["active"], left["refused"]) == (False, True)
        with pytest.raises(Conflict, match="only activating it by name brings it back"):
            await world.app.publish(second, "the folder still holds it", first)
        again = await world.root.post(f"/admin/policies/{second.digest}/activate", {"reason": "it was right"})
        assert (again["active"], again["refused"]) == (True, False)
        assert not (await world.root.get(f"/admin/policies/{first}"))["refused"], "an activation judges nothing"
    assert [(change["old"], change["new"]) for change in await changes(world, "rollback")] == [(second.digest, first)]
    assert [(change["old"], change["new"]) for change in await changes(world)] == [(first, second.digest)]


WAYS_BACK = (
    ("a", "", None, "nothing was before the first"),
    ("ab", "", "a", "the one before"),
    ("abc", "b", "a", "past what is refused"),
    ("ab", "a", None, "all is refused"),
    ("abcB", "c", "a", "a second rollback goes on back, and not to where it came from"),
    ("abcA", "c", None, "what a rollback passed over lies ahead of it"),
    ("abAc", "b", "a", "a new version after a rollback leads to where that went"),
    ("abAb", "", "a", "what was activated again has its place anew"),
    ("aba", "", "b", "so has a version that the folder brought back"),
    ("abcb", "", "c", "and it leads to what it replaced"),
)
"""Histories: a letter for each activation of a version, the oldest first; a capital for going back to it. Then what is
refused, and where a rollback leads."""


async def test_a_rollback_leads_to_what_was_active_before(world: World) -> None:
    digests = {name: await planted(world, shipped_with(f"# {name}")) for name in "abc"}
    for history, refused, leads_to, law in WAYS_BACK:
        await world.sql("DELETE FROM policy_activation")
        await world.sql("UPDATE policy_version SET refused = digest = ANY($1)", [digests[name] for name in refused])
        for minute, name in enumerate(history):
            await world.sql(
                "INSERT INTO policy_activation (id, digest, at, by, reason, kind) "
                "VALUES ($1, $2, now() + make_interval(mins => $3), 'system:policy', 'planted', $4)",
                uuid4(),
                digests[name.lower()],
                minute,
                "rolled_back" if name.isupper() else "published",
            )
        expected = digests[leads_to] if leads_to else None
        assert await digest_before(world.app.database) == expected, law


async def test_there_may_be_nothing_to_go_back_to(world: World) -> None:
    refusal = await world.root.post("/admin/policies/rollback", {"reason": "x"}, expect=409)
    assert refusal["code"] == "policy-rollback-nothing-before"
    for body in ({}, {"reason": " "}, {"reason": "x", "to": "latest"}, {"reason": "x", "to": None}):
        await world.root.post("/admin/policies/rollback", body, expect=422)


async def test_a_rollback_can_name_where_it_goes_and_goes_back_alone(world: World) -> None:
    second, third = altered("second"), altered("third")
    await world.app.publish(second, "the folder changed")
    await world.app.publish(third, "the folder changed")
    never = await planted(world, shipped_with("# never active"))

    async def back(to: str, expect: int = 200) -> dict[str, Any]:
        told: dict[str, Any] = await world.root.post(
            "/admin/policies/rollback", {"reason": "x", "to": to}, expect=expect
        )
        return told

    assert (await back("0" * 64, 422))["code"] == "policy-rollback-unknown-version"
    assert (await back(never, 409))["code"] == "policy-rollback-not-before"
    assert (await back(SHIPPED.digest))["active"]
    assert (await back(second.digest, 409))["code"] == "policy-rollback-not-before"
    versions = {item["id"]: item["refused"] for item in (await world.root.get("/admin/policies"))["items"]}
    assert {digest for digest, refused in versions.items() if refused} == {third.digest}


async def test_a_rollback_that_is_overtaken_changes_nothing(world: World) -> None:
    """Between looking for the way back and going it, another version has become active."""
    second, third = altered("second"), altered("third")
    await world.app.publish(second, "the folder changed")
    [offer] = [offer for spec, offer in catalogue(world).items() if spec.operation == ROLLBACK]
    prepare = offer.prepare
    assert prepare is not None

    async def overtaken(given: Given[Any]) -> object:
        found = await prepare(given)
        await world.app.publish(third, "quicker")
        return found

    processor = pipeline(world, {offer.spec: replace(offer, prepare=overtaken)})
    with pytest.raises(Conflict, match="Another version has become active meanwhile"):
        await processor.execute(action(offer.spec, persona(world, "root"), given={"reason": "it was wrong"}))
    versions = {item["id"]: item for item in (await world.root.get("/admin/policies"))["items"]}
    assert versions[third.digest]["active"]
    assert not any(version["refused"] for version in versions.values())


async def test_a_policy_is_stored_by_hand_and_decides_nothing_until_it_is_named(world: World) -> None:
    new = altered("by hand")
    body = {"files": texts(new), "reason": "ready for Monday"}
    made = await world.root.post("/admin/policies", body, expect=201)
    by = f"user:{world.id('root')}"
    assert (made["id"], made["uploaded_by"], made["upload_reason"]) == (new.digest, by, "ready for Monday")
    assert (made["active"], made["refused"], made["activated_at"], made["signed_by"]) == (False, False, None, None)
    assert await world.root.post("/admin/policies", {**body, "reason": "again"}, expect=201) == made
    assert world.app.policy.current().digest == SHIPPED.digest
    kept = await world.olga.get(f"/admin/policies/{new.digest}/files")
    assert kept == {"id": new.digest, "files": texts(new), "signature": None}
    assert (await world.root.post(f"/admin/policies/{new.digest}/activate", {"reason": "Monday"}))["active"]
    (first, second) = await world.records("admin_create_policy")
    assert {change["field"]: change["new"] for change in first["changes"]} == {
        "files": sorted(texts(new)),
        "reason": "ready for Monday",
    }
    assert second["changes"] == []


async def test_what_could_not_go_live_is_not_stored(world: World) -> None:
    faulty = await world.root.post("/admin/policies", {"files": texts(UNUSABLE)}, expect=422)
    assert faulty["code"] == "policy-create-unusable-policy"
    assert [(fault["pointer"], "'spaceship'" in fault["message"]) for fault in faulty["errors"]] == [("/files", True)]
    for files in ({}, {"user.csv": "p, owner, user, user, get, allow\n"}, {"../user.csv": "x"}, {"user.csv": "\0"}):
        await world.root.post("/admin/policies", {"files": files}, expect=422)
    assert (await world.root.get("/admin/policies"))["total_count"] == 1
    for who in ("dana", "olga", "mia"):
        await world.as_(who).post("/admin/policies", {"files": texts(altered("x"))}, expect=403)
        await world.as_(who).post("/admin/policies/rollback", {"reason": "x"}, expect=403)


async def test_whoever_may_get_a_version_may_read_its_files_and_nobody_else(world: World) -> None:
    path = f"/admin/policies/{SHIPPED.digest}/files"
    assert (await world.olga.get(path))["files"] == texts(SHIPPED)
    for who in ("dana", "mia", "nobody"):
        await world.as_(who).get(path, expect=403)
        await world.as_(who).get("/admin/policies/history", expect=403)
    for id in ("0" * 64, "nonsense", "A" * 64):
        await world.olga.get(f"/admin/policies/{id}/files", expect=404)


async def test_the_history_tells_who_activated_what_when_how_and_why(world: World) -> None:
    second = altered("second")
    await world.app.publish(second, "the folder changed")
    await world.root.post("/admin/policies/rollback", {"reason": "it was wrong"})
    await world.root.post(f"/admin/policies/{second.digest}/activate", {"reason": "it was right"})
    root, system = f"user:{world.id('root')}", "system:policy"
    told = await world.olga.get("/admin/policies/history")
    assert [(e["version"], e["left"], e["kind"], e["by"], e["reason"]) for e in told["items"]] == [
        (second.digest, SHIPPED.digest, "activated", root, "it was right"),
        (SHIPPED.digest, second.digest, "rolled_back", root, "it was wrong"),
        (second.digest, SHIPPED.digest, "published", system, "the folder changed"),
        (SHIPPED.digest, None, "published", system, "the policy of the tests"),
    ]
    assert told["items"] == sorted(told["items"], key=lambda entry: entry["at"], reverse=True)
    assert (told["total_count"], told["offset"], told["limit"]) == (4, 0, 20)
    part = await world.olga.get("/admin/policies/history", offset=1, limit=2)
    assert (part["items"], part["total_count"]) == (told["items"][1:3], 4)
    ours = await world.olga.get("/admin/policies/history", version=second.digest, limit=1)
    assert (ours["items"], ours["total_count"]) == (told["items"][:1], 2)
    for wrong in ({"version": "latest"}, {"limit": 101}, {"limit": 0}, {"offset": -1}, {"order": "at"}):
        await world.olga.get("/admin/policies/history", expect=422, **wrong)


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


async def changes(world: World, word: str = "activate") -> list[dict[str, str]]:
    records = await world.records(f"admin_{word}_policy")
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
