"""Role bindings: the standard suite, and what is a binding's own: its scope, its end, its grantor."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

from actions.entities.role_binding import SPECS
from actions.vocabulary import ScopeType
from tests.entities.standard import StandardSuite, Thing
from tests.world.world import World

ROLES = {
    ScopeType.ADMIN: "auditor",
    ScopeType.DOMAIN: "domain_admin",
    ScopeType.PROJECT: "project_admin",
    ScopeType.USER: "domain_admin",
}


def soon(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat().replace("+00:00", "Z")


async def member(world: World) -> str:
    """A fresh member of research, by id."""
    name = f"u{uuid4().hex[:10]}"
    given = {"username": name, "email": f"{name}@example.org", "password": "a long enough password"}
    return str((await world.root.post("/domains/research/users", given, expect=201))["id"])


class TestRoleBinding(StandardSuite):
    specs = SPECS
    END: ClassVar[str] = "2090-01-01T00:00:00Z"
    rivals = ({"expires_at": END}, {"expires_at": END})

    async def new(self, world: World, scope_type: ScopeType) -> Thing:
        path = {ScopeType.ADMIN: "/admin", ScopeType.PROJECT: f"/projects/{world.places.lab}"}.get(
            scope_type, "/domains/research"
        )
        given = {"user_id": await member(world), "role": ROLES[scope_type], "expires_at": "2080-01-01T00:00:00Z"}
        made: Thing = await world.root.post(f"{path}/role-bindings", given, expect=201)
        return made

    def required(self) -> list[str]:
        return []

    def turn(self, place: int) -> Thing:
        return {"expires_at": f"2090-01-{place + 1:02}T00:00:00Z"}

    async def test_null_is_an_error_where_there_must_be_a_value(self, world: World) -> None:
        """The one field of a binding that changes may be null: a binding without an end."""
        thing = await self.new(world, ScopeType.DOMAIN)
        changed = await world.root.patch(f"/admin/role-bindings/{thing['id']}", {"expires_at": None})
        assert changed["expires_at"] is None
        for name in ("user_id", "role"):
            body = {"user_id": thing["user_id"], "role": "domain_admin", name: None}
            problem = await world.root.post("/admin/role-bindings", body, expect=422)
            assert problem["errors"][0]["pointer"] == f"/{name}"


async def test_a_binding_lies_where_its_address_says(world: World) -> None:
    user = await member(world)
    for path, role, scope in (
        ("/admin", "monitor", ("admin", None)),
        ("/domains/research", "domain_admin", ("domain", str(world.places.research))),
        (f"/projects/{world.places.lab}", "project_member", ("project", str(world.places.lab))),
    ):
        made = await world.root.post(f"{path}/role-bindings", {"user_id": user, "role": role}, expect=201)
        assert (made["scope_type"], made["scope_id"]) == scope
        assert made["granted_by"] == str(world.id("root"))
        assert made["expires_at"] is None
        for name, value in (("scope_id", str(uuid4())), ("role", "superadmin"), ("user_id", str(uuid4()))):
            await world.root.patch(f"/admin/role-bindings/{made['id']}", {name: value}, expect=422)
    mine = await world.root.get(f"/users/{user}/role-bindings", order="scope_type")
    assert [held["scope_type"] for held in mine["items"]] == [
        "domain",
        "domain",
        "project",
    ]  # from above, what lies in its domain


async def test_a_role_is_held_only_where_it_is_bindable(world: World) -> None:
    for path, role in (
        ("/domains/research", "superadmin"),
        ("/domains/research", "project_member"),
        ("/admin", "domain_admin"),
        *(("/admin", never) for never in ("owner", "system_bootstrap", "no_such_role", "")),
    ):
        given = {"user_id": str(world.id("mia")), "role": role}
        problem = await world.root.post(f"{path}/role-bindings", given, expect=422)
        assert problem["errors"][0]["pointer"] == "/role"


async def test_the_same_role_is_not_held_twice_in_one_scope(world: World) -> None:
    given = {"user_id": await member(world), "role": "domain_admin"}
    first = await world.root.post("/domains/research/role-bindings", given, expect=201)
    problem = await world.root.post("/domains/research/role-bindings", given, expect=409)
    assert problem["code"] == "role-binding-create-already-exists"
    assert problem["errors"] == [{"pointer": "/role", "message": "is taken"}]
    await world.root.post("/domains/elsewhere/role-bindings", given, expect=201)
    twice = {"user_id": given["user_id"], "role": "auditor"}
    await world.root.post("/admin/role-bindings", twice, expect=201)
    await world.root.post("/admin/role-bindings", twice, expect=409)

    await world.root.delete(f"/admin/role-bindings/{first['id']}")
    again = await world.root.post("/domains/research/role-bindings", given, expect=201)
    assert again["id"] != first["id"]
    await world.root.delete(f"/admin/role-bindings/{again['id']}")
    await world.root.post("/domains/research/role-bindings", given, expect=201)


async def test_a_binding_counts_from_its_making_to_its_revocation(world: World) -> None:
    guest = await world.newcomer("guest")
    users = "/domains/research/users"
    await world.as_(guest).get(users, expect=403)
    given = {"user_id": str(guest.id), "role": "domain_admin"}
    binding = await world.dana.post("/domains/research/role-bindings", given, expect=201)
    await world.as_(guest).get(users)
    await world.dana.delete(f"/domains/research/role-bindings/{binding['id']}")
    await world.as_(guest).get(users, expect=403)


async def test_a_binding_that_has_expired_counts_no_more(world: World) -> None:
    guest = await world.newcomer("guest")
    given = {"user_id": str(guest.id), "role": "domain_admin", "expires_at": soon(hours=1)}
    binding = await world.root.post("/domains/research/role-bindings", given, expect=201)
    users = "/domains/research/users"
    await world.as_(guest).get(users)
    past = datetime.now(UTC) - timedelta(seconds=1)
    await world.sql("UPDATE role_binding SET expires_at = $1 WHERE id = $2", past, binding["id"])
    world.app.directory.forget(f"bindings:{guest.id}")
    await world.as_(guest).get(users, expect=403)
    await world.root.patch(f"/admin/role-bindings/{binding['id']}", {"expires_at": soon(hours=1)})
    await world.as_(guest).get(users)


async def test_an_end_lies_ahead_and_has_a_zone(world: World) -> None:
    given: dict[str, Any] = {"user_id": await member(world), "role": "domain_admin"}
    for end in (soon(seconds=-1), "2080-01-01T00:00:00", "tomorrow", "0001-01-01T00:00:00+14:00"):
        problem = await world.root.post("/domains/research/role-bindings", {**given, "expires_at": end}, expect=422)
        assert problem["errors"][0]["pointer"] == "/expires_at"
    made = await world.root.post("/domains/research/role-bindings", given, expect=201)
    path = f"/admin/role-bindings/{made['id']}"
    problem = await world.root.patch(path, {"expires_at": soon(seconds=-1)}, expect=422)
    assert problem["errors"][0]["pointer"] == "/expires_at"
    assert (await world.root.get(path))["version"] == 1


async def test_a_role_is_bound_to_a_user_that_exists(world: World) -> None:
    for user in (str(uuid4()), "root", None):
        await world.root.post("/domains/research/role-bindings", {"user_id": user, "role": "domain_admin"}, expect=422)
    gone = await member(world)
    await world.root.delete(f"/admin/users/{gone}")
    problem = await world.root.post(
        "/domains/research/role-bindings", {"user_id": gone, "role": "domain_admin"}, expect=422
    )
    assert problem["code"] == "role-binding-create-unknown-reference"


async def test_everyone_sees_their_own_bindings(world: World) -> None:
    held = (await world.mia.get("/users/me/role-bindings"))["items"]
    assert {binding["role"] for binding in held} == {"domain_member", "project_member"}
    await world.mia.get(f"/users/me/role-bindings/{held[0]['id']}")
    (piotrs,) = (await world.root.get("/admin/role-bindings", filter={"role": {"equals": "project_admin"}}))["items"]
    await world.mia.get(f"/users/me/role-bindings/{piotrs['id']}", expect=404)


async def test_of_somebody_else_one_sees_the_bindings_in_ones_own_domain(world: World) -> None:
    """What mia holds elsewhere is no business of those who run research. It is hers."""
    mia = world.id("mia")
    beyond = {}
    for path, role in (("/domains/elsewhere", "domain_member"), ("/admin", "monitor")):
        given = {"user_id": str(mia), "role": role}
        beyond[path] = (await world.root.post(f"{path}/role-bindings", given, expect=201))["id"]
    path = f"/users/{mia}/role-bindings"
    seen = await world.dana.get(path)
    assert {held["scope_id"] for held in seen["items"]} == {str(world.places.research), str(world.places.lab)}
    assert seen["total_count"] == len(seen["items"]) == 2
    assert (await world.mia.get("/users/me/role-bindings"))["total_count"] == 4
    everywhere = await world.root.get("/admin/role-bindings", filter={"user_id": {"equals": str(mia)}})
    assert everywhere["total_count"] == 4
    for key in beyond.values():
        await world.dana.get(f"{path}/{key}", expect=404)
        await world.mia.get(f"{path}/{key}")


async def test_who_takes_part_no_more_is_not_listed(world: World) -> None:
    """An end that has come ends the membership in the list of users too."""
    path, mia = f"/projects/{world.places.lab}/users", str(world.id("mia"))

    async def listed() -> bool:
        return mia in {user["id"] for user in (await world.piotr.get(path))["items"]}

    assert await listed()
    await world.piotr.get(f"{path}/{mia}")
    await world.sql(
        "UPDATE role_binding SET expires_at = now() - interval '1 second' WHERE user_id = $1 AND project_id = $2",
        world.id("mia"),
        world.places.lab,
    )
    assert not await listed()
    await world.piotr.get(f"{path}/{mia}", expect=404)
