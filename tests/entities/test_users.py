"""Users: the standard suite, and what is a user's own: membership, status, passwords, addresses."""

import asyncio
from datetime import datetime
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type

from actions.entities.user import SPECS
from actions.vocabulary import ScopeType
from tests.entities.standard import StandardSuite, Thing
from tests.world.stage import PASSWORD
from tests.world.world import World

NEW_PASSWORD = "quite another password"


def person(**fields: Any) -> Thing:
    name = f"u{uuid4().hex[:10]}"
    return {"username": name, "email": f"{name}@example.org", "password": PASSWORD, **fields}


async def stored_hash(world: World, user: object) -> str:
    return str((await world.sql("SELECT password_hash FROM users WHERE id = $1", user))[0]["password_hash"])


class TestUser(StandardSuite):
    specs = SPECS
    rivals = ({"description": "of the one"}, {"full_name": "Of The Other"})
    inputs: ClassVar[dict[str, Thing]] = {
        "reset_password": {"password": NEW_PASSWORD},
        "change_password": {"old_password": PASSWORD, "new_password": NEW_PASSWORD},
    }

    async def new(self, world: World, scope_type: ScopeType) -> Thing:
        if scope_type is ScopeType.ADMIN:
            where = {"domain_id": str(world.places.research)}
            made: Thing = await world.root.post("/admin/users", person(**where), expect=201)
        else:
            made = await world.root.post("/domains/research/users", person(), expect=201)
        if scope_type is ScopeType.PROJECT:
            taking_part = {"user_id": made["id"], "role": "project_member"}
            await world.root.post(f"/projects/{world.places.lab}/role-bindings", taking_part, expect=201)
        return made

    def turn(self, place: int) -> Thing:
        return {"description": f"turn {place}"}


async def test_a_user_keeps_what_it_is_given_and_shows_no_password(world: World) -> None:
    given = person(
        full_name="Ada L.",
        description="the first",
        status="before-verification",
        need_password_change=True,
        allowed_client_ip=["10.1.*.*", "192.0.2.7", "2001:db8::/32"],
        sudo_session_enabled=True,
    )
    made = await world.dana.post("/domains/research/users", given, expect=201)
    del given["password"]
    assert {**given, "allowed_client_ip": ["10.1.0.0/16", "192.0.2.7", "2001:db8::/32"]}.items() <= made.items()
    assert made["domain_id"] == str(world.places.research)
    assert not [name for name in made if "password" in name and name not in _TOLD]


_TOLD = ("need_password_change", "password_changed_at")


async def test_a_new_user_is_a_member_of_its_domain_from_the_start(world: World) -> None:
    made = await world.dana.post("/domains/research/users", person(), expect=201)
    (binding,) = (await world.dana.get(f"/users/{made['id']}/role-bindings"))["items"]
    assert (binding["role"], binding["scope_type"], binding["scope_id"]) == (
        "domain_member",
        "domain",
        str(world.places.research),
    )
    assert binding["granted_by"] == str(world.id("dana"))


@pytest.mark.parametrize("field", ["username", "email"])
async def test_a_name_or_address_is_unique_in_its_domain_and_kept_after_deletion(world: World, field: str) -> None:
    given = person()
    made = await world.root.post("/domains/research/users", given, expect=201)
    twin = person(**{field: given[field]})
    for _ in range(2):
        problem = await world.root.post("/domains/research/users", twin, expect=409)
        assert problem["code"] == "user-create-already-exists"
        assert problem["errors"] == [{"pointer": f"/{field}", "message": "is taken"}]
        await world.root.send("DELETE", f"/admin/users/{made['id']}")
    problem = await world.root.patch(f"/admin/users/{world.id('mia')}", {field: given[field]}, expect=409)
    assert problem["errors"] == [{"pointer": f"/{field}", "message": "is taken"}]
    await world.root.post("/domains/elsewhere/users", twin, expect=201)


async def test_a_refused_creation_leaves_nothing_behind(world: World) -> None:
    before = await world.sql("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM role_binding)")
    await world.root.post("/domains/research/users", person(username="mia"), expect=409)
    assert await world.sql("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM role_binding)") == before


async def test_a_user_moves_to_no_other_domain(world: World) -> None:
    elsewhere = {"domain_id": str(world.places.elsewhere)}
    await world.root.patch(f"/admin/users/{world.id('mia')}", elsewhere, expect=422)
    await world.dana.post("/domains/research/users", person(**elsewhere), expect=422)
    problem = await world.root.post("/admin/users", person(domain_id=str(uuid4())), expect=422)
    assert problem["code"] == "user-create-unknown-reference"


async def test_only_an_active_user_gets_in(world: World) -> None:
    path = f"/domains/research/users/{world.id('mia')}"
    for status in ("inactive", "before-verification"):
        assert (await world.dana.patch(path, {"status": status}))["status"] == status
        await world.mia.get("/auth/whoami", expect=401)
        await world.dana.patch(path, {"status": "active"})
        await world.mia.get("/auth/whoami")
    await world.dana.patch(path, {"status": "deleted"}, expect=422)


