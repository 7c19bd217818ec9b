"""Projects: the standard suite, and what is a project's own: its domain, who takes part, what ends with it."""

import asyncio
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest

from actions.entities.project import SPECS
from actions.errors import Conflict
from actions.vocabulary import ScopeType
from server.repositories.projects import ProjectRepository
from server.repositories.rows import role_bindings
from server.services.projects import ProjectService
from tests.entities.standard import StandardSuite, Thing
from tests.faults import another_worker, until
from tests.laws.support import action, persona, pipeline, spec_named
from tests.world.world import World


def project(**fields: Any) -> Thing:
    return {"name": f"p{uuid4().hex[:10]}", **fields}


async def take_part(world: World, where: UUID | str, name: str, role: str = "project_member") -> str:
    given = {"user_id": str(world.id(name)), "role": role}
    return str((await world.root.post(f"/projects/{where}/role-bindings", given, expect=201))["id"])


class TestProject(StandardSuite):
    specs = SPECS
    rivals = ({"description": "of the one"}, {"total_resource_slots": {"cpu": 4}})
    seen_only: ClassVar[frozenset[ScopeType]] = frozenset({ScopeType.USER})

    async def new(self, world: World, scope_type: ScopeType) -> Thing:
        if scope_type is ScopeType.ADMIN:
            where = {"domain_id": str(world.places.research)}
            made: Thing = await world.root.post("/admin/projects", project(**where), expect=201)
        else:
            made = await world.root.post("/domains/research/projects", project(), expect=201)
        return made

    def places(self, world: World, thing: Thing) -> dict[str, str]:
        return {"domain": "research", "project": thing["id"], "user": str(world.id("mia"))}

    def turn(self, place: int) -> Thing:
        return {"description": f"turn {place}"}


# -- what it is --------------------------------------------------------------------------------------------------------


async def test_a_project_keeps_what_it_is_given(world: World) -> None:
    given = project(
        description="  trimmed  ",
        type="model-store",
        total_resource_slots={"cpu": 8, "mem": 2**40},
        allowed_vfolder_hosts=["local:volume1"],
        allowed_docker_registries=["cr.example.org"],
        integration_id="ext-1",
    )
    made = await world.dana.post("/domains/research/projects", given, expect=201)
    assert {**given, "description": "trimmed", "domain_id": str(world.places.research)}.items() <= made.items()
    assert (made["is_active"], made["is_default"]) == (True, False)
    changed = await world.dana.patch(f"/domains/research/projects/{made['id']}", {"integration_id": None, "name": "x"})
    assert (changed["integration_id"], changed["name"]) == (None, "x")
    plain = await world.dana.post("/domains/research/projects", project(), expect=201)
    assert (plain["type"], plain["total_resource_slots"], plain["allowed_vfolder_hosts"]) == ("general", {}, [])


async def test_a_projects_name_is_unique_in_its_domain_and_kept_after_deletion(world: World) -> None:
    given = project()
    first = await world.dana.post("/domains/research/projects", given, expect=201)
    other = await world.dana.post("/domains/research/projects", project(), expect=201)
    for _ in range(2):
        problem = await world.dana.post("/domains/research/projects", given, expect=409)
        assert problem["code"] == "project-create-already-exists"
        assert problem["errors"] == [{"pointer": "/name", "message": "is taken"}]
        await world.dana.send("DELETE", f"/domains/research/projects/{first['id']}")
    await world.dana.patch(f"/domains/research/projects/{other['id']}", {"name": given["name"]}, expect=409)
    await world.root.post("/domains/elsewhere/projects", given, expect=201)


async def test_a_name_that_stands_for_the_caller_is_no_projects(world: World) -> None:
    for name in ("me", "", "a b", "Upper", "a/b"):
        problem = await world.dana.post("/domains/research/projects", {"name": name}, expect=422)
        assert problem["errors"][0]["pointer"] == "/name"
    await world.dana.patch(f"/domains/research/projects/{world.places.lab}", {"name": "me"}, expect=422)


