"""Logging in, staying in, and what ends it."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from argon2 import PasswordHasher

from audit.lane import IN_FULL
from audit.redaction import NOBODY, unseal
from server.passwords import Passwords
from server.repositories.database import Database
from server.repositories.subject_keys import SubjectKeys
from tests.laws.support import edited, spec_named
from tests.laws.test_law_6_faces import faceless
from tests.original_client import code, failures
from tests.signing_in import ask, bearer, claim, log_in, refresh
from tests.world.stage import PASSWORD, Persona, Stage
from tests.world.world import World, new_world

NEW = "an entirely new password"

# -- getting in --


async def test_a_right_password_is_answered_with_a_token_that_works(world: World) -> None:
    tokens = await log_in(world)
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 600
    assert 7 * 86_400 - 5 <= tokens["refresh_expires_in"] <= 7 * 86_400
    assert (tokens["user_id"], tokens["data"]) == (str(world.id("mia")), None)
    told = await bearer(world, tokens).get("/auth/whoami")
    assert (told["username"], told["login_id"], told["access_key"]) == ("mia", tokens["login_id"], None)
    changed = await bearer(world, tokens).patch("/users/me", {"full_name": "Mia by token"})
    assert changed["full_name"] == "Mia by token"
    record = (await world.records("user_update_user"))[-1]
    assert record["principal"]["credential"] == f"login:{tokens['login_id']}"


async def test_a_name_or_an_e_mail_address_says_who_it_is_and_default_is_the_domain(world: World) -> None:
    assert (await log_in(world, username="mia@example.org"))["user_id"] == str(world.id("mia"))
    answer = await ask(world, {"username": "root", "password": PASSWORD})
    assert answer.json()["user_id"] == str(world.id("root"))
    longer = await ask(world, claim(stoken="", otp="123456", client_type_id="web", force=True))
    assert longer.status_code == 200, longer.text
    by_its_own_name = await ask(world, claim(), path="/admin/logins/authorize")
    assert by_its_own_name.status_code == 200


async def test_whatever_else_the_request_carries_is_not_looked_at(world: World) -> None:
    stranger = world.stranger()
    for headers in ({"authorization": "Bearer x"}, {"x-backendai-token": "x"}, {"authorization": "BackendAI x"}):
        answer = await stranger.send("POST", "/auth/authorize", claim(), headers=headers)
        assert answer.status_code == 200, answer.text
    await world.root.post("/auth/authorize", claim())
    assert {record["principal"]["name"] for record in await world.records("admin_authorize_login")} == {"anonymous"}
    assert await world.records("authenticate") == []


async def test_the_form_of_the_original_system_holds_a_key_pair_that_signs(world: World) -> None:
    for name, role in (("root", "superadmin"), ("dana", "admin"), ("mia", "user")):
        tokens = await log_in(world, name, type="keypair")
        data = tokens["data"]
        persona = world.personas[name]
        assert data == {
            "response_type": "success",
            "type": "keypair",
            "user_id": str(persona.id),
            "access_key": persona.access_key if name != "root" else data["access_key"],
            "secret_key": data["secret_key"],
            "role": role,
            "status": "active",
            "session_token": tokens["access_token"],
        }
        signer = Persona(name, persona.id, data["access_key"], data["secret_key"])
        assert (await world.as_(signer).get("/auth/whoami"))["id"] == str(persona.id)


async def test_the_default_key_pair_is_given_then_the_oldest_and_none_that_does_not_sign(world: World) -> None:
    async def given() -> Any:
        return (await log_in(world, type="keypair"))["data"]["access_key"]

    first = world.personas["mia"].access_key
    second = await world.mia.post("/users/me/keypairs", {}, expect=201)
    third = await world.mia.post("/users/me/keypairs", {"is_default": True}, expect=201)
    assert await given() == third["access_key"]
    await world.mia.post(f"/users/me/keypairs/{third['id']}/deactivate")
    assert await given() == first
    (oldest,) = await world.sql("SELECT id FROM keypair WHERE access_key = $1", first)
    await world.root.delete(f"/admin/keypairs/{oldest['id']}")
    assert await given() == second["access_key"]
    await world.root.delete(f"/admin/keypairs/{second['id']}")
    before = await world.sql("SELECT id FROM login")
    refused = await ask(world, claim(type="keypair"))
    assert (refused.status_code, code(refused)) == (409, "login-authorize-no-keypair")
    assert await world.sql("SELECT id FROM login") == before, "what is refused makes no login"


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"username": "mia"}, "/password"),
        ({"username": "mia", "password": "x" * 1025}, "/password"),
        ({"username": "m\0", "password": "x"}, "/username"),
        ({"username": "", "password": "x"}, "/username"),
        ({"username": "mia", "password": "x", "type": "jwt"}, "/type"),
        ({"username": "mia", "password": "x", "new_password": "short"}, "/new_password"),
        ({"username": "mia", "password": 1}, "/password"),
        ({"username": "mia", "password": "x", "surprise": 1}, "/surprise"),
    ],
)
async def test_what_cannot_be_a_log_in_is_told_by_its_place(world: World, given: Any, pointer: str) -> None:
    answer = await ask(world, given)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


# -- not getting in --


async def test_every_way_to_be_wrong_looks_alike_and_costs_alike(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look-up and one check of a password, at today's cost, whoever is claimed and whatever is wrong with them."""
    async with new_world(stage, login_failures_burst=100) as world:
        wrongs: dict[str, dict[str, object]] = {
            "wrong password": claim(password="not it"),
            "no such user": claim(username="ghost"),
            "no such domain": claim(domain="nowhere"),
            "no domain at all": claim(domain="No Such Thing!"),
            "another's domain": claim("mia", domain="elsewhere"),
        }
        for state, change in (
            ("inactive", {"status": "inactive"}),
            ("unverified", {"status": "before-verification"}),
            ("elsewhere", {"allowed_client_ip": ["192.0.2.0/24"]}),
        ):
            who = await world.newcomer(state)
            await world.root.patch(f"/admin/users/{who.id}", change)
            wrongs[state] = claim(state, password="a long enough password")
        gone = await world.newcomer("gone")
        await world.root.delete(f"/admin/users/{gone.id}")
        wrongs["gone"] = claim("gone", password="a long enough password")
        await world.root.post("/admin/domains", {"name": "closed"}, expect=201)
        await world.newcomer("shut", "closed")
        closed = (await world.root.get("/domains/closed"))["id"]
        await world.root.delete(f"/admin/domains/{closed}")
        wrongs["closed"] = {"domain": "closed", "username": "shut", "password": "a long enough password"}

        checked: list[str] = []
        looked_up: list[str] = []
        checking, asking = Passwords._verify, Database.fetchrow

        def counted(self: Passwords, stored: str, password: str) -> bool:
            checked.append(stored.rpartition("$")[0].rpartition("$")[0])
            return checking(self, stored, password)

        async def asked(self: Database, query: Any, values: Any) -> Any:
            looked_up.append(query.sql)
            return await asking(self, query, values)

        await ask(world, claim(username="ghost"))  # so that the key of nobody's personal data is at hand
        monkeypatch.setattr(Passwords, "_verify", counted)
        monkeypatch.setattr(Database, "fetchrow", asked)
        shown, costs = {}, {}
        for name, given in wrongs.items():
            checked.clear()
            looked_up.clear()
            shown[name] = faceless(await ask(world, given))
            costs[name] = (list(checked), [sql for sql in looked_up if "subject_key" not in sql])
        assert len(set(shown.values())) == 1, shown
        assert next(iter(shown.values()))[0] == 401
        detail = "Name and password do not match an account that may come in from here."
        assert ("detail", detail) in next(iter(shown.values()))[1]
        assert len({str(cost) for cost in costs.values()}) == 1, costs
        assert [len(part) for part in costs["gone"]] == [1, 1]
        assert checked == ["$argon2id$v=19$m=19456,t=2,p=1"]
        causes = {str(failures(world, reason)) for reason in ("wrong-password", "account-not-in-force")}
        assert failures(world, "address-not-allowed") == 1
        assert "None" not in causes