async def test_a_user_who_is_restored_is_what_it_was(world: World) -> None:
    path = f"/domains/research/users/{world.id('mia')}"
    before = await world.dana.get(path)
    await world.dana.delete(path)
    await world.mia.get("/auth/whoami", expect=401)
    await world.root.get(f"/users/{world.id('mia')}/keypairs", expect=404)
    after = await world.dana.post(f"{path}/restore")
    for name in ("version", "updated_at"):
        del before[name], after[name]
    assert after == before
    held = {binding["role"] for binding in (await world.mia.get("/auth/whoami"))["bindings"]}
    assert held == {"domain_member", "project_member"}


async def test_a_purged_user_takes_its_key_pairs_and_bindings_along(world: World) -> None:
    """What it granted to others stays; who granted it is no longer told."""
    dana, mia = world.id("dana"), world.id("mia")
    guest = await world.dana.post("/domains/research/users", person(), expect=201)
    await world.root.delete(f"/admin/users/{dana}")
    await world.root.delete(f"/admin/users/{dana}", purge="1")
    left = await world.sql(
        "SELECT (SELECT count(*) FROM keypair WHERE user_id = $1) AS keys,"
        " (SELECT count(*) FROM role_binding WHERE user_id = $1 OR granted_by = $1) AS bindings",
        dana,
    )
    assert tuple(left[0]) == (0, 0)
    (binding,) = (await world.root.get(f"/users/{guest['id']}/role-bindings"))["items"]
    assert binding["granted_by"] is None
    assert (await world.root.get("/domains/research/users", filter={"id": {"equals": str(mia)}}))["total_count"] == 1


async def test_a_password_is_kept_as_argon2id_and_as_nothing_else(world: World) -> None:
    made = await world.root.post("/domains/research/users", person(), expect=201)
    parameters = extract_parameters(await stored_hash(world, made["id"]))
    assert (parameters.type, parameters.memory_cost) == (Type.ID, 19 * 1024)
    assert (parameters.time_cost, parameters.parallelism) == (2, 1)


async def test_a_password_is_changed_by_who_knows_the_old_one(world: World) -> None:
    mia = world.id("mia")
    before, old_hash = await world.mia.get("/users/me"), await stored_hash(world, mia)
    wrong = {"old_password": "not what it was", "new_password": NEW_PASSWORD}
    problem = await world.mia.post("/users/me/change_password", wrong, expect=422)
    assert problem["code"] == "user-change-password-wrong-password"
    assert await stored_hash(world, mia) == old_hash
    given = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
    after = await world.mia.post("/users/me/change_password", given)
    assert after["password_changed_at"] > before["password_changed_at"]
    assert PasswordHasher().verify(await stored_hash(world, mia), NEW_PASSWORD)
    await world.mia.post("/users/me/change_password", given, expect=422)


async def test_a_reset_password_has_to_be_changed(world: World) -> None:
    path = f"/domains/research/users/{world.id('mia')}"
    reset = await world.dana.post(f"{path}/reset_password", {"password": NEW_PASSWORD})
    assert reset["need_password_change"]
    assert PasswordHasher().verify(await stored_hash(world, world.id("mia")), NEW_PASSWORD)
    given = {"old_password": NEW_PASSWORD, "new_password": "and yet another one"}
    assert not (await world.mia.post("/users/me/change_password", given))["need_password_change"]


async def test_two_changes_of_one_password_from_the_same_old_one_do_not_both_pass(world: World) -> None:
    """The old password is held to what is stored when the new one is written."""
    given = [{"old_password": PASSWORD, "new_password": f"{NEW_PASSWORD} {place}"} for place in range(2)]
    answers = await asyncio.gather(*(world.mia.send("POST", "/users/me/change_password", body) for body in given))
    assert sorted(answer.status_code for answer in answers) in ([200, 409], [200, 422])
    (done,) = (place for place, answer in enumerate(answers) if answer.status_code == 200)
    assert PasswordHasher().verify(await stored_hash(world, world.id("mia")), f"{NEW_PASSWORD} {done}")


async def test_a_password_is_neither_short_nor_endless(world: World) -> None:
    for password in ("", "ninechars", "x" * 257):
        problem = await world.root.post("/domains/research/users", person(password=password), expect=422)
        assert problem["errors"][0]["pointer"] == "/password"
        assert not password or password not in str(problem)


async def test_what_is_no_address_is_refused_with_its_place(world: World) -> None:
    me = "/users/me"
    for email in ("", "mia", "mia@", "@example.org", "mia@localhost", "a b@example.org", "x" * 255 + "@example.org"):
        assert (await world.mia.patch(me, {"email": email}, expect=422))["errors"][0]["pointer"] == "/email"
    for pattern in ("10.1.2.3/8", "300.1.1.1", "10.*.1.*", "fe80::1%eth0", "example.org"):
        problem = await world.mia.patch(me, {"allowed_client_ip": ["192.0.2.1", pattern]}, expect=422)
        assert problem["errors"][0]["pointer"] == "/allowed_client_ip/1"


