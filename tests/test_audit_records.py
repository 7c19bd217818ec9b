"""What a record says, to whom it shows what, and that nobody can take it back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from audit.record import LONGEST, canonical, cut
from audit.redaction import NOBODY, SealBroken, unseal
from server.repositories.subject_keys import SubjectKeys
from tests.faults import another_worker
from tests.world.world import World

POLICIES = Path(__file__).resolve().parents[1] / "policies"


def told_of(row: Any, person: UUID, keys: Mapping[UUID, bytes]) -> Any:
    """What is sealed of the question of somebody."""
    return unseal(row["leaf"], row["sealed"], keys)[person]["asked"]


async def the_record(world: World, action: str, **where: object) -> dict[str, Any]:
    [record] = [
        record for record in await world.records(action) if all(record[name] == value for name, value in where.items())
    ]
    return record


async def key_of(world: World, subject: UUID) -> bytes:
    keys = SubjectKeys(world.app.database, world.app.ring)
    return (await keys.subject_keys([subject]))[subject]


def line(rule: str) -> str:
    name, _, number = rule.partition(":")
    return (POLICIES / name).read_text().splitlines()[int(number) - 1]


async def test_a_record_tells_who_did_what_where_by_which_rule_and_what_came_of_it(world: World) -> None:
    mia, research = world.id("mia"), world.places.research
    response = await world.root.send(
        "PATCH",
        f"/admin/users/{mia}",
        {"description": "described", "full_name": "Mia Renamed"},
        headers={"X-Request-ID": "request-1"},
    )
    assert response.status_code == 200
    record = await the_record(world, "admin_update_user")
    root = world.personas["root"]
    assert record["v"] == 1
    assert (record["phase"], record["result"]) == ("done", "succeeded")
    assert (record["entity"], record["operation"]) == ("user", "update")
    assert record["principal"] == {"kind": "user", "name": f"user:{root.id}", "credential": root.access_key}
    assert record["request"] == {"id": "request-1", "surface": "rest"}
    assert record["scope"] == {"type": "admin", "lineage": []}
    assert record["target"] == {
        "id": str(mia),
        "lineage": [{"type": "user", "id": str(mia)}, {"type": "domain", "id": str(research)}],
    }
    decision = record["decision"]
    assert decision["allowed"] is True
    assert decision["policy"] == world.app.policy.current().digest
    assert decision["roles"]
    assert line(decision["rule"]).split(",")[:2] == ["p", " superadmin"]
    assert 0 < record["duration_us"] < 10_000_000
    assert sorted(record["changes"], key=lambda change: change["field"]) == [
        {"field": "description", "confidential": "personal"},
        {"field": "full_name", "confidential": "personal"},
    ]
    row = record["row"]
    assert (row["principal_id"], row["target_id"]) == (root.id, str(mia))
    assert (row["target_user_id"], row["target_domain_id"], row["target_project_id"]) == (mia, research, None)
    assert (row["rule"], row["policy"], row["request_id"]) == (decision["rule"], decision["policy"], "request-1")


async def test_a_record_in_a_scope_tells_what_contains_it(world: World) -> None:
    await world.piotr.get(f"/projects/{world.places.lab}/users")
    record = await the_record(world, "project_search_users")
    lab, research = str(world.places.lab), str(world.places.research)
    assert record["scope"] == {
        "type": "project",
        "lineage": [{"type": "project", "id": lab}, {"type": "domain", "id": research}],
    }
    assert record["target"] is None


async def test_a_refusal_tells_the_truth_that_its_answer_hides(world: World) -> None:
    hidden = await world.dana.send("GET", f"/domains/elsewhere/users/{world.id('nobody')}")
    missing = await world.dana.send("GET", "/domains/nowhere/users/x")
    assert hidden.status_code == missing.status_code == 404
    refused, absent = await world.records("domain_user")
    assert (refused["result"], refused["error"]["status"], refused["decision"]["allowed"]) == ("denied", 404, False)
    assert refused["error"]["cause"] == "no rule allows it"
    assert refused["scope"]["lineage"] == [{"type": "domain", "id": str(world.places.elsewhere)}]
    assert (absent["result"], absent["decision"]) == ("denied", None)
    assert absent["scope"] == {"type": "domain", "asked_for": None}
    assert absent["target"] is None
    assert b"nowhere" not in absent["row"]["leaf"]
    dana = world.id("dana")
    asked = told_of(absent["row"], dana, {dana: await key_of(world, dana)})
    assert asked == {"address/scope": "nowhere", "address/id": "x"}


async def test_a_denial_names_the_line_that_forbids_it(world: World) -> None:
    await world.mia.get("/admin/users", expect=403)
    record = await the_record(world, "admin_search_users")
    assert (record["result"], record["error"]["status"], record["decision"]["rule"]) == ("denied", 403, None)


async def test_what_the_input_names_stands_in_the_record_with_its_decision(world: World) -> None:
    given = {"username": "x", "email": "x@example.org", "password": "a long enough password"}
    nowhere = str(uuid4())
    await world.root.post("/admin/users", {**given, "domain_id": nowhere}, expect=422)
    await world.root.post("/admin/users", {**given, "domain_id": str(world.places.research)}, expect=201)
    refused, allowed = await world.records("admin_create_user")
    named = {"field": "domain_id", "entity": "domain", "id": nowhere, "operation": "get", "held": None}
    assert refused["uses"] == [{**named, "allowed": False, "rule": None}]
    assert allowed["uses"][0]["held"] == [
        {"scope": "domain", "roles": ["superadmin"]},
        {"scope": "admin", "roles": ["superadmin"]},
    ]
    assert allowed["uses"][0]["allowed"] is True
    assert line(allowed["uses"][0]["rule"])


# -- what is personal, what is secret --


async def test_personal_parts_open_with_the_persons_key_and_no_other(world: World) -> None:
    mia, root = world.id("mia"), world.id("root")
    await world.as_("root", address="192.0.2.77").patch(f"/admin/users/{mia}", {"email": "new@example.org"})
    record = await the_record(world, "admin_update_user")
    row = record["row"]
    for personal in (b"192.0.2.77", b"new@example.org", b"mia@example.org"):
        assert personal not in row["leaf"] + row["sealed"]
    keys = {mia: await key_of(world, mia), root: await key_of(world, root)}
    assert unseal(row["leaf"], row["sealed"], keys) == {
        root: {"client_address": "192.0.2.77"},
        mia: {"changes": {"email": ["mia@example.org", "new@example.org"]}},
    }
    assert unseal(row["leaf"], row["sealed"], {root: keys[root]}) == {root: {"client_address": "192.0.2.77"}}
    with pytest.raises(SealBroken):
        unseal(row["leaf"], row["sealed"], {mia: keys[root]})
    other = (await world.records("user_create_keypair"))[0]["row"]
    with pytest.raises(SealBroken):  # sealed parts are bound to their record
        unseal(other["leaf"], row["sealed"], keys)


async def test_the_address_of_a_caller_without_a_name_is_sealed_too(world: World) -> None:
    await world.stranger(address="192.0.2.78").get("/auth/whoami", expect=401)
    row = (await the_record(world, "authenticate"))["row"]
    assert b"192.0.2.78" not in row["leaf"] + row["sealed"]
    opened = unseal(row["leaf"], row["sealed"], {NOBODY: await key_of(world, NOBODY)})
    assert opened == {NOBODY: {"client_address": "192.0.2.78"}}


async def test_a_secret_that_changed_is_named_and_not_told(world: World) -> None:
    await world.root.post(f"/admin/users/{world.id('mia')}/reset_password", {"password": "PLANTED password"})
    [keypair] = (await world.mia.get("/users/me/keypairs"))["items"]
    await world.mia.post(f"/users/me/keypairs/{keypair['id']}/rotate", {})
    reset, rotated = [
        {change["field"]: change for change in (await the_record(world, action))["changes"]}
        for action in ("admin_reset_password_user", "user_rotate_keypair")
    ]
    assert reset["password_hash"] == {"field": "password_hash", "confidential": "secret"}
    assert rotated["secret_key"].keys() == {"field", "confidential", "new"}
    assert rotated["secret_key"]["new"].startswith("hmac-sha256:")


async def test_erasing_a_person_leaves_the_log_as_it_was(world: World) -> None:
    mia, root = world.id("mia"), world.id("root")
    await world.root.patch(f"/admin/users/{mia}", {"email": "new@example.org"})
    before = (await the_record(world, "admin_update_user"))["row"]
    await world.sql("DELETE FROM subject_key WHERE subject_id = $1", mia)
    async with another_worker(world) as later:  # remembers no key
        after = (await the_record(later, "admin_update_user"))["row"]
        assert (after["leaf"], after["sealed"]) == (before["leaf"], before["sealed"])
        # A key that is made anew opens nothing that was sealed under the old one.
        keys = {mia: await key_of(later, mia), root: await key_of(later, root)}
        with pytest.raises(SealBroken):
            unseal(after["leaf"], after["sealed"], keys)
        assert list(unseal(after["leaf"], after["sealed"], {root: keys[root]})) == [root]
        await later.root.patch(f"/admin/users/{mia}", {"email": "newer@example.org"})


# -- its form --


async def test_every_leaf_is_canonical_and_salted(world: World) -> None:
    await world.root.get("/admin/users")
    await world.mia.get("/admin/users", expect=403)
    await world.stranger().get("/admin/users", expect=401)
    rows = await world.sql("SELECT action_id, phase, leaf, sealed FROM audit_record")
    salts = set()
    for row in rows:
        told = orjson.loads(row["leaf"])
        assert canonical(told) == row["leaf"]
        assert (told["v"], told["id"], told["phase"]) == (1, str(row["action_id"]), row["phase"])
        assert len(bytes.fromhex(told["salt"])) == 16
        assert [one["subject"] for one in told["sealed"]] == list(orjson.loads(row["sealed"] or b"{}"))
        salts.add(told["salt"])
    assert len(salts) == len(rows)


async def test_what_callers_write_is_cut(world: World) -> None:
    long = "\N{SNOWMAN}" * 2000
    for named in ("p" * 3000, long[:600], "a%0Ab%C2%85"):
        await world.root.send("GET", f"/admin/policies/{named}")
    await world.root.send("GET", f"/domains/{'d' * 3000}/users")
    await world.root.send("PATCH", f"/admin/users/{world.id('mia')}", {"description": long[:500]})
    await world.root.send("POST", "/admin/users", {"domain_id": "x" * 3000})
    await world.stranger().send(
        "GET", "/auth", headers={"Authorization": "BackendAI credential=" + "k" * 3000, "X-Request-ID": "r" * 3000}
    )

    def strings(told: object) -> Any:
        if isinstance(told, dict):
            for value in told.values():
                yield from strings(value)
        elif isinstance(told, list):
            for value in told:
                yield from strings(value)
        elif isinstance(told, str):
            yield told

    records = await world.records()
    rows = [record.pop("row") for record in records]
    for record, row in zip(records, rows, strict=True):
        assert max(len(text.encode()) for text in strings(record)) <= LONGEST
        assert len(row["target_id"] or "") <= LONGEST
        assert len(row["request_id"]) <= 64
    root = world.id("root")
    keys, named_by = {root: await key_of(world, root)}, []
    for record, row in zip(records, rows, strict=True):
        if record["action"] == "admin_policy":
            assert (record["target"], row["target_id"]) == (None, None)
            named_by.append(told_of(row, root, keys)["address/id"])
    assert len(named_by) >= 2
    assert all(text.isprintable() and len(text.encode()) <= LONGEST for text in named_by)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain", "plain"),
        ("a\nb\x00c\u202ed", "a�b�c�d"),
        ("x" * 300, "x" * 256),
        ("é" * 200, "é" * 128),
        ("x" + "é" * 200, "x" + "é" * 127),
        ("\ud800", "�"),
    ],
)
def test_cutting_leaves_whole_characters_on_one_line(text: str, kept: str) -> None:
    assert cut(text) == kept


# -- for good --


TAKING_BACK = (
    "UPDATE audit_record SET result = 'succeeded'",
    "DELETE FROM audit_record",
    "TRUNCATE audit_record",
    "DROP TABLE audit_record",
    "ALTER TABLE audit_record DISABLE TRIGGER ALL",
    "INSERT INTO audit_record SELECT * FROM audit_record ON CONFLICT (action_id, phase) DO UPDATE SET result = 'x'",
    "CREATE TABLE another (id int)",
    "CREATE RULE forget AS ON INSERT TO audit_record DO INSTEAD NOTHING",
)


async def test_the_application_cannot_take_a_record_back(world: World) -> None:
    connection = await asyncpg.connect(world.urls.application)
    try:
        for statement in TAKING_BACK:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_migration_is_recorded(world: World) -> None:
    record = await the_record(world, "migrate_schema")
    assert (record["principal"]["name"], record["result"]) == ("system:migrator", "succeeded")
    [change] = record["changes"]
    [row] = await world.sql("SELECT version_num FROM alembic_version")
    assert change == {"field": "revision", "old": None, "new": row["version_num"]}


async def test_what_the_server_does_by_itself_is_somebodys_doing(world: World) -> None:
    for action, principal in (
        ("admin_bootstrap_installation", "system:bootstrap"),
        ("admin_publish_policy", "system:policy"),
    ):
        record = await the_record(world, action)
        assert record["principal"] == {"kind": "system", "name": principal, "credential": None}
        assert line(record["decision"]["rule"]).startswith("p, system_")


async def test_a_range_of_the_log_takes_as_many_different_values_as_fit_into_it(world: World) -> None:
    """Summaries are kept up to date with each record: one that grew without a bound would keep the next from being
    written, and so everything from being done."""
    await world.sql(
        "SELECT brin_summarize_new_values(inhrelid) FROM pg_inherits"
        " WHERE inhparent = 'ix_audit_record__search'::regclass"
    )
    await world.sql(
        "INSERT INTO audit_record (action_id, phase, at, action, result, principal, principal_id, request_id,"
        " scope_type, scope_domain_id, target_id, target_domain_id, leaf) SELECT gen_random_uuid(), 'done', now(), 'x',"
        " 'succeeded', 'x', gen_random_uuid(), '', 'domain', gen_random_uuid(), gen_random_uuid()::text,"
        " gen_random_uuid(), '' FROM generate_series(1, 5000)"
    )
    await world.root.get("/auth/whoami")