async def test_a_project_stays_in_its_domain_and_what_it_was_made_for(world: World) -> None:
    for change in ({"domain_id": str(world.places.elsewhere)}, {"type": "model-store"}, {"is_default": True}):
        await world.root.patch(f"/admin/projects/{world.places.lab}", change, expect=422)
    await world.dana.post("/domains/research/projects", project(domain_id=str(world.places.elsewhere)), expect=422)
    for nowhere in (uuid4(), world.places.lab):
        problem = await world.root.post("/admin/projects", project(domain_id=str(nowhere)), expect=422)
        assert problem["code"] == "project-create-unknown-reference"


async def test_the_first_project_is_the_default_of_the_first_domain(world: World) -> None:
    [first] = (await world.root.get("/domains/default/projects"))["items"]
    assert (first["name"], first["is_default"], first["type"]) == ("default", True, "general")


async def test_a_projects_admin_describes_it_and_sets_no_caps(world: World) -> None:
    path = f"/projects/{world.places.lab}"
    assert (await world.piotr.patch(path, {"description": "We test."}))["description"] == "We test."
    assert (await world.mia.get(path))["description"] == "We test."
    await world.mia.patch(path, {"description": "mine"}, expect=403)
    changes: tuple[Thing, ...] = ({"name": "x"}, {"total_resource_slots": {}}, {"integration_id": "x"})
    for change in changes:
        await world.piotr.patch(path, change, expect=422)
    await world.piotr.delete(path, expect=405)


# -- who takes part ----------------------------------------------------------------------------------------------------


async def test_a_user_sees_the_projects_it_takes_part_in_and_no_others(world: World) -> None:
    lab, annex = str(world.places.lab), await world.project("annex")
    [mine] = (await world.mia.get("/users/me/projects"))["items"]
    assert mine == await world.mia.get(f"/users/me/projects/{lab}") == await world.mia.get(f"/projects/{lab}")
    await world.mia.get(f"/users/me/projects/{annex}", expect=404)
    binding = await take_part(world, annex, "mia")
    assert (await world.mia.get("/users/me/projects", order="name"))["total_count"] == 2
    found = await world.mia.get("/users/me/projects", filter={"name": {"equals": "annex"}})
    assert [item["id"] for item in found["items"]] == [str(annex)]
    await world.sql("UPDATE role_binding SET expires_at = now() - interval '1 second' WHERE id = $1", UUID(binding))
    await world.mia.get(f"/users/me/projects/{annex}", expect=404)
    await world.sql("UPDATE role_binding SET expires_at = NULL WHERE id = $1", UUID(binding))
    await world.mia.get(f"/users/me/projects/{annex}")
    await world.root.delete(f"/admin/role-bindings/{binding}")
    await world.mia.get(f"/users/me/projects/{annex}", expect=404)
    assert (await world.nobody.get("/users/me/projects"))["items"] == []


async def test_what_a_user_takes_part_in_is_never_seen_through_a_role_held_above(world: World) -> None:
    """Root may ask in mia's scope, but only mia is mia; those who run the domain look from there."""
    path = f"/users/{world.id('mia')}/projects"
    assert (await world.mia.get(path))["total_count"] == 1
    assert (await world.root.get(path))["total_count"] == 0
    await world.root.get(f"{path}/{world.places.lab}", expect=404)
    for other in (world.dana, world.olga):
        await other.get(path, expect=403)
    await world.mia.delete(f"/users/me/projects/{world.places.lab}", expect=405)


