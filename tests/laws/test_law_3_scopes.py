"""Law 3: scopes contain scopes. A role counts where it is bound and under it, until it ends, and nowhere else."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from uuid import UUID

import pytest
from argon2 import PasswordHasher

from actions.action import Address, RoleBinding
from actions.entities import ALL_SPECS
from actions.vocabulary import GET, PURGE, RESTORE, ScopeType
from server.repositories.directory import CachedDirectory
from tests.laws.support import Places, edited, plausible, request, snapshot
from tests.world.world import World


async def bind(world: World, path: str, user: UUID, role: str, **more: str) -> str:
    given = {"user_id": str(user), "role": role, **more}
    key: str = (await world.root.post(f"{path}/role-bindings", given, expect=201))["id"]
    return key


async def test_a_role_counts_in_the_scopes_under_its_own_and_in_no_sibling(world: World) -> None:
    """Dana runs research: so lab, and mia, and nothing of elsewhere."""
    annex = await world.project("annex", "elsewhere")
    for path in ("/domains/research/users", f"/projects/{world.places.lab}/users", f"/users/{world.id('mia')}"):
        await world.dana.get(path)
        await world.root.get(path)
    for path in ("/domains/elsewhere/users", f"/projects/{annex}/users", f"/users/{world.id('nobody')}"):
        await world.dana.get(path, expect=404)
        await world.root.get(path)
    await world.piotr.get(f"/projects/{world.places.lab}/role-bindings")
    await world.piotr.get("/domains/research/role-bindings", expect=403)  # not above its own
    await world.dana.patch(f"/projects/{world.places.lab}", {"description": "of research"})
    await world.dana.get(f"/projects/{annex}", expect=404)
    await world.dana.get(f"/domains/research/projects/{annex}", expect=404)
    await world.dana.get("/admin/users", expect=403)


async def test_a_project_role_counts_in_its_project_alone(world: World) -> None:
    annex = await world.project("annex")
    await world.piotr.get(f"/projects/{annex}/users", expect=404)
    await bind(world, f"/projects/{annex}", world.id("piotr"), "project_member")
    await world.piotr.get(f"/projects/{annex}/users")
    await world.piotr.get(f"/projects/{annex}/role-bindings", expect=403)  # an admin of lab, a member of annex


async def test_everyone_is_owner_of_itself_and_of_nobody_else(world: World) -> None:
    for name in world.personas:
        caller = world.as_(name)
        assert (await caller.get("/users/me"))["id"] == str(world.id(name))
        await caller.get(f"/users/{world.id(name)}/keypairs")
    for other in ("mia", "dana", "root"):
        for path in (f"/users/{world.id(other)}", f"/users/{world.id(other)}/keypairs"):
            await world.nobody.get(path, expect=404)
    await world.piotr.get(f"/users/{world.id('mia')}/keypairs", expect=404)
    await world.nobody.patch("/users/me", {"description": "mine"})
    await world.nobody.patch(f"/users/{world.id('mia')}", {"description": "not mine"}, expect=404)


async def test_me_is_the_caller_and_is_reserved(world: World) -> None:
    await world.mia.get("/users/me")
    for path in ("/domains/me", "/projects/me", "/domains/me/users"):
        await world.mia.get(path, expect=404)
    await world.root.post("/admin/domains", {"name": "me"}, expect=422)  # nothing could ever be asked of it


class Later:
    """A clock that the pipeline reads, ahead of the true one by as much as the test says."""

    ahead = timedelta()

    @classmethod
    def now(cls, zone: tzinfo) -> datetime:
        return datetime.now(zone) + cls.ahead


async def test_the_end_of_a_binding_is_compared_when_the_decision_falls(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No job ends a binding. Nothing is written, heard or forgotten when its time comes."""
    tia = await world.newcomer("tia")
    end = datetime.now(UTC) + timedelta(hours=1)
    await bind(world, "/domains/research", tia.id, "domain_admin", expires_at=end.isoformat())
    caller = world.as_(tia)
    monkeypatch.setattr("actions.processor.datetime", Later)
    await caller.get("/domains/research/users")
    before = await snapshot(world)
    monkeypatch.setattr(Later, "ahead", timedelta(hours=1))
    await caller.get("/domains/research/users", expect=403)
    assert (await world.records("domain_search_users"))[-1]["decision"]["roles"] == ["domain_member"]
    assert await snapshot(world) == before


