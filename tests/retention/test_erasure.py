"""Erasing a person from the log: what it says of them is unreadable for good, and no proof of it changes."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from actions.action import Principal, PrincipalKind
from actions.hooks import Outcome, Result
from audit.merkle import leaf_hash
from audit.redaction import NOBODY, SealBroken, unseal
from server.repositories.subject_keys import SubjectKeys
from tests.faults import another_worker
from tests.laws.support import action, spec_named
from tests.world.stage import Persona
from tests.world.world import World

SUBJECTS = "/admin/audit-subjects"


async def purged(world: World, name: str) -> Persona:
    """Somebody who was here, did something and was spoken of, and is here no more."""
    gone = await world.newcomer(name)
    await world.as_(gone, address="192.0.2.7").get("/users/me")
    await world.root.patch(f"/domains/research/users/{gone.id}", {"email": f"{name}@example.com"})
    await world.root.delete(f"/domains/research/users/{gone.id}")
    await world.root.delete(f"/domains/research/users/{gone.id}", purge="1")
    return gone


async def said_of(world: World, subject: UUID) -> list[dict[str, Any]]:
    """What the log says of somebody, as it is shown."""
    told = []
    for record in await world.records():
        if any(part["subject"] == str(subject) for part in record["sealed"]):
            shown = await world.root.get(f"/admin/audit-records/{record['id']}")
            about = str(subject) if subject != NOBODY else None
            told += [part for one in shown["records"] for part in one["personal"] if part["subject"] == about]
    return told


async def tree(world: World) -> list[Any]:
    await world.app.sequencer.catch_up()
    rows = await world.sql("SELECT index, hash, leaf FROM audit_leaf JOIN audit_record USING (action_id, phase)")
    assert all(leaf_hash(row["leaf"]) == row["hash"] for row in rows)
    roots = await world.sql("SELECT size, root FROM audit_checkpoint ORDER BY size")
    return [sorted((row["index"], row["leaf"]) for row in rows), [tuple(row) for row in roots]]


async def test_what_is_said_of_an_erased_person_is_gone_for_good_and_no_proof_changes(world: World) -> None:
    gone = await purged(world, "gone")
    key = (await SubjectKeys(world.app.database, world.app.ring).subject_keys([gone.id]))[gone.id]
    told = await said_of(world, gone.id)
    assert {part["seal"] for part in told} == {"open"}
    assert any(part["client_address"] == "192.0.2.7" for part in told)
    leaves, roots = await tree(world)

    erased = await world.root.post(f"{SUBJECTS}/{gone.id}/erase")
    assert not erased["readable"]
    assert erased["erased_at"] is not None
    later = await tree(world)
    assert (later[0][: len(leaves)], later[1][: len(roots)]) == (leaves, roots)

    told = await said_of(world, gone.id)
    assert {part["seal"] for part in told} == {"erased"}
    assert all(part["client_address"] is None and part["changes"] == [] for part in told)
    [row] = await world.sql("SELECT wrapped FROM subject_key WHERE subject_id = $1", gone.id)
    assert row["wrapped"] == b""
    assert await SubjectKeys(world.app.database, world.app.ring).subject_keys([gone.id]) == {}
    # Whoever kept the key from before still holds what it was: the proof that nothing else was touched.
    sealed = [one["row"] for one in await world.records() if str(gone.id) in (one["row"]["sealed"] or b"").decode()]
    assert all(gone.id in unseal(row["leaf"], row["sealed"], {gone.id: key}) for row in sealed)
    with pytest.raises(SealBroken):
        unseal(sealed[0]["leaf"], sealed[0]["sealed"], {gone.id: bytes(64)})


async def test_erasing_is_recorded_and_says_who_did_it(world: World) -> None:
    gone = await purged(world, "gone")
    await world.root.post(f"{SUBJECTS}/{gone.id}/erase")
    [record] = await world.records("admin_erase_audit_subject")
    assert (record["result"], record["target"]["id"]) == ("succeeded", str(gone.id))
    assert record["principal"]["name"] == f"user:{world.id('root')}"
    assert [change["field"] for change in record["changes"]] == ["erased_at"]
    refused = await world.root.send("POST", f"{SUBJECTS}/{gone.id}/erase")
    assert (refused.status_code, refused.json()["code"]) == (409, "audit-subject-erase-erased")


async def test_a_user_who_is_there_is_not_erased(world: World) -> None:
    """Deleted is not yet gone: restored, it would do things again."""
    newcomer = await world.newcomer("fresh")
    for _ in range(2):
        refused = await world.root.send("POST", f"{SUBJECTS}/{newcomer.id}/erase")
        assert (refused.status_code, refused.json()["code"]) == (409, "audit-subject-erase-user-exists")
        await world.root.send("DELETE", f"/admin/users/{newcomer.id}")
    assert (await world.root.get(f"{SUBJECTS}/{newcomer.id}"))["readable"]


async def test_only_a_superadmin_erases_and_an_auditor_sees_it(world: World) -> None:
    gone = await purged(world, "gone")
    for name in ("olga", "dana", "mia", "nobody"):
        await world.as_(name).post(f"{SUBJECTS}/{gone.id}/erase", expect=403)
    assert (await world.olga.get(f"{SUBJECTS}/{gone.id}"))["readable"]
    await world.dana.get(f"{SUBJECTS}/{gone.id}", expect=403)
    await world.root.post(f"{SUBJECTS}/{gone.id}/erase")
    assert not (await world.olga.get(f"{SUBJECTS}/{gone.id}"))["readable"]
    for method, path in (("GET", f"{SUBJECTS}/{uuid4()}"), ("POST", f"{SUBJECTS}/{uuid4()}/erase")):
        assert (await world.root.send(method, path)).status_code == 404


async def test_no_worker_seals_under_an_erased_key_or_makes_a_new_one(world: World) -> None:
    """Not even one that used it a moment ago: it hears of it."""
    gone = await world.newcomer("gone")
    async with another_worker(world) as other:
        await other.as_(gone).get("/users/me")  # both workers know the key from here on
        await world.as_(gone).get("/users/me")
        await world.root.delete(f"/admin/users/{gone.id}")
        await world.root.delete(f"/admin/users/{gone.id}", purge="1")
        await world.root.post(f"{SUBJECTS}/{gone.id}/erase")
        async with asyncio.timeout(5):
            for worker in (world, other):
                while gone.id in worker.app.units.recorder._sealer._keys:  # type: ignore[attr-defined]  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        for worker in (world, other):
            await speak_of(worker, gone)
    last = (await world.records("admin_search_domains"))[-2:]
    assert [(record["sealed"], record["row"]["sealed"]) for record in last] == [([], None)] * 2
    assert await world.sql("SELECT FROM subject_key WHERE subject_id = $1 AND wrapped <> ''", gone.id) == []


async def speak_of(world: World, who: Persona) -> None:
    """Write a record that would speak of somebody who is here no more."""
    asked = action(spec_named("admin_search_domains"), Principal(PrincipalKind.USER, f"user:{who.id}", who.id))
    asked = replace(asked, context=replace(asked.context, client_address="192.0.2.9"))
    outcome = Outcome(asked)
    outcome.result = Result.FAILED
    await world.app.units.recorder.after(outcome)  # type: ignore[attr-defined]


async def test_the_addresses_of_callers_without_a_name_are_erased_together_and_they_go_on_calling(world: World) -> None:
    await world.stranger(address="192.0.2.78").get("/auth/whoami", expect=401)
    assert [part["client_address"] for part in await said_of(world, NOBODY)] == ["192.0.2.78"]
    await world.sql("ALTER TABLE subject_key DISABLE TRIGGER only_with_a_record")
    await world.sql("UPDATE subject_key SET created_at = now() - interval '1 day' WHERE subject_id = $1", NOBODY)
    await world.sql("ALTER TABLE subject_key ENABLE TRIGGER only_with_a_record")
    erased = await world.root.post(f"{SUBJECTS}/{NOBODY}/erase")
    assert erased["readable"]
    assert erased["since"] == erased["erased_at"]
    assert [part["seal"] for part in await said_of(world, NOBODY)] == ["erased"]
    async with asyncio.timeout(5):
        while NOBODY in world.app.units.recorder._sealer._keys:  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await world.stranger(address="192.0.2.79").get("/auth/whoami", expect=401)
    told = await said_of(world, NOBODY)
    assert [(part["seal"], part["client_address"]) for part in told] == [("erased", None), ("open", "192.0.2.79")]
