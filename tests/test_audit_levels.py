"""What of an action is recorded, as the audit policy of the version has it that decided."""

from typing import Any

from actions.action import ANONYMOUS
from actions.auditing import AuditPolicy, AuditRule, Level
from actions.authorization.source import PolicySource
from actions.entities import ALL_SPECS, whole_vocabulary
from actions.hooks import Outcome, Result
from actions.recording import _level
from audit.record import Phase
from tests.laws.support import action
from tests.unsealing import opened
from tests.world.world import World

METADATA = """
rules:
  - {level: full, entities: [role_binding, policy, audit_key, audit_partition, audit_subject]}
  - level: metadata
"""


async def use(world: World, audit: str) -> None:
    """Decide by the policy in force with another ``audit.yaml``."""
    files = {**world.app.policy.source.files, "audit.yaml": audit.encode()}
    await world.app.policy.use(PolicySource(files))


async def the_record(world: World, action: str) -> dict[str, Any]:
    return (await world.records(action))[-1]


async def change_mia(world: World) -> None:
    told = {"full_name": "Mia Marsh", "description": "Night shift"}
    await world.dana.patch(f"/domains/research/users/{world.id('mia')}", told)


async def test_metadata_tells_who_did_what_and_by_which_rule_and_no_value(world: World) -> None:
    await change_mia(world)
    full = await the_record(world, "domain_update_user")
    await use(world, METADATA)
    told = {"full_name": "Mia Mallow", "description": "Day shift"}
    await world.dana.patch(f"/domains/research/users/{world.id('mia')}", told)
    record = await the_record(world, "domain_update_user")
    assert record["level"] == "metadata"
    assert "level" not in full
    for part in ("principal", "scope", "target", "action", "entity", "operation", "result", "uses"):
        assert record[part] == full[part]
    decision = {**full["decision"], "policy": record["decision"]["policy"]}
    assert record["decision"] == decision
    assert sorted(record["changes"], key=lambda change: change["field"]) == [
        {"field": "description", "confidential": "personal"},
        {"field": "full_name", "confidential": "personal"},
    ]
    assert (await opened(world, full))["changes"] == {
        "full_name": ["Mia", "Mia Marsh"],
        "description": ["", "Night shift"],
    }
    assert await opened(world, record) == {"client_address": "127.0.0.1"}
    assert b"Day shift" not in record["row"]["leaf"]


async def test_metadata_leaves_out_what_was_asked(world: World) -> None:
    question = {"action": "domain_search_users"}
    await world.root.post("/admin/policies/who_can", question)
    await use(world, "rules:\n  - {level: metadata, entities: [policy], operations: [get]}\n")
    await world.root.post("/admin/policies/who_can", question)
    full, record = await world.records("admin_who_can_policy")
    assert b"domain_search_users" in full["row"]["leaf"]
    assert b"domain_search_users" not in record["row"]["leaf"]
    assert (record["changes"], "asked" in record) == ([], False)


async def test_metadata_of_a_secret_has_no_hash(world: World) -> None:
    await use(world, METADATA + "redact:\n  - {entity: keypair, fields: secret_key, as: hash}\n")
    await world.root.post(f"/users/{world.id('mia')}/keypairs", {}, expect=201)
    record = await the_record(world, "user_create_keypair")
    assert {"field": "secret_key", "confidential": "secret"} in record["changes"]
    assert record["row"]["hashes"] is None


async def test_a_name_that_nobody_could_prove_is_no_metadata(world: World) -> None:
    await use(world, METADATA)
    await world.stranger().post("/auth/authorize", {"username": "PLANTED", "password": "wrong"}, expect=401)
    record = await the_record(world, "admin_authorize_login")
    assert (record["result"], await opened(world, record)) == ("failed", {"client_address": "127.0.0.1"})


async def test_a_read_that_succeeded_can_go_unrecorded_and_one_that_did_not_cannot(world: World) -> None:
    await use(world, "rules:\n  - {level: none, operations: [get], entities: [user], results: [succeeded]}\n")
    await world.root.get(f"/admin/users/{world.id('mia')}")
    assert await world.records("admin_user") == []
    await world.mia.get(f"/admin/users/{world.id('mia')}", expect=403)
    await world.root.get("/admin/users/00000000-0000-4000-8000-000000000000", expect=404)
    assert [record["result"] for record in await world.records("admin_user")] == ["denied", "failed"]
    await world.root.get("/admin/users")
    assert [record["result"] for record in await world.records("admin_search_users")] == ["succeeded"]


