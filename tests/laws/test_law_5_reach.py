"""Law 5: no one grants, or takes over, more than they hold; and somebody always stays in charge."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from actions.action import PermitMisused
from actions.entities import ALL_SPECS
from actions.errors import ChamberlainError, Internal
from actions.processor import Given, Handler, Offer
from actions.standard import Spec
from actions.vocabulary import DELETE, PURGE, Controls, ScopeType
from server.repositories.unit import Unit
from server.repositories.users import UserRepository
from tests.laws.support import (
    Places,
    action,
    aimed,
    an_archive,
    catalogue,
    edited,
    persona,
    pipeline,
    plausible,
    request,
    spec_named,
)
from tests.world.client import Caller
from tests.world.stage import PASSWORD as ROOTS_PASSWORD
from tests.world.stage import Persona
from tests.world.world import World


def _gentlest_first(spec: Spec) -> tuple[bool, ...]:
    """What is gone cannot be tried again: so users and projects go last, and deleting after all else."""
    operation = (spec.each or spec).operation
    return spec.entity.name in ("user", "project"), operation == PURGE, operation == DELETE


OFFERED = sorted((spec for spec in ALL_SPECS if not spec.internal), key=_gentlest_first)
TAKEN_OVER_BY = {
    "domain_update_user",
    "domain_delete_user",
    "domain_reset_password_user",
    "domain_update_keypair",
    "domain_deactivate_keypair",
    "domain_activate_keypair",
    "domain_delete_keypair",
    "domain_purge_keypair",
    "domain_delete_login",
    "domain_purge_login",
    "domain_create_role_binding",
    "domain_update_role_binding",
    "domain_delete_role_binding",
}
"""What an admin of a domain does, by the shipped policy, to those who hold no more than it does."""


ACCOUNT = """
    SELECT to_jsonb(u)::text AS told FROM users u WHERE u.id = $1
    UNION ALL SELECT (to_jsonb(k) - 'num_queries' - 'last_used')::text FROM keypair k WHERE k.user_id = $1
    UNION ALL SELECT to_jsonb(l)::text FROM login l WHERE l.user_id = $1
    UNION ALL SELECT to_jsonb(b)::text FROM role_binding b WHERE b.user_id = $1
    ORDER BY 1"""


async def account(world: World, user: UUID) -> list[str]:
    """All that is kept of a user: its row, its key pairs (how often used apart), its logins, its bindings."""
    async with world.app.database.connection() as connection:
        rows = await connection.fetch(ACCOUNT, user)
    return [row["told"] for row in rows]


async def belongings(world: World, user: UUID) -> dict[str, list[object]]:
    """What an action on a user can aim at, by entity."""
    keypairs = await world.sql("SELECT id FROM keypair WHERE user_id = $1", user)
    bindings = await world.sql("SELECT id FROM role_binding WHERE user_id = $1", user)
    logins = await world.sql("SELECT id FROM login WHERE user_id = $1", user)
    return {
        "user": [user],
        "keypair": [row["id"] for row in keypairs],
        "login": [row["id"] for row in logins],
        "role_binding": [row["id"] for row in bindings],
    }


async def furnish(world: World, user: UUID, home: str, name: str, password: str) -> None:
    """Give a user a key pair that is stopped and one that is deleted, and two logins, one of them ended: so that
    every operation has its object."""
    given = {"domain": home, "username": name, "password": password}
    ended, _ = [(await world.stranger().post("/auth/authorize", given))["login_id"] for _ in range(2)]
    await world.root.delete(f"/admin/logins/{ended}")
    for ending in ("deactivate", ""):
        made = await world.root.post(f"/users/{user}/keypairs", {}, expect=201)
        path = f"/admin/keypairs/{made['id']}"
        await (world.root.post(f"{path}/deactivate") if ending else world.root.delete(path))


async def try_everything(
    world: World, caller: Caller, victim: UUID, home: str, specs: Sequence[Spec] = OFFERED
) -> tuple[set[str], Mapping[str, list[str]]]:
    """Every action of the catalogue, in every scope, on a user and what is its own. Returns which succeeded, and
    what the account was like before each action that changed it."""
    domain = (await world.sql("SELECT id FROM domain WHERE name = $1", home))[0]["id"]
    project = (await world.sql("SELECT id FROM project WHERE domain_id = $1", domain))[0]["id"]
    policy = world.app.policy.current().digest
    record = (await world.sql("SELECT max(action_id::text) AS id FROM audit_record"))[0]["id"]
    succeeded: set[str] = set()
    changed: dict[str, list[str]] = {}
    before = await account(world, victim)
    for spec in specs:
        keys = {kind: await world.sql(f"SELECT id FROM {kind}") for kind in ("signing_key", "audit_key")}
        others: dict[str, list[object]] = {
            "domain": [domain],
            "project": [project],
            "policy": [policy],
            **{kind: [row["id"] for row in rows] for kind, rows in keys.items()},
            "audit_record": [record],
            "audit_archive": [await an_archive(world)],
            "audit_subject": [victim],
        }
        aims = others | await belongings(world, victim)
        names_one = (spec.operation.on_item and not spec.on_own_scope) or spec.each is not None
        targets = aims[spec.entity.name] if names_one else [""]
        for target in targets:
            for body in plausible(spec, victim, domain):
                answer = await request(caller, spec, Places(home, str(project), str(victim)), target, body)
                if answer.is_success:
                    succeeded.add(spec.name)
                if (now := await account(world, victim)) != before:
                    changed[spec.name], before = before, now
    return succeeded, changed


async def test_dana_tries_every_action_on_root_and_roots_account_does_not_change(world: World) -> None:
    """Dana runs the domain that root lives in."""
    home = "default"
    given = {"user_id": str(world.id("dana")), "role": "domain_admin"}
    await world.root.post(f"/domains/{home}/role-bindings", given, expect=201)
    root = world.id("root")
    await furnish(world, root, home, "root", ROOTS_PASSWORD)
    before = await account(world, root)
    succeeded, changed = await try_everything(world, world.dana, root, home)
    assert changed == {}
    assert await account(world, root) == before
    assert succeeded >= {"domain_user", "domain_search_users", "domain_update_domain"}, "dana does run the domain"

    gone = await world.newcomer("gone", home)
    await world.root.post("/admin/role-bindings", {"user_id": str(gone.id), "role": "superadmin"}, expect=201)
    await world.root.delete(f"/admin/users/{gone.id}")
    _, changed = await try_everything(world, world.dana, gone.id, home)
    assert changed == {}, "a deleted superadmin can come back, so its account is guarded too"


async def test_what_dana_is_kept_from_is_what_she_may_do_to_her_own_people(world: World) -> None:
    """The sweep above would prove nothing if its requests failed for some other reason. What is gone cannot be done
    to again, so the batches get somebody of their own."""
    alone = [spec for spec in OFFERED if spec.each is None]
    batches = [spec for spec in OFFERED if spec.each is not None]
    in_batches = {spec.name for spec in batches if spec.each and spec.each.name in TAKEN_OVER_BY}
    for name, specs, expected in (("ben", alone, TAKEN_OVER_BY), ("bea", batches, in_batches)):
        person = await world.newcomer(name)
        await furnish(world, person.id, "research", name, "a long enough password")
        succeeded, changed = await try_everything(world, world.dana, person.id, "research", specs)
        assert succeeded >= expected
        assert changed.keys() >= expected


async def test_a_binding_elsewhere_protects_an_account_in_all_its_scopes(world: World) -> None:
    """Mia holds something where dana holds nothing; so dana takes over no part of her, and still runs the domain."""
    given = {"user_id": str(world.id("mia")), "role": "domain_member"}
    await world.root.post("/domains/elsewhere/role-bindings", given, expect=201)
    path = f"/domains/research/users/{world.id('mia')}"
    for change in ({"email": "taken@example.org"}, {"status": "inactive"}, {"allowed_client_ip": ["192.0.2.1"]}):
        await world.dana.patch(path, change, expect=403)
    await world.dana.post(f"{path}/reset_password", {"password": "a password of dana's"}, expect=403)
    await world.dana.delete(path, expect=403)
    held = await world.dana.get("/domains/research/role-bindings", filter={"user_id": {"equals": str(world.id("mia"))}})
    for binding in held["items"]:
        await world.dana.delete(f"/domains/research/role-bindings/{binding['id']}")


async def test_who_takes_part_is_not_decided_over_the_heads_of_those_above(world: World) -> None:
    """Piotr decides who takes part in lab, those excepted who stand above it: a role may carry denies, too."""
    await world.root.post(
        "/domains/research/role-bindings", {"user_id": str(world.id("mia")), "role": "auditor"}, expect=201
    )
    held = await world.piotr.get(f"/projects/{world.places.lab}/role-bindings")
    mias = next(item for item in held["items"] if item["user_id"] == str(world.id("mia")))
    await world.piotr.delete(f"/projects/{world.places.lab}/role-bindings/{mias['id']}", expect=403)
    await world.dana.delete(f"/domains/research/role-bindings/{mias['id']}", expect=403)
    given = {"user_id": str(world.id("mia")), "role": "project_admin"}
    await world.dana.post(f"/projects/{world.places.lab}/role-bindings", given, expect=403)
    await world.root.delete(f"/admin/role-bindings/{mias['id']}")


async def test_no_one_grants_what_they_lack(world: World) -> None:
    mia = str(world.id("mia"))
    before = await account(world, world.id("mia"))
    for caller, path, role, status in (
        (world.dana, "/admin", "superadmin", 403),
        (world.dana, "/domains/elsewhere", "domain_admin", 404),
        (world.dana, "/domains/research", "auditor", 403),
        (world.dana, "/domains/research", "superadmin", 422),
        (world.dana, "/domains/research", "owner", 422),
        (world.dana, "/domains/research", "system_sweeper", 422),
        (world.dana, "/domains/research", "no_such_role", 422),
        (world.piotr, "/domains/research", "domain_member", 403),
        (world.mia, f"/projects/{world.places.lab}", "project_member", 403),
        (world.olga, "/domains/research", "domain_member", 403),
    ):
        await caller.post(f"{path}/role-bindings", {"user_id": mia, "role": role}, expect=status)
    assert await account(world, world.id("mia")) == before
    await world.dana.post("/domains/research/role-bindings", {"user_id": mia, "role": "domain_admin"}, expect=201)
    told = (await world.records("domain_create_role_binding"))[-2]
    assert told["result"] == "denied"


async def test_a_projects_admin_gives_its_project_away_and_nothing_beyond(world: World) -> None:
    """Piotr makes ben a participant, then an admin beside him; he makes nothing of dana, who stands above him."""
    ben, path = await world.newcomer("ben"), f"/projects/{world.places.lab}/role-bindings"
    await world.piotr.post(path, {"user_id": str(ben.id), "role": "project_member"}, expect=201)
    made = await world.piotr.post(path, {"user_id": str(ben.id), "role": "project_admin"}, expect=201)
    await world.as_(ben).get(path)
    await world.as_(ben).delete(f"{path}/{made['id']}")
    annex = await world.project("annex")
    for caller, where, who, role, status in (
        (world.piotr, path, "dana", "project_member", 403),
        (world.piotr, path, "root", "project_member", 422),  # lives in another domain
        (world.piotr, path, "mia", "domain_admin", 422),
        (world.piotr, path, "mia", "owner", 422),
        (world.piotr, f"/projects/{annex}/role-bindings", "mia", "project_member", 404),
        (world.mia, path, "ben", "project_member", 403),
        (world.dana, path, "mia", "project_admin", 201),
        (world.dana, f"/projects/{annex}/role-bindings", "mia", "project_admin", 201),
    ):
        user = ben.id if who == "ben" else world.id(who)
        await caller.post(where, {"user_id": str(user), "role": role}, expect=status)


async def test_a_role_in_a_project_that_reaches_further_is_not_a_projects_admins_to_give(world: World) -> None:
    """A role above the admins of projects: they neither give it nor take it, nor any other of who holds it there."""
    source = edited(
        world,
        without="p, project_admin, project, project, update",
        roles="project_owner:\n  bindable: [project]\n  sentence: Runs a project and its admins.\n",
        project="g, project_owner, project_admin\np, project_owner, project, project, update, allow",
    )
    await world.app.policy.use(source)
    ben, path = await world.newcomer("ben"), f"/projects/{world.places.lab}/role-bindings"
    given = {"user_id": str(ben.id), "role": "project_owner"}
    for caller in (world.piotr, world.dana):
        await caller.post(path, given, expect=403)
    owning = await world.root.post(path, given, expect=201)
    also = await world.root.post(path, {**given, "role": "project_member"}, expect=201)
    for binding in (owning, also):
        await world.piotr.delete(f"{path}/{binding['id']}", expect=403)
    await world.piotr.post(path, {**given, "role": "project_admin"}, expect=403)
    await world.as_(ben).delete(f"{path}/{owning['id']}")
    await world.piotr.delete(f"{path}/{also['id']}")


async def test_no_one_grants_for_longer_than_they_hold(world: World) -> None:
    tia = await world.newcomer("tia")
    until = datetime.now(UTC) + timedelta(days=7)
    given = {"user_id": str(tia.id), "role": "domain_admin", "expires_at": until.isoformat()}
    own = await world.root.post("/domains/research/role-bindings", given, expect=201)
    caller, path = world.as_(tia), "/domains/research/role-bindings"
    wanted: dict[str, object] = {"user_id": str(world.id("mia")), "role": "domain_admin"}
    await caller.post(path, wanted, expect=403)
    await caller.post(path, {**wanted, "expires_at": (until + timedelta(seconds=1)).isoformat()}, expect=403)
    made = await caller.post(path, {**wanted, "expires_at": until.isoformat()}, expect=201)
    for binding in (made, own):
        for later in (None, (until + timedelta(seconds=1)).isoformat()):
            await caller.patch(f"{path}/{binding['id']}", {"expires_at": later}, expect=403)
    sooner = (until - timedelta(days=1)).isoformat()
    await caller.patch(f"{path}/{made['id']}", {"expires_at": sooner})
    lasting: dict[str, object] = {"user_id": str(world.id("piotr")), "role": "domain_member"}
    held = await world.root.get(path, filter={"user_id": {"equals": str(world.id("piotr"))}})
    await world.root.delete(f"{path}/{held['items'][0]['id']}")
    await caller.post(path, lasting, expect=201)  # tia holds membership itself without an end


async def test_no_one_lifts_a_deny_that_lies_on_them(world: World) -> None:
    """A role that only forbids is held against its holder, so its holder has no say in how long."""
    await world.app.policy.use(
        edited(
            world,
            roles="suspended:\n  bindable: [domain]\n  sentence: Is kept from looking at users.\n",
            domain="p, suspended, domain, user, search, deny",
        )
    )
    path, soon = "/domains/research/role-bindings", (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    given = {"user_id": str(world.id("dana")), "role": "suspended"}
    own = f"{path}/{(await world.root.post(path, given, expect=201))['id']}"
    before = await account(world, world.id("dana"))
    await world.dana.delete(own, expect=403)
    await world.dana.delete(own, expect=403, purge="1")
    await world.dana.patch(own, {"expires_at": soon}, expect=403)
    assert await account(world, world.id("dana")) == before
    await world.dana.get("/domains/research/users", expect=403)
    await world.root.delete(own)
    await world.dana.get("/domains/research/users")
    await world.dana.delete(own, purge="1")  # now it holds nobody back


async def test_no_one_takes_over_for_longer_than_they_hold(world: World) -> None:
    """A superadmin of five more minutes could otherwise stay one for good, in root's place."""
    tia, rex = await world.newcomer("tia"), await world.newcomer("rex")
    until = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    for who, end in ((tia, until), (rex, None)):
        given = {"user_id": str(who.id), "role": "superadmin", "expires_at": end}
        await world.root.post("/admin/role-bindings", given, expect=201)
    root, password = world.id("root"), {"password": "a password of tia's"}
    before = await account(world, root)
    await world.as_(tia).post(f"/users/{root}/keypairs", {}, expect=403)
    await world.as_(tia).post(f"/admin/users/{root}/reset_password", password, expect=403)
    assert await account(world, root) == before
    await world.as_(rex).post(f"/users/{root}/keypairs", {}, expect=201)
    await world.as_(rex).post(f"/admin/users/{root}/reset_password", password)


