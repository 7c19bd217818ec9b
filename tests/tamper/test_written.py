"""Tampering with the log as the application's own role can: it may add to some tables, and have the tree grown.

| what is done | what becomes of it |
|---|---|
| write a leaf, a node, a checkpoint, the head | refused |
| have the tree grown, whatever is said of where to look | it grows by what is recorded, and the sequencer signs it |
| add a checkpoint of another size, root or name | refused |
| add one that is true and that no key of the log signed | nobody is shown it; /readyz; the next one is in order |
| add a cosignature where there is no checkpoint | refused |
| add one that is false | nobody is shown it, and it counts for nothing |
| add a key | nobody is shown it, it signs nothing, /readyz names it |
| change or delete a key of the log | refused |
| take their private halves away | /readyz; nothing is signed any more |
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import verify
from audit.checkpoint import Checkpoint
from audit.keychain import endorsement
from audit.merkle import Edge
from audit.note import Kind, Note, Signer, Verifier, signed
from audit.record import new_id
from server import tree_watch
from server.repositories.audit_tree import checkpoint_at_least, latest_checkpoint
from server.repositories.audit_witness import cosigned_size, waiting_since
from server.repositories.vouching import NotVouched
from server.sweeper import RENEWING_AUDIT_KEY, SWEEPER
from server.tree_watch import TreeWatch
from tests.exports import export
from tests.numbered import add_records, grow, newest
from tests.tamper.exports import exported, rebuilt
from tests.world.counted import registry
from tests.world.world import World

Sql: TypeAlias = Callable[..., Any]
THIEF = Ed25519PrivateKey.from_private_bytes(b"a thief" + bytes(25))
GROW = "SELECT * FROM number_audit_records($1, $2, $3::text::xid8, $4, $5)"
BEYOND = str(2**63), "ffffffff-ffff-ffff-ffff-ffffffffffff", "~"
KEY = "INSERT INTO audit_key (id, public_key, sealed_private_key, not_after, created_at, endorsement)"


@asynccontextmanager
async def _connected(world: World) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(world.urls.application)
    try:
        yield connection.fetch
    finally:
        await connection.close()


def application(world: World) -> AbstractAsyncContextManager[Sql]:
    """The database as whoever got hold of the application's role sees it."""
    return _connected(world)


async def readyz(world: World) -> dict[str, Any]:
    told: dict[str, Any] = (await world.stranger().get("/readyz?verbose"))["checks"]["audit_tree"]
    return told


async def origin(world: World) -> str:
    return str((await world.sql("SELECT origin FROM audit_log"))[0]["origin"])


async def true_tree(world: World) -> None:
    """Every record has its number, and each hash of the tree, and its root, is what they make."""
    rows = await world.sql(
        "SELECT index, sha256('\\x00'::bytea || leaf) AS right, hash FROM audit_leaf"
        " JOIN audit_record USING (action_id, phase) ORDER BY index"
    )
    [count] = await world.sql("SELECT count(*) FROM audit_record")
    assert [row["index"] for row in rows] == list(range(count[0]))
    assert all(row["right"] == row["hash"] for row in rows)
    nodes, root = rebuilt([row["hash"] for row in rows])
    kept = await world.sql("SELECT tile_level * 8, index, hash FROM audit_node ORDER BY 1, 2")
    assert [((row[0], row[1]), row[2]) for row in kept] == sorted((tuple(node), hashed) for node, hashed in nodes)
    checkpoint = await newest(world)
    assert (checkpoint.size, checkpoint.root) == (len(rows), root)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO audit_leaf SELECT 1000000000000, action_id, phase, '\\x00' FROM audit_record LIMIT 1",
        "INSERT INTO audit_leaf SELECT size, gen_random_uuid(), 'done', '\\x00' FROM audit_head",
        "INSERT INTO audit_node VALUES (1, 0, '\\x00')",
        "INSERT INTO audit_checkpoint (size, root, note) VALUES (4611686018427387904, '\\x00', 'hello')",
        "UPDATE audit_head SET size = 0",
        "DELETE FROM audit_head",
        "INSERT INTO audit_head SELECT size + 1, root, xid, action_id, phase FROM audit_head",
        "UPDATE audit_key SET public_key = 'mine'",
        "UPDATE audit_key SET endorsement = 'mine'",
        "DELETE FROM audit_key",
        "CREATE OR REPLACE FUNCTION audit_root(size bigint) RETURNS bytea LANGUAGE sql AS 'SELECT NULL::bytea'",
    ],
)
async def test_the_role_of_the_application_writes_no_part_of_the_tree(world: World, statement: str) -> None:
    async with application(world) as sql:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sql(statement)


