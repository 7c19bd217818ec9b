"""Tampering with the log as its owner can: every way is found, and by whom is told here.

The database's superuser, its owner and whoever holds the key ring can write what they like into every table. What they
cannot do is change what somebody else has kept: an export, a checkpoint, a witness's memory.

| what is done | who finds it | what it says |
|---|---|---|
| edit a record | verify | index N: the record does not have the hash that hashes.bin tells |
| edit it and its hash | verify | index A to B: here is something else than was signed |
| edit it, its hash, and the tree | the exporter | the checkpoint is signed with no key of the log |
| and bring an exporter of one's own | verify | the checkpoint has a signature that does not hold |
| all that, under the true key | verify with a kept checkpoint | index A to B: here is something else than was signed |
| | verify with --witness | the checkpoint is not cosigned by ... |
| | the witness | it has seen another log; this log does not go on from ... |
| delete a record | verify | index N: only the record's hash is there |
| delete one beside many that were dropped | verify --server | N records are missing, and no more than M were dropped |
| delete it and its leaf | the exporter | the log ended at entry N, before the range did |
| and make up what is missing | verify | index A to B: here is something else than was signed |
| insert a record into the order | verify | index A to B: here is something else than was signed |
| swap two records | verify | index A to B: here is something else than was signed |
| cut off the end | verify with a kept checkpoint | it covers N; this export can be held to M |
| | verify --server --remember | the log ends here, but ...: it was rolled back |
| | the witness | it has seen N records, and this log has M |
| roll back to a backup | the witness, or whoever kept a checkpoint | the same |
| roll back, then go on as far or further | the witness | it has seen another log; this log does not go on |
| fork into two servers | the witness, of the second that asks | this log does not go on; it has seen another log |
| swap the keys | verify | the checkpoint is not signed with a key that was given |
| | the witness | it does not know the key that signs the log |
| change any byte of an export | verify | the index, or the file |
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit import verify
from audit.checkpoint import Checkpoint
from audit.merkle import HEIGHT, leaf_hash
from audit.note import Note, Signer, Verifier, signed
from audit.record import canonical
from server.app import Application, application
from server.cli.output import Refused
from server.embedded import DatabaseUrls
from server.http.metrics import Metrics
from server.repositories.audit_keys import signers
from server.repositories.vouching import NotVouched
from server.witness import Seen, Witness, make_key, read_key, seen_path, witness_app
from server.witness_address import WitnessAddress
from server.witnessing import Refusal, Witnessing
from tests.tamper.exports import LOGGER, WITNESSER, export_of, exported, rebuilt, trust, write_export
from tests.world.counted import registry
from tests.world.served import served
from tests.world.stage import Stage
from tests.world.world import World

TABLES = ("audit_leaf", "audit_node", "audit_checkpoint", "audit_cosignature", "audit_log")


class Outside:
    """A witness, in somebody else's hands."""

    def __init__(self, folder: Path, log: str) -> None:
        path = folder / "witness"
        self.key = make_key("witness.test/1", path)

        witness = Witness(read_key(path), [Verifier.read(log)], Seen(seen_path(path)))
        self.transport = httpx.ASGITransport(app=witness_app(witness))

    def asked_by(self, app: Application) -> Witnessing:
        address = WitnessAddress(self.key, "http://witness.test")
        return Witnessing(app.database, app.sequencer, [address], app.metrics, self.transport)


async def log_key(world: World) -> str:
    return str((await world.sql("SELECT public_key FROM audit_key"))[0]["public_key"])


async def ask(witnessing: Witnessing) -> None:
    await witnessing.submit(witnessing.witnesses[0])


async def act(world: World, times: int = 3) -> None:
    for _ in range(times):
        await world.root.get("/admin/domains")
        await world.app.sequencer.catch_up()


