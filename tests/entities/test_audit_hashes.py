"""Secrets are found in the log by their keyed hashes, and stand nowhere in it."""

import io
from typing import Any

import pytest

from audit.keyed import KeyedHashes
from server.cli.audit import hash as audit_hash
from server.cli.output import CannotRun
from tests.world.world import World

HASH = "/admin/audit-records/hash"


async def made(world: World) -> tuple[str, str]:
    """A key pair's id and its secret."""
    issued = await world.root.post(f"/users/{world.id('mia')}/keypairs", {}, expect=201)
    return issued["id"], issued["secret_key"]


async def found(world: World, value: str) -> list[dict[str, Any]]:
    """The records that speak of a value."""
    told = await world.olga.post(HASH, {"value": value})
    page = await world.olga.get("/admin/audit-records", filter={"hash": {"equals": told["hash"]}})
    return list(page["items"])


async def test_a_secret_key_leads_to_the_record_of_its_making(world: World) -> None:
    key, first = await made(world)
    [record] = await found(world, first)
    assert (record["action"], record["target"]["id"]) == ("user_create_keypair", key)
    rotated = await world.root.post(f"/admin/keypairs/{key}/rotate", {})
    assert [record["action"] for record in await found(world, rotated["secret_key"])] == ["admin_rotate_keypair"]
    assert [record["action"] for record in await found(world, first)] == ["user_create_keypair"]


async def test_the_first_secret_of_an_installation_is_found_too(world: World) -> None:
    assert [record["action"] for record in await found(world, world.personas["root"].secret_key)] == [
        "admin_bootstrap_installation"
    ]


async def test_what_was_never_a_secret_here_is_found_nowhere(world: World) -> None:
    assert await found(world, "correct horse battery staple") == []


async def test_the_log_holds_a_hash_under_a_key_and_not_the_secret(world: World) -> None:
    key, secret = await made(world)
    [row] = await world.sql(
        "SELECT leaf, sealed, hashes FROM audit_record WHERE target_id = $1 AND action = 'user_create_keypair'", key
    )
    assert secret not in str(dict(row))
    expected = KeyedHashes(world.app.ring.derived("keyed hashes")).of(secret)
    assert row["hashes"] == expected
    assert expected.encode() in row["leaf"]
    assert KeyedHashes(bytes(32)).of(secret) != expected


async def test_a_password_is_not_even_hashed(world: World) -> None:
    await world.root.post(f"/admin/users/{world.id('mia')}/reset_password", {"password": "a long enough password"})
    [record] = await world.records("admin_reset_password_user")
    assert record["row"]["hashes"] is None
    assert {"field": "password_hash", "confidential": "secret"} in record["changes"]


async def test_asking_for_a_hash_is_recorded_and_the_value_is_not(world: World) -> None:
    await world.olga.post(HASH, {"value": "PLANTED-value"})
    [record] = await world.records("admin_hash_audit_record")
    assert record["principal"]["name"] == f"user:{world.id('olga')}"
    assert "PLANTED" not in str(record)
    refused = await world.olga.send("POST", HASH, {"value": ""})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/value")


async def test_only_auditors_of_all_ask_for_hashes_and_search_by_them(world: World) -> None:
    for caller in (world.dana, world.mia, world.nobody):
        await caller.post(HASH, {"value": "anything"}, expect=403)
    await world.root.post(
        "/domains/research/role-bindings", {"user_id": str(world.id("mia")), "role": "auditor"}, expect=201
    )
    filter = {"hash": {"equals": f"hmac-sha256:{'0' * 64}"}}
    await world.mia.get("/domains/research/audit-records", filter=filter, expect=422)


@pytest.mark.parametrize("wrong", ["", "0" * 64, f"hmac-sha256:{'G' * 64}", "hmac-sha256:"])
async def test_what_is_no_hash_is_not_searched_for(world: World, wrong: str) -> None:
    await world.olga.get("/admin/audit-records", filter={"hash": {"equals": wrong}}, expect=422)


async def test_a_search_by_hash_combines_with_others_and_is_negated(world: World) -> None:
    key, secret = await made(world)
    value = (await world.olga.post(HASH, {"value": secret}))["hash"]
    by_hash = {"hash": {"equals": value}}
    here = {"target_id": {"equals": key}}
    assert len((await world.olga.get("/admin/audit-records", filter={**by_hash, **here}))["items"]) == 1
    assert (await world.olga.get("/admin/audit-records", filter={"NOT": [by_hash], **here}))["items"] == []


def test_the_command_takes_its_value_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one secret\n"))
    assert audit_hash._value() == "one secret"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(CannotRun, match="no value"):
        audit_hash._value()