async def test_an_explicit_deny_of_any_role_beats_every_allow(world: World) -> None:
    """The deny comes with a role that allows less, is held further up, and is written in another file."""
    source = edited(
        world,
        roles="suspended:\n  bindable: [admin, domain, project]\n  sentence: Is kept from looking at users.\n",
        domain="p, suspended, domain, user, search, deny",
    )
    await world.app.policy.use(source)
    await world.dana.get("/domains/research/users")
    rex = await world.newcomer("rex")
    await bind(world, "/admin", rex.id, "superadmin")  # nobody lifts such a role off themselves: not even root
    for path in ("/admin", "/domains/research"):
        for name in ("dana", "root"):
            key = await bind(world, path, world.id(name), "suspended")
            await world.as_(name).get("/domains/research/users", expect=403)
            told = (await world.records("domain_search_users"))[-1]["decision"]
            line = source.files["domain.csv"].decode().rstrip("\n").count("\n") + 1
            assert (told["allowed"], told["rule"]) == (False, f"domain.csv:{line}")
            assert "suspended" in told["roles"]
            await world.sql("DELETE FROM role_binding WHERE id = $1", key)  # root cannot lift its own
            world.app.directory.forget(f"bindings:{world.id(name)}")
            await world.as_(name).get("/domains/research/users")
    await bind(world, f"/projects/{world.places.lab}", world.id("dana"), "suspended")
    await world.dana.get("/domains/research/users")  # bound below, it does not count above


LIMIT = 16
"""Passwords that a worker hashes or keeps waiting at once."""


class Gate:
    """Holds up whoever hashes a password, until the test opens it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reached, self._open, hashing = threading.Event(), threading.Event(), PasswordHasher.hash

        def waits(hasher: PasswordHasher, password: str) -> str:
            self._reached.set()
            assert self._open.wait(10)
            return hashing(hasher, password)

        monkeypatch.setattr(PasswordHasher, "hash", waits)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 10)

    def open(self) -> None:
        self._open.set()


@pytest.mark.parametrize("way", ["the role is revoked", "the line is removed"])
async def test_what_was_decided_before_a_wait_is_decided_again_after(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A password takes its time to hash. Who loses the authority meanwhile has lost it."""
    held = (await world.root.get("/domains/research/role-bindings", filter={"role": {"equals": "domain_admin"}}))[
        "items"
    ]
    kept, gate = await snapshot(world), Gate(monkeypatch)
    path = f"/domains/research/users/{world.id('mia')}/reset_password"
    waiting = asyncio.create_task(world.dana.send("POST", path, {"password": "another long password"}))
    try:
        await gate.reached()
        if way == "the role is revoked":
            await world.root.delete(f"/admin/role-bindings/{held[0]['id']}")
        else:
            await world.app.policy.use(edited(world, without="p, domain_admin, domain, user, reset_password"))
    finally:
        gate.open()
    answer = await waiting
    assert answer.status_code == (404 if way == "the role is revoked" else 403), answer.text
    assert (await snapshot(world))["users"] == kept["users"]
    (record,) = await world.records("domain_reset_password_user")
    assert (record["result"], record["decision"]["allowed"]) == ("denied", False)