async def test_participants_see_who_each_other_are_and_no_more(world: World) -> None:
    path = f"/projects/{world.places.lab}/users"
    shown = {"id", "username", "full_name", "status", "deleted"}
    for caller in (world.mia, world.piotr, world.dana, world.root):
        assert {frozenset(user) for user in (await caller.get(path))["items"]} == {frozenset(shown)}
        assert (await caller.get(f"{path}/{world.id('mia')}")).keys() == shown
    assert (await world.mia.get(path, filter={"username": {"equals": "piotr"}}, order="full_name:desc"))["items"]
    for hidden in ("email", "description", "domain_id", "sudo_session_enabled", "created_at"):
        problem = await world.mia.get(path, filter={hidden: {}}, expect=422)
        assert problem["errors"][0]["pointer"] == f"/filter/{hidden}"
        await world.mia.get(path, filter={"NOT": [{hidden: {}}]}, expect=422)
        await world.mia.get(path, order=hidden, expect=422)
    assert "email" in await world.dana.get(f"/domains/research/users/{world.id('mia')}")


# -- what ends with it -------------------------------------------------------------------------------------------------


async def test_in_a_deleted_project_nothing_goes_on_until_it_is_restored(world: World) -> None:
    """Nothing in it is decided; from above it is shown, restored and purged, and what lies in it does not change."""
    lab, path = world.places.lab, f"/domains/research/projects/{world.places.lab}"
    held = (await world.piotr.get(f"/projects/{lab}/role-bindings"))["items"]
    assert not (await world.dana.delete(path))["is_active"]
    for caller in (world.root, world.dana, world.piotr, world.mia):
        await caller.get(f"/projects/{lab}", expect=404)
        await caller.get(f"/projects/{lab}/users", expect=404)
        given = {"user_id": str(world.id("mia")), "role": "project_admin"}
        await caller.post(f"/projects/{lab}/role-bindings", given, expect=404)
    assert (await world.mia.get("/users/me/projects", filter={"deleted": {"equals": True}}))["items"] == []
    await world.mia.get(f"/users/me/projects/{lab}", expect=404)
    for binding in held:
        for above, caller in (("/domains/research", world.dana), ("/admin", world.root)):
            where = f"{above}/role-bindings/{binding['id']}"
            for method, body in (("PATCH", {"expires_at": "2090-01-01T00:00:00Z"}), ("DELETE", None)):
                problem = await caller.ask(method, where, body, expect=409)
                assert problem["code"].endswith("-project-deleted")
            assert (await caller.get(where))["version"] == 1
    assert (await world.dana.get(path))["deleted"]
    places = {place["scope_id"] for place in (await world.piotr.get("/auth/whoami"))["allowed"]}
    assert str(lab) not in places
    await world.dana.post(f"{path}/restore")
    await world.piotr.get(f"/projects/{lab}/users")
    assert str(lab) in {place["scope_id"] for place in (await world.piotr.get("/auth/whoami"))["allowed"]}


async def test_of_two_deleted_scopes_the_wider_is_named(world: World) -> None:
    """It has to be restored first."""
    annex = await world.project("annex", "elsewhere")
    binding = await take_part(world, annex, "nobody")
    await take_part(world, annex, "mia")
    for path in (f"/admin/projects/{annex}", f"/admin/domains/{world.places.elsewhere}"):
        await world.root.delete(path)
        told = (await world.mia.get("/auth/whoami"))["allowed"]
        assert str(annex) not in {place["scope_id"] for place in told}
    problem = await world.root.delete(f"/admin/role-bindings/{binding}", expect=409)
    assert problem["code"] == "role-binding-delete-domain-deleted"
    problem = await world.root.post(f"/admin/projects/{annex}/restore")
    await world.root.post(f"/admin/domains/{world.places.elsewhere}/restore")
    await world.root.delete(f"/admin/role-bindings/{binding}")


async def test_in_a_deleted_user_key_pairs_do_not_change_and_roles_can_be_taken(world: World) -> None:
    mia = world.id("mia")
    [key] = (await world.mia.get("/users/me/keypairs"))["items"]
    [own, *_] = (await world.mia.get("/users/me/role-bindings", filter={"role": {"equals": "project_member"}}))["items"]
    await world.dana.delete(f"/domains/research/users/{mia}")
    for above, caller in (("/domains/research", world.dana), ("/admin", world.root)):
        problem = await caller.post(f"{above}/keypairs/{key['id']}/deactivate", expect=409)
        assert problem["code"] == "keypair-deactivate-user-deleted"
    await world.dana.delete(f"/domains/research/role-bindings/{own['id']}")


