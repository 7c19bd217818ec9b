"""Proofs for those who may read the log: that a record is in it, that it only grew, and its entries one by one."""

import asyncio
from base64 import b64decode
from typing import Any
from uuid import UUID, uuid4

from audit.merkle import consistency, extends, leaf_hash
from audit.note import Note, Verifier
from audit.proof import Proof
from audit.record import Phase, new_id
from server.repositories import audit_tree
from tests.numbered import WITNESS, cosign, grow, newest
from tests.world.world import World


async def an_action(world: World) -> UUID:
    """Something that somebody did."""
    await world.mia.get("/users/me")
    return UUID((await world.records("user_user"))[-1]["id"])


async def keys(world: World) -> list[Verifier]:
    told = await world.olga.get("/admin/audit-keys")
    return [Verifier.read(item["public_key"]) for item in told["items"]]


async def prove(world: World, action_id: UUID, **params: Any) -> Any:
    return await world.olga.get(f"/admin/audit-records/{action_id}/prove", **params)


async def test_a_proof_file_proves_a_record_by_itself(world: World) -> None:
    action_id = await an_action(world)
    await grow(world, 500)
    answer = await prove(world, action_id)
    [told] = answer["proofs"]
    proof = Proof.read(told["proof"])
    [record] = await world.sql("SELECT leaf FROM audit_record WHERE action_id = $1", action_id)
    assert proof.leaf == record["leaf"]
    assert proof.holds()
    assert [vouched.by for vouched in proof.note.vouched(await keys(world))] == await keys(world)
    assert (told["phase"], told["index"], answer["size"]) == ("done", proof.index, proof.checkpoint.size)
    assert [Verifier.read(key) for key in answer["keys"]] == await keys(world)
    assert str(proof) == told["proof"]


async def test_a_proof_file_is_written_as_its_specification_has_it(world: World) -> None:
    """C2SP tlog-proof: a first line of its own, the leaf, the index, a hash a line, an empty line, the checkpoint."""
    action_id = await an_action(world)
    await grow(world, 40)
    text = (await prove(world, action_id))["proofs"][0]["proof"]
    above, checkpoint = text.split("\n\n", 1)
    header, extra, index, *hashes = above.split("\n")
    assert header == "c2sp.org/tlog-proof@v1"
    assert extra.startswith("extra ")
    assert index.startswith("index ")
    assert 5 <= len(hashes) <= 7
    assert {len(b64decode(line, validate=True)) for line in hashes} == {32}
    assert Note.read(checkpoint).vouched(await keys(world))


async def test_a_changed_leaf_index_or_hash_proves_nothing(world: World) -> None:
    action_id = await an_action(world)
    await grow(world, 40)
    proof = Proof.read((await prove(world, action_id))["proofs"][0]["proof"])
    assert proof.holds()
    changed = bytes([proof.leaf[0] ^ 1]) + proof.leaf[1:]
    assert not Proof(changed, proof.index, proof.hashes, proof.note).holds()
    assert not Proof(proof.leaf, proof.index ^ 1, proof.hashes, proof.note).holds()
    assert not Proof(proof.leaf, 10**6, proof.hashes, proof.note).holds()
    assert not Proof(proof.leaf, proof.index, proof.hashes[1:], proof.note).holds()
    for place in range(len(proof.hashes)):
        hashes = [*proof.hashes[:place], bytes(32), *proof.hashes[place + 1 :]]
        assert not Proof(proof.leaf, proof.index, hashes, proof.note).holds()


async def test_a_proof_stands_under_a_checkpoint_that_a_witness_vouches_for_if_there_is_one(world: World) -> None:
    action_id = await an_action(world)
    await grow(world, 3)
    witnessed = await newest(world)
    await cosign(world, witnessed.size, Note.read(witnessed.note).text)
    later = await an_action(world)
    await grow(world, 3)

    answer = await prove(world, action_id)
    proof = Proof.read(answer["proofs"][0]["proof"])
    assert proof.checkpoint.size == witnessed.size
    assert WITNESS.verifier in [vouched.by for vouched in proof.note.vouched([WITNESS.verifier])]
    assert answer["keys"][-1] == str(WITNESS.verifier)

    proof = Proof.read((await prove(world, later))["proofs"][0]["proof"])
    assert proof.checkpoint.size > witnessed.size
    assert proof.note.vouched([WITNESS.verifier]) == []
    assert proof.holds()