async def test_what_is_left_out_needs_no_log(world: World) -> None:
    await use(world, "rules:\n  - {level: none, operations: [get], entities: [user], results: [succeeded]}\n")
    await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    await world.root.get(f"/admin/users/{world.id('mia')}")
    await world.mia.get(f"/admin/users/{world.id('mia')}", expect=503)
    await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")


async def test_one_surface_can_be_told_from_another(world: World) -> None:
    rule = "{level: none, operations: [search], entities: [user], results: [succeeded], surfaces: [graphql]}"
    await use(world, f"rules:\n  - {rule}\n")
    await world.root.post("/graphql", {"query": "{ adminSearchUsers { totalCount } }"})
    await world.root.get("/admin/users")
    assert [record["request"]["surface"] for record in await world.records("admin_search_users")] == ["rest"]


async def test_a_field_that_is_omitted_is_named_and_its_values_are_nowhere(world: World) -> None:
    await use(world, "rules: []\nredact:\n  - {entity: user, fields: [full_name, description], as: omit}\n")
    await change_mia(world)
    record = await the_record(world, "domain_update_user")
    assert sorted(record["changes"], key=lambda change: change["field"]) == [
        {"field": "description", "confidential": "omitted"},
        {"field": "full_name", "confidential": "omitted"},
    ]
    assert await opened(world, record) == {"client_address": "127.0.0.1"}


async def test_a_field_that_is_hashed_is_found_by_either_value(world: World) -> None:
    await use(world, "rules: []\nredact:\n  - {entity: project, fields: [description], as: hash}\n")
    for told in ("Night shift", "Day shift"):
        await world.dana.patch(f"/domains/research/projects/{world.places.lab}", {"description": told})
    first, second = await world.records("domain_update_project")
    assert b"shift" not in first["row"]["leaf"] + second["row"]["leaf"]
    for value, expected in (("Night shift", 2), ("Day shift", 1), ("Late shift", 0)):
        told = await world.olga.post("/admin/audit-records/hash", {"value": value})
        page = await world.olga.get("/admin/audit-records", filter={"hash": {"equals": told["hash"]}})
        assert len(page["items"]) == expected


async def test_a_batch_keeps_to_it_item_by_item(world: World) -> None:
    await use(world, "rules: []\nredact:\n  - {entity: user, fields: [description], as: omit}\n")
    items = [{"id": str(world.id(name)), "change": {"description": "PLANTED"}} for name in ("mia", "piotr")]
    await world.root.post("/admin/users/batch_update", {"items": items})
    records = await world.records("admin_update_user")
    assert len(records) == 2
    for record in records:
        assert record["changes"] == [{"field": "description", "confidential": "omitted"}]


async def test_a_secret_is_nowhere_even_under_a_policy_that_says_nothing_of_it(world: World) -> None:
    await use(world, "rules: []\n")
    issued = await world.root.post(f"/users/{world.id('mia')}/keypairs", {}, expect=201)
    record = await the_record(world, "user_create_keypair")
    assert {"field": "secret_key", "confidential": "secret"} in record["changes"]
    assert record["row"]["hashes"] is None
    assert issued["secret_key"] not in str(record)


async def test_the_level_is_that_of_the_version_that_decided(world: World) -> None:
    """Where nothing was decided there is no version, and everything is told."""
    await use(world, METADATA)
    await world.mia.get("/domains/nowhere/users", expect=404)
    assert (await the_record(world, "domain_search_users"))["level"] == "metadata"
    await use(world, "rules: []\n")
    await world.mia.get("/domains/nowhere/users", expect=404)
    assert "level" not in await the_record(world, "domain_search_users")


async def test_what_an_auditor_is_shown_says_that_it_is_not_all(world: World) -> None:
    await use(world, METADATA)
    await change_mia(world)
    record = await the_record(world, "domain_update_user")
    shown = await world.olga.get(f"/admin/audit-records/{record['id']}")
    assert shown["records"][0]["more"] == {"level": "metadata"}


def test_what_opens_and_closes_is_never_told_by_half() -> None:
    """A stream that ended well would be left out, and its opening, of which nobody knows how it ends, would not be."""
    [spec] = [spec for spec in ALL_SPECS if spec.name == "admin_user"]
    outcome = Outcome(action(spec, ANONYMOUS), audit=AuditPolicy(whole_vocabulary(), (AuditRule(Level.NONE),)))
    assert _level(outcome, Phase.DONE, Result.SUCCEEDED) is Level.NONE
    assert {_level(outcome, phase, Result.SUCCEEDED) for phase in Phase if phase is not Phase.DONE} == {Level.METADATA}
