"""The keys that checkpoints are signed with: one succeeds another, both sign for a week, then the old one is gone."""

from datetime import UTC, datetime, timedelta
from typing import Any

from audit.note import Kind, Note, Verifier
from server.services.audit_keys import OVERLAP
from server.sweeper import RENEWING_AUDIT_KEY, SWEEPER
from tests.numbered import grow, newest
from tests.world.world import World


async def signers(world: World) -> list[str]:
    """Which keys vouch for the newest checkpoint."""
    known = [Verifier.read(key["public_key"]) for key in await keys(world)]
    return [str(vouched.by) for vouched in Note.read((await newest(world)).note).vouched(known)]


async def keys(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.olga.get("/admin/audit-keys", order="created_at:asc"))["items"]
    return found


async def test_a_key_bears_the_name_of_the_log_and_an_id_of_its_own(world: World) -> None:
    [row] = await world.sql("SELECT origin FROM audit_log")
    [key] = await keys(world)
    verifier = Verifier.read(key["public_key"])
    assert (verifier.name, verifier.kind, len(verifier.public)) == (row["origin"], Kind.PLAIN, 32)
    assert key["public_key"].split("+")[1] == verifier.key_id.hex()


async def test_two_keys_sign_while_one_succeeds_the_other_and_then_the_new_one_alone(world: World) -> None:
    await grow(world, 3)
    [old] = await keys(world)
    assert await signers(world) == [old["public_key"]]

    new = await world.root.post("/admin/audit-keys/rotate", {})
    assert (new["not_after"], new["id"] != old["id"]) == (None, True)
    await grow(world, 3)
    assert await signers(world) == [new["public_key"], old["public_key"]]
    [old, _] = await keys(world)
    left = datetime.fromisoformat(old["not_after"]) - datetime.now(UTC)
    assert OVERLAP - timedelta(minutes=5) < left <= OVERLAP

    await world.sql("UPDATE audit_key SET not_after = now() WHERE id = $1", old["id"])
    await grow(world, 3)
    assert await signers(world) == [new["public_key"]]
    await world.app.internally(RENEWING_AUDIT_KEY, SWEEPER, {})
    private = {
        str(row["id"]): bool(row["kept"])
        for row in await world.sql("SELECT id, sealed_private_key <> '' AS kept FROM audit_key")
    }
    assert private == {old["id"]: False, new["id"]: True}
    assert [key["id"] for key in await keys(world)] == [old["id"], new["id"]], "which keys there were stays known"
    [record] = await world.records("admin_rotate_audit_key")
    assert {"field": "succeeds", "new": old["id"], "old": None} in record["changes"]


async def test_a_private_half_is_shown_to_nobody_and_stands_nowhere_open(world: World) -> None:
    new = await world.root.post("/admin/audit-keys/rotate", {})
    assert set(new) == {
        "id",
        "created_at",
        "updated_at",
        "deleted",
        "version",
        "public_key",
        "not_after",
        "endorsement",
    }
    [row] = await world.sql("SELECT id, sealed_private_key FROM audit_key WHERE id = $1", new["id"])
    purpose = f"audit_key:{row['id']}"
    private = world.app.ring.open(row["sealed_private_key"], purpose)
    assert private not in row["sealed_private_key"]
    for record in await world.records():
        assert private.hex() not in str(record)


async def test_only_superadmins_rotate_and_auditors_see_which_keys_there_are(world: World) -> None:
    for who in (world.olga, world.dana, world.mia):
        assert (await who.send("POST", "/admin/audit-keys/rotate", {})).status_code == 403
    assert len(await keys(world)) == 1
    assert (await world.dana.send("GET", "/admin/audit-keys")).status_code == 403