async def test_what_is_not_numbered_yet_is_told_so_and_when_to_ask_again(world: World) -> None:
    action_id = await an_action(world)
    answer = await world.olga.send("GET", f"/admin/audit-records/{action_id}/prove")
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    assert answer.json()["code"] == "audit-record-prove-not-numbered-yet"
    await world.app.sequencer.catch_up()
    assert (await prove(world, action_id))["proofs"]


async def test_every_record_of_an_action_is_proven_or_the_one_that_is_asked_for(world: World) -> None:
    action_id = new_id()
    for phase in ("opened", "closed"):
        await world.sql(
            "INSERT INTO audit_record (action_id, phase, at, action, result, principal, request_id, scope_type, leaf)"
            " VALUES ($1, $2, now(), 'x', 'pending', 'system:test', '', 'admin', convert_to($3, 'UTF8'))",
            action_id,
            phase,
            f'{{"action":"x","at":"2026-11-23T05:44:41.912375Z","id":"{action_id}","phase":"{phase}",'
            '"principal":{"kind":"system","name":"system:test"},"result":"pending","v":1}',
        )
    await world.app.sequencer.catch_up()
    answer = await prove(world, action_id)
    assert [proof["phase"] for proof in answer["proofs"]] == ["opened", "closed"]
    assert all(Proof.read(proof["proof"]).holds() for proof in answer["proofs"])
    [alone] = (await prove(world, action_id, phase="opened"))["proofs"]
    assert b'"phase":"opened"' in Proof.read(alone["proof"]).leaf
    path = f"/admin/audit-records/{action_id}/prove"
    assert (await world.olga.send("GET", path, params={"phase": "done"})).status_code == 404
    assert (await world.olga.send("GET", path, params={"phase": "never"})).status_code == 422


async def test_only_those_who_read_the_whole_log_are_given_proofs(world: World) -> None:
    """A proof holds the whole leaf, and so what a domain is not shown of a record that it sees a half of."""
    action_id = await an_action(world)
    await world.app.sequencer.catch_up()
    auditor = await world.newcomer("local", role="auditor")
    ways = (f"{action_id}/prove", "consistency?first=1", "entries?first=0")
    for way in ways:
        for who in (world.dana, world.mia, world.as_(auditor)):
            assert (await who.send("GET", f"/admin/audit-records/{way}")).status_code == 403
        assert (await world.stranger().send("GET", f"/admin/audit-records/{way}")).status_code == 401
        assert (await world.root.send("GET", f"/admin/audit-records/{way}")).status_code == 200
        assert (await world.as_(auditor).send("GET", f"/domains/research/audit-records/{way}")).status_code == 404
    assert (await world.as_(auditor).send("GET", f"/domains/research/audit-records/{action_id}")).status_code == 200


async def test_reading_a_proof_is_recorded_with_whose_record_it_was(world: World) -> None:
    action_id = await an_action(world)
    await world.app.sequencer.catch_up()
    await prove(world, action_id)
    [record] = await world.records("admin_prove_audit_record")
    assert record["target"]["id"] == str(action_id)
    assert record["principal"]["name"] == f"user:{world.id('olga')}"


async def test_what_was_never_recorded_cannot_be_proven(world: World) -> None:
    assert (await world.olga.send("GET", f"/admin/audit-records/{uuid4()}/prove")).status_code == 404