async def test_ones_own_credentials_are_ones_own(world: World) -> None:
    """Whatever one holds: an auditor reaches further than anyone who could be asked to help."""
    caller, me = world.olga, "/users/me"
    made = await caller.post(f"{me}/keypairs", {}, expect=201)
    path = f"{me}/keypairs/{made['id']}"
    for operation in ("deactivate", "activate", "rotate"):
        await caller.post(f"{path}/{operation}")
    await caller.patch(path, {"is_default": True})
    await caller.delete(path)
    await caller.delete(path, purge="1")
    await caller.patch(me, {"email": "olga@example.com", "allowed_client_ip": ["127.0.0.1"]})


async def test_a_service_that_forgets_to_ask_is_stopped_at_the_commit(world: World) -> None:
    """A spec that controls an account commits nothing, unless somebody asked whether it may."""
    users = UserRepository()

    def forgetting(values: Mapping[str, object], *, transaction: bool) -> Handler[Unit]:
        async def forgets(unit: Unit, given: Given[Any]) -> Any:
            if transaction:
                await unit.begin()
            row = await users.own(unit, given.target_id)
            return users.item(unit, await users.change(unit, row, values))  # type: ignore[arg-type]

        return forgets

    whole = spec_named("domain_reset_password_user")
    by_field = replace(spec_named("domain_update_user"), controls_principal=Controls(frozenset({"email"})))
    for spec, body, values in (
        (whole, {"password": "a new password"}, {"description": "x"}),
        (by_field, {}, {"email": "taken@example.org"}),
    ):
        for transaction in (True, False):
            before = await account(world, world.id("mia"))
            asked = action(spec, persona(world, "dana"), "research", target=world.id("mia"), given=body)
            with pytest.raises(Internal) as stopped:
                await pipeline(world, {spec: forgetting(values, transaction=transaction)}).execute(asked)
            assert isinstance(stopped.value.__cause__, PermitMisused)
            assert await account(world, world.id("mia")) == before
    harmless = action(by_field, persona(world, "dana"), "research", target=world.id("mia"))
    changed = await pipeline(world, {by_field: forgetting({"description": "x"}, transaction=False)}).execute(harmless)
    assert changed.description == "x"