async def test_only_so_many_passwords_wait_to_be_hashed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes when the queue is full is told so at once, and to come back."""
    gate = Gate(monkeypatch)
    path, password = f"/domains/research/users/{world.id('mia')}/reset_password", {"password": "another long password"}
    asked = [asyncio.create_task(world.dana.send("POST", path, password)) for _ in range(LIMIT + 4)]
    try:
        await gate.reached()
        async with asyncio.timeout(10):
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            refused = await next(task for task in asked if task.done())
    finally:
        gate.open()
    assert (refused.status_code, refused.json()["code"]) == (503, "user-reset-password-too-many-passwords")
    assert int(refused.headers["retry-after"]) > 0
    answers = [await task for task in asked]
    assert sum(answer.status_code == 503 for answer in answers) == 4
    assert sum(answer.status_code == 200 for answer in answers) >= 1
    await world.dana.post(path, password)  # the queue is free again


async def test_in_a_deleted_domain_nothing_is_decided(world: World) -> None:
    """Not even for root; only from above can the domain itself be got, restored and purged."""
    annex, path = world.places.lab, f"/admin/domains/{world.places.research}"
    await world.root.delete(path)
    before = await snapshot(world)
    places = Places("research", str(annex), str(world.id("mia")))
    swept = dict.fromkeys(ScopeType, 0)
    for spec in ALL_SPECS:
        if spec.scope_type is ScopeType.ADMIN or spec.internal:
            continue
        body = plausible(spec, world.id("mia"), world.places.research)[0]
        answer = await request(world.root, spec, places, world.id("mia"), body)
        assert answer.status_code == 404, f"{spec.name}: {answer.text}"
        swept[spec.scope_type] += 1
    assert all(swept[scope_type] for scope_type in ScopeType if scope_type is not ScopeType.ADMIN)
    assert await snapshot(world) == before
    decided = [spec for spec in ALL_SPECS if spec.scope_type is ScopeType.ADMIN and spec.entity.name == "domain"]
    for spec in decided:
        if (spec.operation.on_item or spec.each) and (spec.each or spec).operation not in (GET, PURGE, RESTORE):
            body = plausible(spec, world.id("mia"), world.places.research)[0]
            answer = await request(world.root, spec, places, world.places.research, body)
            assert (answer.status_code, answer.json()["code"].rpartition("-")[2]) == (409, "deleted"), spec.name
    assert (await world.root.get(path))["deleted"]
    await world.root.delete(path, expect=409, purge="1")  # its people are still in it
    for name in ("dana", "mia", "piotr"):
        assert (await world.as_(name).send("GET", "/users/me")).status_code == 401
    await world.root.post(f"{path}/restore")
    await world.dana.get("/domains/research/users")


async def test_in_a_deleted_project_nothing_is_decided(world: World) -> None:
    """Not for root, not for those who run it or its domain; and from the scopes above nothing in it changes."""
    lab, mia = world.places.lab, world.id("mia")
    held = (await world.piotr.get(f"/projects/{lab}/role-bindings"))["items"]
    await world.dana.delete(f"/domains/research/projects/{lab}")
    before, swept = await snapshot(world), 0
    places = Places("research", str(lab), str(mia))
    for spec in ALL_SPECS:
        if spec.scope_type is ScopeType.PROJECT and not spec.internal:
            body = plausible(spec, mia, world.places.research)[0]
            for caller in (world.root, world.dana, world.piotr, world.mia):
                answer = await request(caller, spec, places, held[0]["id"], body)
                assert answer.status_code == 404, f"{spec.name}: {answer.text}"
                swept += 1
        elif spec.entity.name in ("project", "role_binding") and spec.operation.on_item and not spec.operation.reads:
            target = lab if spec.entity.name == "project" else held[0]["id"]
            if spec.scope_type is ScopeType.USER or spec.operation in (PURGE, RESTORE):
                continue
            body = plausible(spec, mia, world.places.research)[0]
            answer = await request(world.root, spec, places, target, body)
            assert (answer.status_code, answer.json()["code"].rpartition("-")[2]) == (409, "deleted"), spec.name
    assert swept >= 4 * 8
    assert await snapshot(world) == before
    await world.dana.post(f"/domains/research/projects/{lab}/restore")
    await world.piotr.get(f"/projects/{lab}/role-bindings/{held[0]['id']}")


async def test_in_the_scope_of_a_deleted_user_nothing_is_decided(world: World) -> None:
    mia = world.id("mia")
    await world.root.delete(f"/admin/users/{mia}")
    await world.root.get(f"/users/{mia}", expect=404)
    await world.root.get(f"/users/{mia}/keypairs", expect=404)
    assert (await world.dana.get(f"/domains/research/users/{mia}"))["deleted"]
    await world.dana.post(f"/domains/research/users/{mia}/restore")
    await world.root.get(f"/users/{mia}/keypairs")


async def test_the_name_of_a_domain_never_changes(world: World) -> None:
    for path in (f"/admin/domains/{world.places.research}", "/domains/research"):
        await world.root.patch(path, {"name": "renamed"}, expect=422)
    naming = [spec for spec in ALL_SPECS if spec.entity.name == "domain" and "name" in spec.input.model_fields]
    assert [spec.name for spec in naming] == ["admin_create_domain"]
    assert (await world.root.get("/domains/research"))["name"] == "research"


class Line:
    """An invalidation channel that is heard or not, as the test says."""

    trusted = True

    def listen(self, listener: Callable[[str], None]) -> None: ...


async def test_answers_are_cached_only_while_the_channel_is_trusted(world: World) -> None:
    """A change that nobody heard of is seen at once by a directory that does not trust its cache."""
    line, asked = Line(), list[tuple[str, str]]()
    directory = CachedDirectory(world.app.database, line, lambda *told: asked.append(told))  # type: ignore[arg-type]
    dana, research = world.id("dana"), Address(ScopeType.DOMAIN, "research")

    async def admin_of_research() -> bool:
        held: tuple[RoleBinding, ...] = await directory.bindings(dana)
        return "domain_admin" in {binding.role for binding in held}

    async def in_force() -> bool:
        lineage = await directory.lineage(research)
        return lineage is not None and not lineage.deleted

    assert await admin_of_research()
    assert await in_force()
    await world.sql("ALTER TABLE role_binding DISABLE TRIGGER tell_change")
    await world.sql("ALTER TABLE domain DISABLE TRIGGER tell_change")
    await world.sql("UPDATE role_binding SET deleted_at = now() WHERE user_id = $1", dana)
    await world.sql("UPDATE domain SET deleted_at = now() WHERE id = $1", world.places.research)
    assert await admin_of_research(), "what is trusted is not asked for again"
    assert await in_force()
    line.trusted = False
    assert not await admin_of_research()
    assert not await in_force()
    assert ("bindings", "hit") in asked
    assert asked[-1][1] == "bypass"
    line.trusted = True
    await world.sql("UPDATE domain SET deleted_at = NULL WHERE id = $1", world.places.research)
    directory.forget(f"domain:{world.places.research}", f"bindings:{dana}")
    assert await in_force()
    assert not await admin_of_research()


async def test_in_a_deleted_domain_nothing_is_changed_from_above_either(world: World) -> None:
    """Shown, restored and purged, yes; changed, once the domain is back."""
    nobody, user = world.id("nobody"), f"/admin/users/{world.id('nobody')}"
    [key] = (await world.root.get(f"/users/{nobody}/keypairs"))["items"]
    await world.root.delete(f"/admin/domains/{world.places.elsewhere}")
    changes: tuple[tuple[str, str, object], ...] = (
        ("PATCH", user, {"description": "changed"}),
        ("DELETE", user, None),
        ("PATCH", f"/admin/keypairs/{key['id']}", {"rate_limit": 5}),
        ("POST", f"/admin/keypairs/{key['id']}/deactivate", None),
    )
    for method, path, body in changes:
        told = await world.root.ask(method, path, body, expect=409)
        assert told["code"].endswith("-domain-deleted")
    assert (await world.root.get(user))["version"] == 1
    await world.root.post(f"/admin/domains/{world.places.elsewhere}/restore")
    await world.root.patch(user, {"description": "changed"})