async def test_a_user_gets_in_only_from_the_addresses_it_allows(world: World) -> None:
    await world.mia.patch("/users/me", {"allowed_client_ip": ["192.0.2.0/24"]})
    await world.as_("mia", address="198.51.100.1").get("/users/me", expect=401)
    await world.as_("mia", address="192.0.2.9").patch("/users/me", {"allowed_client_ip": []})
    await world.as_("mia", address="198.51.100.1").get("/users/me")


async def test_a_user_changes_of_itself_what_it_may_and_nothing_else(world: World) -> None:
    mine = {"email": "m@example.org", "full_name": "Mia M.", "description": "me"}
    assert mine.items() <= (await world.mia.patch("/users/me", mine)).items()
    for name, value in (("username", "x"), ("status", "active"), ("sudo_session_enabled", True)):
        await world.mia.patch("/users/me", {name: value}, expect=422)


async def test_who_am_i_tells_what_i_hold_and_may(world: World) -> None:
    told = await world.piotr.get("/auth/whoami")
    assert told["id"] == str(world.id("piotr"))
    assert {held["role"] for held in told["bindings"]} == {"domain_member", "project_admin"}
    allowed = {(place["scope_type"], place["scope_id"]): set(place["actions"]) for place in told["allowed"]}
    assert "user_whoami_user" in allowed["user", str(world.id("piotr"))]
    assert "project_create_role_binding" in allowed["project", str(world.places.lab)]
    assert "domain_search_users" not in allowed["domain", str(world.places.research)]


# -- finding one another -----------------------------------------------------------------------------------------------

FIND = "/domains/research/users/lookup"


async def test_members_of_a_domain_find_each_other_by_an_exact_name_and_learn_who_it_is(world: World) -> None:
    piotr = {"id": str(world.id("piotr")), "username": "piotr", "full_name": "Piotr"}
    for known_as in ("piotr", "piotr@example.org", "Piotr@Example.ORG"):
        assert await world.mia.get(FIND, known_as=known_as) == piotr
    [*_, record] = await world.records("domain_lookup_user")
    assert (record["target"]["id"], record["changes"]) == (piotr["id"], [])
    assert "piotr@example.org" not in str(record).lower()


async def test_whom_nobody_knows_by_that_is_not_found(world: World) -> None:
    await world.newcomer("gone")
    await world.root.delete(f"/admin/users/{(await world.mia.get(FIND, known_as='gone'))['id']}")
    faces = set()
    names = ("gone", "Piotr", "piot", "piotr ", "pi%", "nobody", "x" * 254, "piotr\n")
    for known_as in (*names, "@", "piotr@example.or", "%@example.org", "nobody@example.org"):
        told = await world.mia.get(FIND, expect=404, known_as=known_as)
        faces.add((told["code"], told["title"], told["detail"]))
    assert len(faces) == 1


async def test_a_user_is_looked_up_by_one_thing(world: World) -> None:
    for given in ({}, {"known_as": "piotr", "email": "piotr@example.org"}, {"id": "x"}, {"known_as": ""}):
        answer = await world.mia.send("GET", FIND, params=given)
        assert answer.status_code == 422, answer.text
    for body in ({"known_as": None}, {"known_as": 1}, {"known_as": ["piotr"]}, {"known_as": "a\0b"}):
        assert (await world.mia.send("GET", FIND, body)).status_code == 422
    assert (await world.mia.send("GET", f"{FIND}?known_as=piotr&known_as=mia")).status_code == 400


async def test_one_name_of_several_users_finds_the_very_one_or_nobody(world: World) -> None:
    """Names are unique in a domain, and letter for letter: whoever takes an address in another case hides nobody."""
    twin = await world.root.post(
        "/domains/elsewhere/users", person(username="mia", email="Mia@Example.org"), expect=201
    )
    for known_as in ("mia", "MIA@example.org"):
        problem = await world.root.get("/admin/users/lookup", expect=409, known_as=known_as)
        assert problem["code"] == "user-lookup-ambiguous"
    for email, found in (("mia@example.org", str(world.id("mia"))), ("Mia@Example.org", twin["id"])):
        assert (await world.root.get("/admin/users/lookup", known_as=email))["id"] == found
    assert (await world.mia.get(FIND, known_as="MIA@EXAMPLE.ORG"))["id"] == str(world.id("mia"))
    assert (await world.olga.get("/admin/users/lookup", known_as="piotr"))["id"] == str(world.id("piotr"))


async def test_times_are_told_with_their_zone(world: World) -> None:
    told = await world.mia.get("/users/me")
    for name in ("created_at", "updated_at", "password_changed_at"):
        assert datetime.fromisoformat(told[name]).utcoffset() is not None