def test_every_spec_that_touches_an_account_says_so() -> None:
    """What does more than read a user, its key pairs, logins or roles can take it over; making a user takes over
    nobody, and logging in is for whoever knows the password."""
    for spec in OFFERED:
        touches = spec.entity.name in ("user", "keypair", "login", "role_binding") and not spec.operation.reads
        creates_nobody = spec.entity.name == "user" and not (spec.operation.on_item or spec.each)
        taken_over = touches and not creates_nobody and not spec.anonymous
        assert (spec.controls_principal is not None) == taken_over, spec.name


# -- the last superadmin --


async def in_charge(world: World) -> int:
    rows = await world.sql(
        """SELECT count(*) AS total FROM role_binding b JOIN users u ON u.id = b.user_id
           JOIN domain d ON d.id = u.domain_id
           WHERE b.role = 'superadmin' AND b.deleted_at IS NULL AND b.expires_at IS NULL
             AND u.deleted_at IS NULL AND u.status = 'active' AND d.deleted_at IS NULL"""
    )
    return int(rows[0]["total"])


async def superadmin_binding(world: World, user: UUID) -> UUID:
    rows = await world.sql("SELECT id FROM role_binding WHERE user_id = $1 AND role = 'superadmin'", user)
    key: UUID = rows[0]["id"]
    return key