async def test_whoever_has_the_tree_grown_leaves_no_record_out_and_stops_nobody(world: World, tmp_path: Path) -> None:
    await grow(world, 300)
    await add_records(world, 40)
    async with application(world) as sql:
        await sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await sql("SELECT 1")
        await sql(GROW, 5, True, "0", "00000000-0000-0000-0000-000000000000", "")
        await sql("COMMIT")
        for batch, left_out in ((1, False), (1, True), (7, True)):
            await sql(GROW, batch, left_out, *BEYOND)
        for batch in (0, -1):
            with pytest.raises(asyncpg.CheckViolationError):
                await sql(GROW, batch, False, *BEYOND)
    with pytest.raises(AssertionError):
        await true_tree(world)  # it was not signed, and not all of it numbered
    await world.app.sequencer.catch_up()
    await true_tree(world)
    assert (await readyz(world))["ok"]
    await export(world, tmp_path / "export")


async def test_what_was_numbered_and_not_signed_is_signed_though_nothing_new_is_recorded(world: World) -> None:
    await grow(world, 3)
    await add_records(world, 3)
    async with application(world) as sql:
        await sql(GROW, 2000, False, *BEYOND)
    assert await world.app.sequencer.step() == 0
    await true_tree(world)


async def test_the_tree_is_right_across_the_ends_of_tiles(world: World) -> None:
    """At the second kept level, too: what stands below it is arranged, as a log of 65,536 records takes its time."""
    await world.app.sequencer.catch_up()
    edge = Edge()
    [most] = await world.sql("SELECT size FROM audit_head")
    kept = [row["hash"] for row in await world.sql("SELECT hash FROM audit_leaf ORDER BY index")]
    await world.sql(
        "INSERT INTO audit_leaf SELECT n, gen_random_uuid(), 'done', sha256(n::text::bytea)"
        " FROM generate_series($1::bigint, 65529) AS n",
        most["size"],
    )
    await world.sql("INSERT INTO audit_node SELECT 1, n, audit_subtree(0, n * 256, 256) FROM generate_series(0, 254) n")
    await world.sql("UPDATE audit_head SET size = 65530, root = audit_root(65530)")
    await grow(world, 20)
    rows = await world.sql("SELECT hash FROM audit_leaf ORDER BY index")
    assert [row["hash"] for row in rows[: len(kept)]] == kept
    nodes = [node for row in rows for node in edge.add(row["hash"])]
    checkpoint = await newest(world)
    assert (checkpoint.size, checkpoint.root) == (65550, edge.root())
    found = await world.sql(
        "SELECT tile_level * 8 AS level, index, hash FROM audit_node WHERE tile_level = 2 OR index = 255"
    )
    assert {((row["level"], row["index"]), row["hash"]) for row in found} == {
        (tuple(node), hashed) for node, hashed in nodes if node.level == 16 or node.place == 255
    }
    assert len(found) == 2


async def test_a_checkpoint_that_is_not_of_the_tree_is_refused(world: World) -> None:
    await grow(world, 3)
    await add_records(world, 3)
    head, name = await newest(world), await origin(world)
    thief = Signer(name, THIEF)
    async with application(world) as sql:
        await sql(GROW, 2000, False, *BEYOND)
        for told in (
            "hello",
            str(signed(Checkpoint(name, 2**62, head.root).text(), [thief])),
            str(signed(Checkpoint(name, head.size, head.root).text(), [thief])),
            str(signed(Checkpoint(name, head.size + 3, head.root).text(), [thief])),
            str(signed(Checkpoint("another", head.size, head.root).text(), [thief])),
            head.note,
        ):
            with pytest.raises(asyncpg.CheckViolationError, match="no checkpoint of the tree as it stands"):
                await sql("SELECT add_audit_checkpoint($1)", told)


async def false_checkpoint(world: World) -> None:
    """A checkpoint that says the truth of the tree, and that a thief has signed."""
    await add_records(world, 3)
    async with application(world) as sql:
        await sql(GROW, 2000, False, *BEYOND)
        [head] = await sql("SELECT size, root FROM audit_head")
        name = await origin(world)
        note = signed(Checkpoint(name, head["size"], head["root"]).text(), [Signer(name, THIEF)])
        await sql("SELECT add_audit_checkpoint($1)", str(note))


