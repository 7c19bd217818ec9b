"""Domains: the standard suite, and what is a domain's own."""

from typing import Any
from uuid import uuid4

from actions.entities.domain import SPECS
from actions.vocabulary import ScopeType
from tests.entities.standard import StandardSuite, Thing
from tests.world.world import World


def domain(**fields: Any) -> Thing:
    return {"name": f"d{uuid4().hex[:10]}", **fields}


class TestDomain(StandardSuite):
    specs = SPECS
    rivals = ({"description": "of the one"}, {"total_resource_slots": {"cpu": 4}})

    async def new(self, world: World, scope_type: ScopeType) -> Thing:
        made: Thing = await world.root.post("/admin/domains", domain(), expect=201)
        return made

    def places(self, world: World, thing: Thing) -> dict[str, str]:
        return {"domain": thing["name"]}

    def turn(self, place: int) -> Thing:
        return {"description": f"turn {place}"}


async def test_a_domain_keeps_what_it_is_given(world: World) -> None:
    given = domain(
        description="  trimmed  ",
        total_resource_slots={"cpu": 8, "mem": 2**40},
        allowed_vfolder_hosts=["local:volume1"],
        allowed_docker_registries=["cr.example.org"],
        integration_id="ext-1",
    )
    made = await world.root.post("/admin/domains", given, expect=201)
    assert {**given, "description": "trimmed"}.items() <= made.items()
    assert made["is_active"]
    assert not made["is_default"]
    cleared = await world.root.patch(f"/admin/domains/{made['id']}", {"integration_id": None})
    assert cleared["integration_id"] is None


async def test_a_domains_name_is_unique_and_kept_after_its_deletion(world: World) -> None:
    given = domain()
    first = await world.root.post("/admin/domains", given, expect=201)
    for _ in range(2):
        problem = await world.root.post("/admin/domains", given, expect=409)
        assert problem["code"] == "domain-create-already-exists"
        assert problem["errors"] == [{"pointer": "/name", "message": "is taken"}]
        await world.root.send("DELETE", f"/admin/domains/{first['id']}")
    await world.root.delete(f"/admin/domains/{first['id']}", purge="1")
    await world.root.post("/admin/domains", given, expect=201)


async def test_a_domains_name_never_changes(world: World) -> None:
    made = await world.root.post("/admin/domains", domain(), expect=201)
    await world.root.patch(f"/admin/domains/{made['id']}", {"name": "another"}, expect=422)


async def test_a_name_stands_in_a_path_so_its_letters_are_few(world: World) -> None:
    for name in ("", "Upper", "a b", "a/b", "-a", "a-", "é", "a" * 65, "a\n", "\u0000"):
        problem = await world.root.post("/admin/domains", {"name": name}, expect=422)
        assert problem["errors"][0]["pointer"] == "/name"


async def test_a_null_at_creation_is_an_error_too(world: World) -> None:
    problem = await world.root.post("/admin/domains", domain(description=None, integration_id=None), expect=422)
    assert problem["errors"] == [{"pointer": "/description", "message": "cannot be null"}]


async def test_a_deleted_domain_is_found_by_either_word_for_it(world: World) -> None:
    made = await world.root.post("/admin/domains", domain(), expect=201)
    await world.root.delete(f"/admin/domains/{made['id']}")
    for spoken in ({"is_active": {"equals": False}}, {"deleted": {"equals": True}}):
        found = await world.root.get("/admin/domains", filter=spoken)
        assert [item["id"] for item in found["items"]] == [made["id"]]


async def test_a_domain_in_use_is_not_purged_and_says_by_what(world: World) -> None:
    """Users, projects and bindings keep a domain, deleted ones too; once they are gone it goes."""
    made = await world.root.post("/admin/domains", domain(), expect=201)
    path = f"/admin/domains/{made['id']}"
    await world.root.post(
        f"/domains/{made['name']}/role-bindings", {"user_id": str(world.id("mia")), "role": "domain_member"}, expect=201
    )
    new_user = {"username": "guest", "email": "guest@example.org", "password": "a long enough password"}
    user = await world.root.post(f"/domains/{made['name']}/users", new_user, expect=201)
    project = await world.project("p", made["name"])
    await world.root.delete(path)
    problem = await world.root.delete(path, purge="1", expect=409)
    assert problem["code"] == "domain-purge-in-use"
    assert problem["used_by"] == {"users": 1, "projects": 1, "role_bindings": 2}
    assert problem["detail"] == "Still in it: 1 user, 1 project, 2 role bindings."

    await world.root.post(f"{path}/restore")  # in a deleted domain nothing more can be deleted
    await world.root.delete(f"/admin/users/{user['id']}")
    await world.root.delete(f"/admin/projects/{project}")
    held = await world.root.get("/admin/role-bindings", filter={"scope_id": {"equals": made["id"]}})
    for binding in held["items"]:
        await world.root.delete(f"/admin/role-bindings/{binding['id']}")
    await world.root.delete(path)
    assert (await world.root.delete(path, purge="1", expect=409))["used_by"]["users"] == 1
    await world.root.delete(f"/admin/users/{user['id']}", purge="1")
    await world.root.delete(f"/admin/projects/{project}", purge="1")
    for binding in held["items"]:
        await world.root.send("DELETE", f"/admin/role-bindings/{binding['id']}", params={"purge": "1"})  # or gone
    await world.root.delete(path, purge="1")


async def test_a_domain_admin_describes_the_domain_and_sets_no_caps(world: World) -> None:
    changed = await world.dana.patch("/domains/research", {"description": "We study."})
    assert changed["description"] == "We study."
    await world.dana.patch("/domains/research", {"total_resource_slots": {}}, expect=422)


async def test_in_a_deleted_domain_nothing_goes_on_until_it_is_restored(world: World) -> None:
    path = f"/admin/domains/{world.places.research}"
    await world.root.delete(path)
    await world.dana.get("/domains/research", expect=401)
    await world.root.get("/domains/research/users", expect=404)
    await world.root.post(f"{path}/restore")
    await world.dana.get("/domains/research")