async def test_no_connection_is_held_while_a_password_is_checked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    checking = Passwords._in_turn

    async def watched(self: Passwords, work: Any) -> Any:
        held.append(world.app.database.occupancy()[0])
        return await checking(self, work)

    monkeypatch.setattr(Passwords, "_in_turn", watched)
    await log_in(world)
    await log_in(world, new_password=NEW)
    assert held == [0, 0, 0]


async def test_a_queue_that_is_too_long_is_told_and_is_no_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen wait; whoever comes after them is not even checked, and is not held to have failed."""
    checking, free = Passwords._verify, threading.Event()

    def waiting(self: Passwords, stored: str, password: str) -> bool:
        assert free.wait(10)
        return checking(self, stored, password)

    monkeypatch.setattr(Passwords, "_verify", waiting)
    crowd = [asyncio.create_task(ask(world, claim())) for _ in range(24)]
    early, _ = await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)
    free.set()
    answers = await asyncio.gather(*crowd)
    assert {code(task.result()) for task in early} == {"login-authorize-too-many-passwords"}
    assert sorted({answer.status_code for answer in answers}) == [200, 503]
    assert sum(answer.status_code == 200 for answer in answers) >= 16
    await log_in(world)


async def test_a_password_that_changes_while_it_is_checked_lets_nobody_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking = Passwords.verify

    async def slow(self: Passwords, stored: str | None, password: str) -> bool:
        right = await checking(self, stored, password)
        if password == PASSWORD:
            await world.root.post(f"/admin/users/{world.id('mia')}/reset_password", {"password": NEW})
        return right

    monkeypatch.setattr(Passwords, "verify", slow)
    answer = await ask(world, claim())
    assert (answer.status_code, code(answer)) == (409, "login-authorize-version-clash")
    assert await world.sql("SELECT 1 FROM login") == []


async def test_an_account_that_is_closed_while_the_password_is_checked_lets_nobody_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking = Passwords.verify

    async def slow(self: Passwords, stored: str | None, password: str) -> bool:
        right = await checking(self, stored, password)
        await world.root.patch(f"/admin/users/{world.id('mia')}", {"status": "inactive"})
        return right

    monkeypatch.setattr(Passwords, "verify", slow)
    assert (await ask(world, claim())).status_code == 401
    assert await world.sql("SELECT 1 FROM login") == []


async def test_a_hash_of_another_cost_is_made_anew_and_the_password_stays(world: World) -> None:
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    await world.sql("UPDATE users SET password_hash = $1 WHERE id = $2", cheap, world.id("mia"))
    before = await world.mia.get("/users/me")
    await log_in(world)
    (row,) = await world.sql("SELECT password_hash FROM users WHERE id = $1", world.id("mia"))
    assert row["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await world.mia.get("/users/me") == before, "it is no change of the user"
    await log_in(world)


# -- a password that has to be changed --


async def test_a_password_that_must_be_changed_lets_nobody_in_without_a_new_one(world: World) -> None:
    await world.root.post(f"/admin/users/{world.id('mia')}/reset_password", {"password": "set by somebody else"})
    given = claim(password="set by somebody else")
    for _ in range(10):  # the password is right, so this is no failure that is counted
        refused = await ask(world, given)
        assert (refused.status_code, code(refused)) == (401, "authentication-verify-password-change-needed")
    assert refused.json()["detail"] == "The password has to be changed: send new_password."
    wrong = await ask(world, claim(password="not it", new_password=NEW))
    assert (wrong.status_code, code(wrong)) == (401, "authentication-verify-unauthenticated")
    same = await ask(world, {**given, "new_password": "set by somebody else"})
    assert (same.status_code, same.json()["errors"][0]["pointer"]) == (422, "/new_password")
    tokens = (await ask(world, {**given, "new_password": NEW})).json()
    assert not (await bearer(world, tokens).get("/users/me"))["need_password_change"]
    await log_in(world, password=NEW)
    assert (await ask(world, given)).status_code == 401
    record = next(record for record in await world.records("admin_authorize_login") if record["result"] == "succeeded")
    changes = {change["field"]: change for change in record["changes"]}
    assert changes["password_hash"] == {"field": "password_hash", "confidential": "secret"}
    assert (changes["need_password_change"]["old"], changes["need_password_change"]["new"]) == (True, False)
    assert changes["id"]["new"] == tokens["login_id"]


async def test_a_new_password_ends_what_the_old_one_began(world: World) -> None:
    old = await log_in(world)
    new = await log_in(world, new_password=NEW)
    await bearer(world, old).get("/auth", expect=401)
    await bearer(world, new).get("/auth")
    assert (await refresh(world, old)).status_code == 401


# -- staying in --


async def test_a_refresh_token_is_good_for_one_use(world: World) -> None:
    first = await log_in(world)
    second = (await refresh(world, first)).json()
    third = (await refresh(world, second)).json()
    assert len({tokens["refresh_token"] for tokens in (first, second, third)}) == 3
    assert len({tokens["access_token"] for tokens in (first, second, third)}) == 3
    assert {tokens["login_id"] for tokens in (first, second, third)} == {first["login_id"]}
    assert third["refresh_expires_in"] <= first["refresh_expires_in"], "refreshing moves no end"
    await bearer(world, third).get("/auth")


async def test_a_token_that_is_used_twice_ends_the_login_and_the_record_says_so(world: World) -> None:
    stolen = await log_in(world)
    owner = (await refresh(world, stolen)).json()
    await bearer(world, owner).get("/auth")
    thief = await refresh(world, stolen, address="203.0.113.7")
    assert (thief.status_code, code(thief)) == (401, "authentication-verify-unauthenticated")
    await bearer(world, owner).get("/auth", expect=401)
    assert (await refresh(world, owner)).status_code == 401
    record = (await world.records("admin_refresh_login"))[1]
    assert (record["result"], record["error"]["cause"]) == ("failed", "refresh-token-reused")
    assert [change["field"] for change in record["changes"]] == ["deleted_at"]
    assert record["target"]["id"] == stolen["login_id"]
    assert record["row"]["target_domain_id"] == world.places.research
    assert failures(world, "refresh-token-reused") == 1


async def test_a_thief_who_goes_on_refreshing_is_found_out_by_whatever_the_owner_holds(world: World) -> None:
    """Each token that the login ever had tells of the theft, and not the one before the present one alone."""
    for generations in (2, 5):
        first = await log_in(world)
        thiefs = first
        for _ in range(generations):
            thiefs = (await refresh(world, thiefs, address="203.0.113.7")).json()
        owner = await refresh(world, first)
        assert (owner.status_code, code(owner)) == (401, "authentication-verify-unauthenticated")
        assert (await refresh(world, thiefs, address="203.0.113.7")).status_code == 401
        await bearer(world, thiefs).get("/auth", expect=401)
        reused, over = (await world.records("admin_refresh_login"))[-2:]
        assert (reused["error"]["cause"], over["error"]["cause"]) == ("refresh-token-reused", "login-over")
        assert (reused["target"]["id"], reused["changes"][0]["field"]) == (first["login_id"], "deleted_at")


async def test_a_login_is_not_refreshed_while_its_password_has_to_be_changed(world: World) -> None:
    tokens = await log_in(world)
    user = f"/admin/users/{world.id('mia')}"
    await world.root.patch(user, {"need_password_change": True})
    for _ in range(50):  # what was shown is right, so this is no failure that is counted
        refused = await refresh(world, tokens)
        assert (refused.status_code, code(refused)) == (401, "authentication-verify-password-change-needed")
    assert refused.json()["detail"] == "The password has to be changed: log in and send new_password."
    await world.root.patch(user, {"need_password_change": False})
    assert (await refresh(world, tokens)).status_code == 200, "nothing was spent"


async def test_a_refresh_token_that_is_not_good_refreshes_nothing_and_ends_nothing(world: World) -> None:
    tokens = await log_in(world)
    login, _, secret = tokens["refresh_token"].partition(".")
    other = (await log_in(world, "dana"))["refresh_token"].partition(".")[2]
    for token in (
        "",
        ".",
        login,
        f"{login}.",
        f"{login}.{other}",
        f"{login}.{secret.partition('.')[2]}",
        f"{login}.{other.partition('.')[0]}.{secret.partition('.')[2]}",
        f"{UUID(int=7)}.{secret}",
        secret,
        "\udcff" * 0 + "é.é",
    ):
        answer = await refresh(world, {"refresh_token": token})
        assert (answer.status_code, code(answer)) == (401, "authentication-verify-unauthenticated"), token
    assert (await refresh(world, tokens)).status_code == 200


@pytest.mark.parametrize("ending", ["expired", "ended", "inactive", "address", "domain"])
async def test_a_login_that_is_over_is_not_refreshed(world: World, ending: str) -> None:
    tokens = await log_in(world)
    user = f"/admin/users/{world.id('mia')}"
    match ending:
        case "expired":
            await world.sql("UPDATE login SET expires_at = now()")
        case "ended":
            await world.root.delete(f"/admin/logins/{tokens['login_id']}")
        case "inactive":
            await world.root.patch(user, {"status": "inactive"})
            await world.root.patch(user, {"status": "active"})
        case "address":
            await world.root.patch(user, {"allowed_client_ip": ["192.0.2.1"]})
        case _:
            await world.root.delete(f"/admin/domains/{world.places.research}")
    answer = await refresh(world, tokens)
    assert (answer.status_code, code(answer)) == (401, "authentication-verify-unauthenticated")


async def test_two_who_refresh_at_once_are_one_too_many(world: World) -> None:
    tokens = await log_in(world)
    answers = await asyncio.gather(*(refresh(world, tokens) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 401]
    (row,) = await world.sql("SELECT deleted_at FROM login")
    assert row["deleted_at"] is not None


# -- getting out --


async def test_logging_out_ends_the_login_that_the_request_was_made_with_and_no_other(world: World) -> None:
    here, there = await log_in(world), await log_in(world)
    ended = await bearer(world, here).post("/auth/logout")
    assert (ended["id"], ended["deleted"]) == (here["login_id"], True)
    await bearer(world, here).get("/auth", expect=401)
    assert (await refresh(world, here)).status_code == 401
    await bearer(world, there).get("/auth")
    problem = await world.mia.post("/auth/logout", expect=409)
    assert problem["code"] == "login-logout-no-login"
    roots = await log_in(world, "root")
    await bearer(world, roots).post(f"/users/{world.id('mia')}/logins/logout", expect=404)
    await bearer(world, roots).get("/auth")


@pytest.mark.parametrize("way", ["changed", "reset", "inactive", "deleted", "recovered"])
async def test_what_changes_an_account_ends_its_logins(world: World, way: str) -> None:
    mine, other, danas = await log_in(world), await log_in(world), await log_in(world, "dana")
    for tokens in (mine, other, danas):
        await bearer(world, tokens).get("/auth")
    user = f"/admin/users/{world.id('mia')}"
    spared = 401
    match way:
        case "changed":
            given = {"old_password": PASSWORD, "new_password": NEW}
            await bearer(world, mine).post("/users/me/change_password", given)
            spared = 200  # the one that it was asked with knows the new password
        case "reset":
            await world.root.post(f"{user}/reset_password", {"password": NEW})
        case "inactive":
            await world.root.patch(user, {"status": "inactive"})
        case "deleted":
            await world.root.delete(user)
        case _:
            spec = spec_named("admin_recover_installation")
            await world.app.internally(spec, "system:recovery", {"username": "mia", "password": NEW})
    await bearer(world, mine).get("/auth", expect=spared)
    await bearer(world, other).get("/auth", expect=401)
    await bearer(world, danas).get("/auth")
    if way in ("inactive", "deleted"):
        await (
            world.root.patch(user, {"status": "active"}) if way == "inactive" else world.root.post(f"{user}/restore")
        )
        await bearer(world, other).get("/auth", expect=401)


async def test_a_change_with_a_signature_ends_every_login_and_the_record_counts_them(world: World) -> None:
    first, second = await log_in(world), await log_in(world)
    await world.mia.post("/users/me/change_password", {"old_password": PASSWORD, "new_password": NEW})
    for tokens in (first, second):
        await bearer(world, tokens).get("/auth", expect=401)
    record = (await world.records("user_change_password_user"))[-1]
    assert {"field": "logins_ended", "old": None, "new": 2} in record["changes"]


# -- what the policy says, and the record --


async def test_the_policy_can_forbid_to_log_in(world: World) -> None:
    """Nothing is hidden, and no credentials would help, so it is a 403 and not a 401."""
    tokens = await log_in(world)
    await world.app.policy.use(edited(world, without="p, anonymous,"))
    for path, given in (("/auth/authorize", claim()), ("/auth/refresh", {"refresh_token": tokens["refresh_token"]})):
        assert (await ask(world, given, path=path)).status_code == 403
    record = (await world.records("admin_authorize_login"))[-1]
    assert (record["result"], record["principal"]["kind"]) == ("denied", "anonymous")
    await bearer(world, tokens).get("/auth")


async def test_a_log_in_is_recorded_for_the_auditors_of_the_domain(world: World) -> None:
    tokens = await log_in(world)
    await ask(world, claim(password="not it"))
    done, failed = await world.records("admin_authorize_login")
    assert (done["result"], done["row"]["target_domain_id"]) == ("succeeded", world.places.research)
    assert (done["target"]["id"], done["row"]["target_user_id"]) == (tokens["login_id"], world.id("mia"))
    assert (failed["result"], failed["error"]["cause"]) == ("failed", "wrong-password")
    assert (failed["target"]["id"], failed["row"]["target_domain_id"]) == (str(world.id("mia")), world.places.research)
    for record in (done, failed):
        assert [part["subject"] for part in record["sealed"]] == [str(world.id("mia"))], "it is erased with her"


async def test_who_a_stranger_said_it_was_is_told_to_nobody_but_the_holder_of_the_keys(world: World) -> None:
    """People type their password where their name belongs."""
    await ask(world, claim(username="hunter2 hunter2"))
    (record,) = await world.records("admin_authorize_login")
    assert record["target"] is None
    assert b"hunter2" not in record["row"]["leaf"]
    key = await SubjectKeys(world.app.database, world.app.ring).subject_keys([NOBODY])
    opened = unseal(record["row"]["leaf"], record["row"]["sealed"], key)
    assert opened[NOBODY] == {"client_address": "127.0.0.1", "claimed": "hunter2 hunter2"}


async def test_a_flood_of_failed_log_ins_adds_a_bounded_number_of_records(stage: Stage) -> None:
    async with new_world(stage, login_failures_burst=1000) as world:
        for number in range(3 * IN_FULL):
            path, given = (
                ("/auth/authorize", {"username": number})
                if number % 2
                else ("/auth/refresh", {"refresh_token": f"{number}"})
            )
            assert (await ask(world, given, path=path)).status_code in (401, 422)
        assert len(await _anonymous(world)) <= 2 * IN_FULL  # a minute may have turned in between
        await world.app.failures.flush(datetime.now(UTC) + timedelta(minutes=1))
        told = await _anonymous(world)
        counts = [record["error"]["count"] for record in told if "count" in record["error"]]
        assert sum(counts) + len(told) - len(counts) == 3 * IN_FULL
        named = {record["action"] for record in told if "count" in record["error"]}
        assert named == {"admin_authorize_login", "admin_refresh_login"}
        assert (await ask(world, claim())).status_code == 200
        results = [record["result"] for record in await world.records("admin_authorize_login")]
        assert results.count("succeeded") == 1, "a success is told in full, whatever came before it"


async def _anonymous(world: World) -> list[dict[str, Any]]:
    return [record for record in await world.records() if record["principal"]["name"] == "anonymous"]


async def test_a_failed_log_in_that_cannot_be_recorded_is_not_answered(world: World) -> None:
    await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    answer = await ask(world, claim(password="not it"))
    assert (answer.status_code, code(answer)) == (503, "login-authorize-audit-unavailable")
    assert (await ask(world, claim())).status_code == 503
    assert await world.sql("SELECT 1 FROM login") == []
