"""Logins as kept things: the standard suite, and who sees and ends whose."""

from actions.entities.login import SPECS
from actions.vocabulary import ScopeType
from tests.entities.standard import LifeSuite, Thing
from tests.signing_in import bearer, log_in
from tests.world.world import World


class TestLogin(LifeSuite):
    specs = tuple(spec for spec in SPECS if not spec.anonymous)

    async def new(self, world: World, scope_type: ScopeType) -> Thing:
        made = await log_in(world)
        found: Thing = await world.root.get(f"/admin/logins/{made['login_id']}")
        return found


async def test_users_see_where_they_are_signed_in_and_end_it(world: World) -> None:
    here, there = await log_in(world), await log_in(world, address="192.0.2.7")
    mia = bearer(world, here)
    shown = (await mia.get("/users/me/logins", order="created_at"))["items"]
    assert [(item["id"], item["client_address"]) for item in shown] == [
        (here["login_id"], "127.0.0.1"),
        (there["login_id"], "192.0.2.7"),
    ]
    await mia.delete(f"/users/me/logins/{there['login_id']}")
    await bearer(world, there).get("/auth", expect=401)
    await mia.get("/auth")


async def test_who_may_look_at_logins_and_who_may_end_them(world: World) -> None:
    made = await log_in(world)
    key = made["login_id"]
    await world.olga.get(f"/admin/logins/{key}")
    await world.olga.get(f"/domains/research/logins/{key}")
    await world.olga.get(f"/users/{world.id('mia')}/logins/{key}")
    await world.olga.delete(f"/domains/research/logins/{key}", expect=403)
    for path in ("/admin/logins", "/domains/research/logins", f"/users/{world.id('mia')}/logins"):
        await world.piotr.get(path, expect=404 if path.startswith("/users") else 403)
    await world.nobody.get(f"/domains/research/logins/{key}", expect=404)
    await bearer(world, made).get("/auth")
    await world.dana.delete(f"/domains/research/logins/{key}")
    await bearer(world, made).get("/auth", expect=401)
    roots = await log_in(world, "root")
    given = {"user_id": str(world.id("dana")), "role": "domain_admin"}
    await world.root.post("/domains/default/role-bindings", given, expect=201)
    await world.dana.delete(f"/domains/default/logins/{roots['login_id']}", expect=403)
    await bearer(world, roots).get("/auth")


async def test_no_answer_shows_what_a_login_is_proved_with(world: World) -> None:
    made = await log_in(world)
    _, family, secret = made["refresh_token"].split(".")
    (row,) = await world.sql("SELECT * FROM login WHERE id = $1", made["login_id"])
    assert family not in str(dict(row))
    assert secret not in str(dict(row))
    shown = await world.root.get(f"/admin/logins/{made['login_id']}")
    assert {"refresh_digest", "family_digest", "client_network"}.isdisjoint(shown)


async def test_purging_a_user_takes_its_logins_along(world: World) -> None:
    who = await world.newcomer("leaving")
    made = await log_in(world, "leaving", password="a long enough password")
    await bearer(world, made).get("/auth")
    await world.root.delete(f"/admin/users/{who.id}")
    await world.root.delete(f"/admin/users/{who.id}", purge="1")
    assert await world.sql("SELECT 1 FROM login WHERE user_id = $1", who.id) == []
    await bearer(world, made).get("/auth", expect=401)


async def test_logins_that_ended_long_ago_are_swept_and_others_stay(world: World) -> None:
    old, expired, present = await log_in(world), await log_in(world), await log_in(world)
    for made, days in ((old, 31), (expired, 29)):
        ended = "UPDATE login SET expires_at = now() - make_interval(days => $2) WHERE id = $1"
        await world.sql(ended, made["login_id"], days)
    async with world.app.working(housekeeper=True) as sweeper:
        await sweeper.once()
    kept = {str(row["id"]) for row in await world.sql("SELECT id FROM login")}
    assert kept == {expired["login_id"], present["login_id"]}
    record = (await world.records("admin_sweep_installation"))[-1]
    assert (record["principal"]["name"], record["result"]) == ("system:sweeper", "succeeded")