async def test_a_checkpoint_that_no_key_of_the_log_signed_is_shown_to_nobody_and_named(
    world: World, tmp_path: Path
) -> None:
    [seen] = (await world.root.get("/admin/audit-records", limit="1"))["items"]
    await grow(world, 3)
    await false_checkpoint(world)
    told = await readyz(world)
    assert (told["ok"], "is signed with no key of the log" in told["detail"]) == (False, True)
    watch = TreeWatch(world.app.database, world.app.metrics)
    await watch.once()
    assert registry(world.app.metrics).get_sample_value("chamberlain_audit_unvouched") == 1
    assert (await world.stranger().send("GET", "/checkpoint")).status_code == 503
    answer = await world.olga.send("GET", f"/admin/audit-records/{seen['id']}/prove")
    assert (answer.status_code, answer.json()["code"]) == (503, "audit-record-prove-checkpoint-not-signed")
    with pytest.raises(NotVouched):
        await latest_checkpoint(world.app.database.fetch)
    with pytest.raises(NotVouched):
        await checkpoint_at_least(world.app.database.fetch, 1)

    await grow(world, 1)
    assert (await readyz(world))["ok"]
    await watch.once()
    assert registry(world.app.metrics).get_sample_value("chamberlain_audit_unvouched") == 0
    assert (await world.stranger().send("GET", "/checkpoint")).status_code == 200
    manifest = await export(world, tmp_path / "export")
    thief = Signer(await origin(world), THIEF).verifier
    assert not any(Note.read(note).vouched([thief]) for note in manifest["checkpoints"])
    await world.app.sequencer.catch_up()
    await true_tree(world)


async def test_a_cosignature_without_its_checkpoint_is_refused(world: World) -> None:
    await grow(world, 3)
    async with application(world) as sql:
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await sql("INSERT INTO audit_cosignature (size, witness, line) VALUES (1000000000000000000, 'w', 'l')")


async def test_a_cosignature_that_does_not_hold_is_shown_to_nobody_and_counts_for_nothing(
    world: World, tmp_path: Path
) -> None:
    await grow(world, 3)
    head = await newest(world)
    witness = Signer("witness.test/1", Ed25519PrivateKey.generate(), Kind.COSIGNATURE)
    other = Signer("witness.test/1", THIEF, Kind.COSIGNATURE)
    named = str(witness.verifier)
    wrong = witness.sign("another text\n", 1_800_000_000)
    async with application(world) as sql:
        for key, line in (
            (named, wrong),
            ("hello", "hello"),
            (str(other.verifier), "\N{EM DASH} witness.test/1 AAAA\n"),
        ):
            await sql("INSERT INTO audit_cosignature (size, witness, line) VALUES ($1, $2, $3)", head.size, key, line)
    after = await newest(world)
    assert (after.note, after.witnesses) == (head.note, ())
    assert await cosigned_size(world.app.database, named) == 0
    assert await waiting_since(world.app.database, named) is not None
    manifest = await export(world, tmp_path / "export", end=head.size)
    assert Note.read(manifest["checkpoint"]).vouched([witness.verifier]) == []


async def strange_key(world: World, sealed: bytes = b"", **more: Any) -> Verifier:
    """A key that somebody added who has the application's role, and its public half."""
    key = Signer(await origin(world), THIEF).verifier
    told = {"not_after": "now() - interval '1 hour'", "endorsement": None, **more}
    async with application(world) as sql:
        await sql(
            f"{KEY} VALUES ($1, $2, $3, {told['not_after']}, '1970-01-01', $4)",
            new_id(),
            str(key),
            sealed,
            told["endorsement"],
        )
    return key


async def handed_out(world: World, folder: Path) -> set[str]:
    """Every key that anybody is told of, by whichever way."""
    listed = (await world.olga.get("/admin/audit-keys"))["items"]
    [row] = await world.sql("SELECT action_id FROM audit_leaf WHERE phase = 'done' ORDER BY index DESC LIMIT 1")
    proven = await world.olga.get(f"/admin/audit-records/{row['action_id']}/prove")
    manifest = await export(world, folder)
    return {*(key["public_key"] for key in listed), *proven["keys"], *manifest["keys"]}