async def ways_out(world: World, who: Persona, home: UUID) -> list[tuple[Spec, object, dict[str, object]]]:
    """Every action that would leave a superadmin without its role."""
    binding = await superadmin_binding(world, who.id)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    return [
        (spec_named("admin_delete_role_binding"), binding, {}),
        (spec_named("admin_update_role_binding"), binding, {"expires_at": tomorrow}),
        (spec_named("admin_delete_user"), who.id, {}),
        (spec_named("admin_update_user"), who.id, {"status": "inactive"}),
        (spec_named("admin_delete_domain"), home, {}),
        (spec_named("admin_batch_delete_role_bindings"), binding, {}),
        (spec_named("admin_batch_update_role_bindings"), binding, {"expires_at": tomorrow}),
        (spec_named("admin_batch_delete_users"), who.id, {}),
        (spec_named("admin_batch_update_users"), who.id, {"status": "inactive"}),
        (spec_named("admin_batch_delete_domains"), home, {}),
    ]


async def test_the_last_superadmin_stays_whatever_way_it_is_shown_out(world: World) -> None:
    root = world.personas["root"]
    before = await account(world, root.id)
    nowhere = Places("", "", "")
    for spec, target, body in await ways_out(world, root, world.places.default):
        answer = await request(world.root, spec, nowhere, target, body)
        assert (answer.status_code, answer.json().get("code", "").endswith("last-superadmin")) == (409, True), spec
    assert await account(world, root.id) == before
    temporary = await world.newcomer("temp")
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    given = {"user_id": str(temporary.id), "role": "superadmin", "expires_at": soon}
    await world.root.post("/admin/role-bindings", given, expect=201)
    binding = await superadmin_binding(world, root.id)
    await world.root.delete(f"/admin/role-bindings/{binding}", expect=409)  # one who leaves soon is not in charge


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 2), (1, 3), (2, 4), (4, 4), (7, 2), (5, 8)])
async def test_the_last_two_superadmins_cannot_be_removed_at_once(world: World, first: int, second: int) -> None:
    """Each removal is decided, and made, before the other commits, as far as they let one another."""
    rex = await world.newcomer("rex")
    await world.root.post("/admin/role-bindings", {"user_id": str(rex.id), "role": "superadmin"}, expect=201)
    wanted = (
        (await ways_out(world, world.personas["root"], world.places.default))[first],
        (await ways_out(world, rex, world.places.research))[second],
    )
    decided = asyncio.Barrier(2)
    done = [asyncio.Event(), asyncio.Event()]
    offers: Any = catalogue(world)

    async def remove(place: int) -> int:
        spec, target, body = wanted[place]

        async def together(unit: Unit, given: Given[Any]) -> Any:
            await decided.wait()
            made = await offers[spec].handler(unit, given)
            done[place].set()
            try:
                async with asyncio.timeout(0.5):
                    await done[1 - place].wait()
            except TimeoutError:
                pass  # the other waits for this commit, as it should
            return made

        asked = action(spec, persona(world, "root"), target=target, given=aimed(spec, target, body))
        try:
            await pipeline(world, {spec: Offer(spec, together)}).execute(asked)
        except ChamberlainError as refused:
            return refused.face
        return 200

    assert sorted(await asyncio.gather(remove(0), remove(1))) == [200, 409]
    assert await in_charge(world) == 1


def test_the_sweep_reaches_every_scope() -> None:
    assert {spec.scope_type for spec in OFFERED} == set(ScopeType)