async def test_a_purged_project_takes_its_memberships_along_and_the_record_says_so(world: World) -> None:
    lab, path = world.places.lab, f"/domains/research/projects/{world.places.lab}"
    revoked = await take_part(world, lab, "olga")
    await world.root.delete(f"/admin/role-bindings/{revoked}")
    problem = await world.dana.delete(path, purge="1", expect=409)
    assert problem["code"] == "project-purge-not-deleted"
    await world.dana.delete(path)
    await world.dana.delete(path, purge="1")
    assert not await world.sql("SELECT FROM role_binding WHERE project_id = $1", lab)
    (*_, record) = await world.records("domain_purge_project")
    assert record["changes"] == [{"field": "role_bindings", "old": 3, "new": 0}]
    assert record["target"]["id"] == str(lab)
    held = {binding["role"] for binding in (await world.piotr.get("/auth/whoami"))["bindings"]}
    assert held == {"domain_member"}, "remembered nowhere either"


async def test_a_project_in_use_is_not_purged_and_says_by_what(world: World) -> None:
    """Nothing lies in a project yet but its memberships, so here they stand for what will."""
    lab = world.places.lab
    await world.root.delete(f"/admin/projects/{lab}")
    spec = spec_named("admin_purge_project")
    service = ProjectService(ProjectRepository({"role_bindings": role_bindings.c.project_id}))
    with pytest.raises(Conflict, match="Still in it: 2 role bindings") as refused:
        await pipeline(world, {spec: service.purge}).execute(action(spec, persona(world, "root"), target=lab))
    assert (refused.value.reason, refused.value.extra) == ("in-use", {"used_by": {"role_bindings": 2}})
    assert (await world.root.get("/admin/role-bindings", filter={"scope_id": {"equals": str(lab)}}))["total_count"] == 2
    await world.root.delete(f"/admin/projects/{lab}", purge="1")


async def test_the_end_of_a_project_is_known_elsewhere_within_a_second(world: World) -> None:
    lab = world.places.lab
    async with another_worker(world) as elsewhere:

        async def open_there(status: int) -> bool:
            return (await elsewhere.piotr.send("GET", f"/projects/{lab}")).status_code == status

        for _ in range(2):
            assert await open_there(200)  # remembered there
        for method, path, status in (
            ("DELETE", f"/admin/projects/{lab}", 404),
            ("POST", f"/admin/projects/{lab}/restore", 200),
        ):
            await world.root.ask(method, path)
            assert (await world.piotr.send("GET", f"/projects/{lab}")).status_code == status, "at once here"
            await until(lambda status=status: open_there(status), 3.0)  # type: ignore[misc]
        await asyncio.gather(*(where.piotr.get(f"/projects/{lab}/users") for where in (world, elsewhere)))
        await world.root.delete(f"/admin/projects/{lab}")
        await world.root.delete(f"/admin/projects/{lab}", purge="1")

        async def unbound_there() -> bool:
            held = (await elsewhere.piotr.get("/auth/whoami"))["bindings"]
            return {binding["role"] for binding in held} == {"domain_member"}

        await until(unbound_there, 3.0)


async def test_what_was_restored_is_changed_at_once_everywhere(world: World) -> None:
    """Whether a project is deleted is for its row to say, not for what a worker remembers of it."""
    lab = world.places.lab
    async with another_worker(world) as elsewhere:
        await world.root.delete(f"/admin/projects/{lab}")
        await until(lambda: _shut(elsewhere, lab), 3.0)
        elsewhere.app.channel._listeners.clear()  # deaf: it remembers the project as deleted
        await world.root.post(f"/admin/projects/{lab}/restore")
        assert await _shut(elsewhere, lab)
        await elsewhere.root.patch(f"/admin/projects/{lab}", {"description": "back"})


async def _shut(where: World, project: UUID) -> bool:
    return (await where.root.send("GET", f"/projects/{project}")).status_code == 404