async def test_a_key_that_none_before_it_vouches_for_is_handed_out_by_nobody_and_named(
    world: World, tmp_path: Path
) -> None:
    await grow(world, 3)
    own = await handed_out(world, tmp_path / "before")
    key = await strange_key(world)
    [row] = await world.sql("SELECT id FROM audit_key WHERE public_key = $1", str(key))
    assert await handed_out(world, tmp_path / "after") == own
    assert (await world.olga.send("GET", f"/admin/audit-keys/{row['id']}")).status_code == 404
    told = await readyz(world)
    assert told["ok"] is False
    assert told["detail"].startswith(f"1 keys are none of the log's, and somebody else wrote them: {row['id']}")
    await TreeWatch(world.app.database, world.app.metrics).once()
    assert registry(world.app.metrics).get_sample_value("chamberlain_audit_unvouched") == 1
    # What is signed anew with it does not hold for whoever asks the server for its keys.
    folder = await exported(world, tmp_path / "forged")
    manifest = (folder / "manifest.json").read_text()
    thief = Signer(key.name, THIEF)
    checkpoint = Note.read((await newest(world)).note)
    (folder / "manifest.json").write_text(
        manifest.replace(_json(str(checkpoint)), _json(str(signed(checkpoint.text, [thief]))))
    )
    with pytest.raises(verify.Wrong, match="is not signed with a key that was given"):
        verify.export(folder, ([verify.read_key(one, verify.LOG) for one in own], []))


def _json(text: str) -> str:
    return text.replace("\n", "\\n")


@pytest.mark.parametrize("sealed", [b"", b"k1:no such thing"])
async def test_a_key_of_somebody_elses_signs_nothing_and_keeps_none_of_the_logs_from_it(
    world: World, sealed: bytes
) -> None:
    await grow(world, 3)
    own = [key["public_key"] for key in (await world.olga.get("/admin/audit-keys"))["items"]]
    name = await origin(world)
    forged = endorsement(Signer(name, THIEF).verifier, [Signer(name, THIEF)])
    await strange_key(world, sealed, not_after="NULL", endorsement=forged)
    await grow(world, 3)
    signers = Note.read((await newest(world)).note).vouched([Verifier.read(key) for key in own])
    assert [str(one.by) for one in signers] == own
    await world.root.post("/admin/audit-keys/rotate", {})
    keys = (await world.olga.get("/admin/audit-keys", order="created_at:asc"))["items"]
    assert [key["public_key"] for key in keys][:-1] == own
    assert keys[-1]["endorsement"] is not None


async def test_a_key_is_succeeded_by_one_that_it_vouches_for_to_the_last(world: World) -> None:
    await grow(world, 3)
    for _ in range(2):
        await world.root.post("/admin/audit-keys/rotate", {})
        await grow(world, 1)
    await world.sql("UPDATE audit_key SET not_after = now() WHERE not_after IS NOT NULL")
    for _ in range(2):
        await world.app.internally(RENEWING_AUDIT_KEY, SWEEPER, {})
    keys = (await world.olga.get("/admin/audit-keys", order="created_at:asc"))["items"]
    assert [key["endorsement"] is None for key in keys] == [True, False, False]
    await grow(world, 1)
    assert (await readyz(world))["ok"]


async def test_a_key_that_somebody_let_expire_vouches_for_the_next_before_it_is_put_away(world: World) -> None:
    await grow(world, 3)
    async with application(world) as sql:
        await sql("UPDATE audit_key SET not_after = now()")
    await world.app.internally(RENEWING_AUDIT_KEY, SWEEPER, {})
    await grow(world, 3)
    assert len((await world.olga.get("/admin/audit-keys"))["items"]) == 2
    assert (await readyz(world))["ok"]


async def test_a_log_whose_keys_are_gone_is_signed_no_more_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grow(world, 3)
    async with application(world) as sql:
        await sql("UPDATE audit_key SET sealed_private_key = ''")
    with pytest.raises(Exception, match="None of the log's keys can be opened"):
        await world.app.internally(RENEWING_AUDIT_KEY, SWEEPER, {})
    await add_records(world, 3)
    assert await world.app.sequencer.step() == 0
    told = await readyz(world)
    assert (told["ok"], told["detail"]) == (False, "the log has no key that signs, so nothing is numbered")
    monkeypatch.setattr(tree_watch, "LATE_SECONDS", 0.0)
    assert "records wait for their number" in (await readyz(world))["detail"]