async def test_that_the_log_only_grew_is_proven_between_any_two_sizes(world: World) -> None:
    await grow(world, 300)
    size = (await newest(world)).size
    for first, second in ((1, 2), (1, size), (7, 299), (256, 257), (size - 1, size), (size, size)):
        told = await world.olga.get("/admin/audit-records/consistency", first=first, second=second)
        proof = [bytes.fromhex(hashed) for hashed in told["hashes"]]
        roots = [bytes.fromhex(told[name]) for name in ("first_root", "second_root")]
        assert extends(first, roots[0], second, roots[1], proof)
        assert len(proof) == len(consistency(first, second))
    told = await world.olga.get("/admin/audit-records/consistency", first=5)
    assert (told["second"], told["second_root"]) == (size, (await newest(world)).root.hex())


async def test_a_log_is_not_proven_to_be_larger_than_it_is(world: World) -> None:
    await grow(world, 3)
    size = (await newest(world)).size
    for params, pointer in (
        ({"first": 1, "second": size + 1}, "/second"),
        ({"first": 3, "second": 2}, "/first"),
        ({"first": size + 1}, "/first"),
        ({"first": 2**62, "second": 2**62}, "/second"),
        ({"first": 0}, "/first"),
        ({"first": 2**63}, "/first"),
    ):
        answer = await world.olga.send("GET", "/admin/audit-records/consistency", params=params)
        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


async def test_entries_are_what_is_hashed_and_in_its_order(world: World) -> None:
    await an_action(world)
    await grow(world, 300)
    size = (await newest(world)).size
    first = await world.olga.get("/admin/audit-records/entries", first=0)
    rest = await world.olga.get("/admin/audit-records/entries", first=256, count=200)
    assert len(first["entries"]) == 256
    entries = [*first["entries"], *rest["entries"]]
    assert [entry["index"] for entry in entries] == list(range(size))
    assert first["size"] == size
    leaves = {(row["action_id"], row["phase"]): row["leaf"] for row in await world.sql("SELECT * FROM audit_record")}
    for entry in entries:
        assert leaves[UUID(entry["id"]), entry["phase"]] == entry["leaf"].encode()
        assert leaf_hash(entry["leaf"].encode()).hex() == entry["hash"]
    assert (await world.olga.get("/admin/audit-records/entries", first=size + 1000))["entries"] == []
    assert (await world.olga.send("GET", "/admin/audit-records/entries?first=0&count=257")).status_code == 422


async def test_a_dropped_record_leaves_its_hash_and_the_proofs_of_all_others(world: World) -> None:
    """What retention will do to a whole partition: the leaf's row outlives the record."""
    action_id = await an_action(world)
    await grow(world, 20)
    [dropped] = await world.sql("SELECT action_id FROM audit_record WHERE action = 'x' LIMIT 1")
    await world.sql("ALTER TABLE audit_record DISABLE TRIGGER ALL")
    for [partition] in await world.sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_record'::regclass"
    ):
        await world.sql(f"ALTER TABLE {partition} DISABLE TRIGGER ALL")
    await world.sql("DELETE FROM audit_record WHERE action_id = $1", dropped["action_id"])
    entries = (await world.olga.get("/admin/audit-records/entries", first=0))["entries"]
    [gone] = [entry for entry in entries if entry["leaf"] is None]
    assert gone["id"] == str(dropped["action_id"])
    index = await audit_tree.index_of(world.app.database.fetch, dropped["action_id"], Phase.DONE)
    assert gone["index"] == index
    assert Proof.read((await prove(world, action_id))["proofs"][0]["proof"]).holds()
    assert (await world.olga.send("GET", f"/admin/audit-records/{dropped['action_id']}/prove")).status_code == 404


async def test_proofs_are_asked_for_while_the_log_grows(world: World) -> None:
    """Each answer is of one checkpoint, whatever is numbered between its statements."""
    action_id = await an_action(world)
    await world.app.sequencer.catch_up()

    async def growing() -> None:
        for _ in range(10):
            await grow(world, 30)

    async def asking() -> None:
        for _ in range(20):
            assert Proof.read((await prove(world, action_id))["proofs"][0]["proof"]).holds()

    await asyncio.gather(growing(), asking(), asking())