@dataclass
class Owner:
    """Whoever owns the database: no trigger stops them."""

    world: World

    async def do(self, *statements: str | tuple[Any, ...]) -> None:
        partitions = await self.world.sql(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'audit_record'::regclass"
        )
        for table in ("audit_record", *(row["name"] for row in partitions), *TABLES):
            await self.world.sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement in statements:
            parts = (statement,) if isinstance(statement, str) else statement
            await self.world.sql(*parts)

    async def leaf(self, index: int) -> bytes:
        rows = await self.world.sql(
            "SELECT leaf FROM audit_leaf JOIN audit_record USING (action_id, phase) WHERE index = $1", index
        )
        return bytes(rows[0]["leaf"])

    async def rewrite(self, index: int, leaf: bytes) -> None:
        await self.do(
            (
                "UPDATE audit_record r SET leaf = $2 FROM audit_leaf l"
                " WHERE l.index = $1 AND (r.action_id, r.phase) = (l.action_id, l.phase)",
                index,
                leaf,
            )
        )

    async def rehash(self, index: int) -> None:
        await self.do(("UPDATE audit_leaf SET hash = $2 WHERE index = $1", index, leaf_hash(await self.leaf(index))))

    async def regrow(self, sign: Sequence[Signer] = ()) -> None:
        """Make the tree anew over the leaves as they are; and the checkpoints, signed if there are keys to do it."""
        hashes = [row["hash"] for row in await self.world.sql("SELECT hash FROM audit_leaf ORDER BY index")]
        nodes, _ = rebuilt(hashes)
        await self.do("DELETE FROM audit_node")
        for node, hashed in nodes:
            await self.do(("INSERT INTO audit_node VALUES ($1, $2, $3)", node.level // HEIGHT, node.place, hashed))
        for row in await self.world.sql("SELECT size, note FROM audit_checkpoint"):
            note = Note.read(row["note"])
            checkpoint = Checkpoint(Checkpoint.of(note).origin, row["size"], rebuilt(hashes[: row["size"]])[1])
            again = signed(checkpoint.text(), sign) if sign else Note(checkpoint.text(), note.signatures)
            await self.do(
                (
                    "UPDATE audit_checkpoint SET root = $2, note = $3 WHERE size = $1",
                    row["size"],
                    checkpoint.root,
                    str(again),
                )
            )

    async def keys(self) -> Sequence[Signer]:
        """The log's own keys: the owner of the machine has the key ring, too."""
        async with self.world.app.database.connection() as connection:
            origin = await connection.fetchval("SELECT origin FROM audit_log")
            return await signers(self.world.app.ring)(connection, origin)


@pytest.fixture
async def owner(world: World) -> Owner:
    await act(world)
    return Owner(world)


async def trusting(world: World, *witnesses: str) -> verify.Trust:
    return (
        [verify.read_key(await log_key(world), verify.LOG)],
        [verify.read_key(key, verify.WITNESS) for key in witnesses],
    )


async def size_of(world: World) -> int:
    return int((await world.sql("SELECT max(size) AS size FROM audit_checkpoint"))[0]["size"])


async def found(world: World, folder: Path, *witnesses: str, older: Sequence[verify.Checkpoint] = ()) -> str:
    """What the verifier says against an export of the world's log."""
    with pytest.raises(verify.Wrong) as wrong:
        verify.export(await exported(world, folder), await trusting(world, *witnesses), older)
    return str(wrong.value)


async def kept(world: World) -> verify.Checkpoint:
    """The newest checkpoint, as somebody else keeps it."""
    rows = await world.sql("SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1")
    return verify.Checkpoint.read(rows[0]["note"], "the checkpoint in kept")


def forged(leaf: bytes) -> bytes:
    told = orjson.loads(leaf)
    return canonical({**told, "principal": {**told["principal"], "name": "user:somebody-else"}})


async def test_a_log_that_nobody_touched_holds(owner: Owner, tmp_path: Path) -> None:
    outside = Outside(tmp_path, await log_key(owner.world))
    await ask(outside.asked_by(owner.world.app))
    folder = await exported(owner.world, tmp_path / "export")
    told = verify.export(folder, await trusting(owner.world, str(outside.key)), [await kept(owner.world)])
    assert f"all {await size_of(owner.world)} records are as they were signed" in told[0]
    assert any("signed by witness.test/1" in line for line in told)


async def test_an_edited_record_is_found(owner: Owner, tmp_path: Path) -> None:
    await owner.rewrite(5, forged(await owner.leaf(5)))
    assert "index 5: the record does not have the hash" in await found(owner.world, tmp_path / "export")


async def test_an_edited_record_with_its_hash_is_found(owner: Owner, tmp_path: Path) -> None:
    await owner.rewrite(5, forged(await owner.leaf(5)))
    await owner.rehash(5)
    told = await found(owner.world, tmp_path / "export")
    assert told.startswith("index 0 to ")
    assert "here is something else than was signed" in told


async def test_an_edited_record_with_the_whole_tree_is_found(owner: Owner, tmp_path: Path) -> None:
    await owner.rewrite(5, forged(await owner.leaf(5)))
    await owner.rehash(5)
    await owner.regrow()
    with pytest.raises(NotVouched, match="signed with no key of the log"):
        await exported(owner.world, tmp_path / "export")


async def test_an_edit_under_the_true_key_is_found_by_who_kept_something(owner: Owner, tmp_path: Path) -> None:
    """Whoever has the key can sign another history. Nobody who knows the key alone can tell."""
    outside = Outside(tmp_path, await log_key(owner.world))
    witnessing = outside.asked_by(owner.world.app)
    await ask(witnessing)
    before = await kept(owner.world)
    await owner.rewrite(5, forged(await owner.leaf(5)))
    await owner.rehash(5)
    await owner.regrow(await owner.keys())
    alone = verify.export(await exported(owner.world, tmp_path / "alone"), await trusting(owner.world))
    assert "as they were signed" in alone[0]
    told = await found(owner.world, tmp_path / "old", older=[before])
    assert "something else than was signed in the checkpoint in kept" in told
    told = await found(owner.world, tmp_path / "witnessed", str(outside.key))
    assert "is not cosigned by witness.test/1" in told
    await owner.do("DELETE FROM audit_cosignature")
    told = await found(owner.world, tmp_path / "unwitnessed", str(outside.key))
    assert "is not cosigned by witness.test/1" in told
    with pytest.raises(Refusal, match="it has seen another log") as refused:
        await ask(outside.asked_by(owner.world.app))
    assert refused.value.conflict
    await act(owner.world)
    with pytest.raises(Refusal, match="does not go on from the"):
        await ask(outside.asked_by(owner.world.app))


async def test_a_deleted_record_is_found(owner: Owner, tmp_path: Path) -> None:
    await owner.do(
        "DELETE FROM audit_record r USING audit_leaf l"
        " WHERE l.index = 7 AND (r.action_id, r.phase) = (l.action_id, l.phase)"
    )
    assert "index 7: only the record's hash is there" in await found(owner.world, tmp_path / "export")


async def test_a_record_that_was_deleted_with_its_leaf_is_found(owner: Owner, tmp_path: Path) -> None:
    await owner.do(
        "DELETE FROM audit_leaf WHERE index = 7",
        "UPDATE audit_leaf SET index = -index WHERE index > 7",
        "UPDATE audit_leaf SET index = -index - 1 WHERE index < 0",
    )
    with pytest.raises(Refused, match=r"the log ended at entry \d+, before the range did"):
        await exported(owner.world, tmp_path / "export")
    rows = await owner.world.sql(
        "SELECT leaf, hash FROM audit_leaf JOIN audit_record USING (action_id, phase) ORDER BY index"
    )
    notes = [row["note"] for row in await owner.world.sql("SELECT note FROM audit_checkpoint ORDER BY size")]
    leaves, hashes = [*(row["leaf"] for row in rows), None], [*(row["hash"] for row in rows), bytes(32)]
    folder = write_export(tmp_path / "made-up", leaves, hashes, notes[-1], passed=notes)
    with pytest.raises(verify.Wrong, match="here is something else than was signed"):
        verify.export(folder, await trusting(owner.world))


INSERT = """
    INSERT INTO audit_record (action_id, phase, at, action, result, principal, request_id, scope_type, leaf, xid)
    SELECT action_id, 'settled', at, action, result, principal, request_id, scope_type, $1, xid
    FROM audit_record JOIN audit_leaf USING (action_id, phase) WHERE index = 7
"""


async def test_an_inserted_record_is_found(owner: Owner, tmp_path: Path) -> None:
    leaf = canonical({**orjson.loads(await owner.leaf(7)), "phase": "settled"})
    await owner.do(
        (INSERT, leaf),
        "UPDATE audit_leaf SET index = -index WHERE index > 7",
        "UPDATE audit_leaf SET index = -index + 1 WHERE index < 0",
        (
            "INSERT INTO audit_leaf SELECT 8, action_id, 'settled', $1 FROM audit_leaf WHERE index = 7",
            leaf_hash(leaf),
        ),
    )
    assert "here is something else than was signed" in await found(owner.world, tmp_path / "export")


async def test_records_in_another_order_are_found(owner: Owner, tmp_path: Path) -> None:
    await owner.do(
        "UPDATE audit_leaf SET index = -1 WHERE index = 7",
        "UPDATE audit_leaf SET index = 7 WHERE index = 9",
        "UPDATE audit_leaf SET index = 9 WHERE index = -1",
    )
    assert "here is something else than was signed" in await found(owner.world, tmp_path / "export")


async def test_a_log_without_its_end_is_found_by_who_kept_something(owner: Owner, tmp_path: Path) -> None:
    outside = Outside(tmp_path, await log_key(owner.world))
    await ask(outside.asked_by(owner.world.app))
    before = await kept(owner.world)
    sizes = [row["size"] for row in await owner.world.sql("SELECT size FROM audit_checkpoint ORDER BY size DESC")]
    left = sizes[2]
    await owner.do(
        f"DELETE FROM audit_record r USING audit_leaf l WHERE l.index >= {left}"
        " AND (r.action_id, r.phase) = (l.action_id, l.phase)",
        f"DELETE FROM audit_leaf WHERE index >= {left}",
        "DELETE FROM audit_cosignature",
        f"DELETE FROM audit_checkpoint WHERE size > {left}",
    )
    folder = await exported(owner.world, tmp_path / "export")
    assert "as they were signed" in verify.export(folder, await trusting(owner.world))[0]
    with pytest.raises(ValueError, match=f"the checkpoint in kept covers {before.size} of .* or to {left}: get one"):
        verify.export(folder, await trusting(owner.world), [before])
    with pytest.raises(Refusal, match=f"it has seen {before.size} records, and this log has {left}") as refused:
        await ask(outside.asked_by(owner.world.app))
    assert refused.value.conflict


async def test_swapped_keys_are_found(owner: Owner, tmp_path: Path) -> None:
    reviewer = await trusting(owner.world)
    outside = Outside(tmp_path, await log_key(owner.world))
    await ask(outside.asked_by(owner.world.app))
    origin = (await owner.world.sql("SELECT origin FROM audit_log"))[0]["origin"]
    thief = Signer(origin, Ed25519PrivateKey.generate())
    await owner.do(("UPDATE audit_key SET public_key = $1", str(thief.verifier)), "DELETE FROM audit_cosignature")
    await owner.regrow([thief])
    folder = await exported(owner.world, tmp_path / "export")
    with pytest.raises(verify.Wrong, match="is not signed with a key that was given"):
        verify.export(folder, reviewer)
    with pytest.raises(Refusal, match="it does not know the key"):
        await ask(outside.asked_by(owner.world.app))


@dataclass
class Copies:
    """Databases that are copies of one another, and the application over one of them."""

    stage: Stage
    names: list[str]

    async def copy(self, source: str | None = None) -> tuple[str, DatabaseUrls]:
        name = f"copy_{len(self.names)}_{id(self)}"
        self.names.append(name)
        return name, await self.stage.postgres.create_database(name, source or "stage")

    @asynccontextmanager
    async def serving(self, urls: DatabaseUrls) -> AsyncIterator[World]:

        async with application(self.stage.settings(), urls.application, Metrics()) as app, served(app) as asgi:
            yield World(self.stage, urls, app, asgi)


@pytest.fixture
async def copies(stage: Stage) -> AsyncIterator[Copies]:
    copies = Copies(stage, [])
    try:
        yield copies
    finally:
        for name in copies.names:
            await stage.postgres.drop_database(name)


async def test_a_rollback_is_found_by_the_witness_alone(copies: Copies, tmp_path: Path) -> None:
    live, urls = await copies.copy()
    async with copies.serving(urls) as world:
        await act(world)
        outside = Outside(tmp_path, await log_key(world))
        await ask(outside.asked_by(world.app))
    _, backup_urls = await copies.copy(live)
    async with copies.serving(urls) as world:
        await act(world, 4)
        await ask(outside.asked_by(world.app))
        seen = await size_of(world)
    async with copies.serving(backup_urls) as world:
        restored = await size_of(world)
        witnessing = outside.asked_by(world.app)
        with pytest.raises(Refusal, match=f"it has seen {seen} records, and this log has {restored}") as refused:
            await ask(witnessing)
        assert refused.value.conflict
        with pytest.raises(ValueError, match=r"witness.test/1 refuses: it has seen .* was rolled back, or forked"):
            await witnessing.told()
        counted = registry(world.app.metrics).get_sample_value(
            "chamberlain_audit_witness_conflicts_total", {"witness": "witness.test/1"}
        )
        assert counted == 1
        # By itself the restored database is without a flaw, and stays so.
        assert verify.export(await exported(world, tmp_path / "export"), await trusting(world))
        while await size_of(world) < seen:
            await act(world, 1)
        with pytest.raises(Refusal, match=r"it has seen another log|does not go on from") as refused:
            await ask(witnessing)
        assert refused.value.conflict
        await act(world, 3)
        with pytest.raises(Refusal, match=f"this log does not go on from the {seen} records that it has seen"):
            await ask(witnessing)
        assert verify.export(await exported(world, tmp_path / "later"), await trusting(world))
        with pytest.raises(verify.Wrong, match=r"is not cosigned by witness.test/1"):
            verify.export(tmp_path / "later", await trusting(world, str(outside.key)))


async def test_a_fork_is_found_by_the_witness_alone(copies: Copies, tmp_path: Path) -> None:
    """Two servers from one backup, under the same key: each is without a flaw, and the witness vouches for one."""
    live, urls = await copies.copy()
    async with copies.serving(urls) as world:
        await act(world)
        outside = Outside(tmp_path, await log_key(world))
    _, other_urls = await copies.copy(live)
    async with copies.serving(urls) as one, copies.serving(other_urls) as other:
        await asyncio.gather(act(one, 2), act(other, 3))
        await ask(outside.asked_by(one.app))
        witnessing = outside.asked_by(other.app)
        with pytest.raises(Refusal) as refused:
            await ask(witnessing)
        assert refused.value.conflict
        with pytest.raises(ValueError, match=r"witness.test/1 refuses: .* rolled back, or forked"):
            await witnessing.told()
        for name, world in (("one", one), ("other", other)):
            assert verify.export(await exported(world, tmp_path / name), await trusting(world))
        assert verify.export(tmp_path / "one", await trusting(one, str(outside.key)))
        with pytest.raises(verify.Wrong, match=r"is not cosigned by witness.test/1"):
            verify.export(tmp_path / "other", await trusting(other, str(outside.key)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_of(
        tmp_path_factory.mktemp("whole") / "export", 30, first=3, end=24, also={"records.csv": b"a,b\n1,2\n"}
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_a_file_changes_unseen(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["records.jsonl", "hashes.bin", "records.csv"]))
    content = bytearray((whole / name).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    kept_files = {path.name: path.read_bytes() for path in whole.iterdir()}
    for other, was in kept_files.items():
        (tmp_path / other).write_bytes(bytes(content) if other == name else was)
    with pytest.raises(verify.Wrong) as wrong:
        verify.export(tmp_path, trust(LOGGER, WITNESSER))
    if name != "records.csv":
        index = 3 + (place // 32 if name == "hashes.bin" else kept_files[name][:place].count(b"\n"))
        assert str(wrong.value).startswith((f"index {index}:", f"index {index + 1}:"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_the_checkpoint_changes_unseen(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    text = (whole / "manifest.json").read_bytes()
    start = text.index(b'"checkpoint": "') + len(b'"checkpoint": "')
    place = data.draw(st.integers(start, text.index(b'"', start) - 1))
    content = bytearray(text)
    content[place] ^= data.draw(st.integers(1, 255))
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes() if path.name != "manifest.json" else bytes(content))
    with pytest.raises(verify.Wrong):
        verify.export(tmp_path, trust(LOGGER, WITNESSER))
