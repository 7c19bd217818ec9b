"""``chamberlain audit verify``: an export, a proof, and a live server, from the command line."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from audit.checkpoint import Checkpoint
from audit.merkle import leaf_hash
from audit.note import Signer, signed
from audit.verify import LOG, WITNESS, Wrong, read_key
from server.cli.audit.checking import Tiles, _newest
from server.keyring import KeyRing
from server.repositories.audit_keys import signers
from server.repositories.database import Connection
from tests.commands import Installation, in_database, in_one_line, invoke, until
from tests.tamper.exports import LOGGER, WITNESSER, export_of, made_up, proof_of, root_of, vouched, write_export

KEY, WITNESS_KEY = str(LOGGER.verifier), str(WITNESSER.verifier)


def test_an_export_and_a_proof_are_checked(tmp_path: Path) -> None:
    folder = export_of(tmp_path / "export", 20)
    done = invoke("audit", "verify", str(folder), "--key", KEY, "--witness", WITNESS_KEY)
    assert done.exit_code == 0, done.stderr
    assert "all 20 records are as they were signed" in done.stdout
    (folder / "hashes.bin").write_bytes(bytes(640))
    done = invoke("audit", "verify", str(folder), "--key", KEY)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "chamberlain: index 0: the record does not have the hash that hashes.bin tells\n"
    leaves = made_up(9)
    checkpoint = vouched(9, root_of([leaf_hash(leaf) for leaf in leaves]), LOGGER)
    proof = proof_of(tmp_path / "proof", leaves, 4, checkpoint)
    assert "index 4 of the 9 records" in invoke("audit", "verify", str(proof), "--key", KEY).stdout
    done = invoke("audit", "verify", str(proof), "--key", KEY, "--witness", WITNESS_KEY)
    assert (done.exit_code, "is not cosigned by" in done.stderr) == (1, True)


def test_what_it_cannot_do_is_told_in_one_line(tmp_path: Path) -> None:
    folder = str(export_of(tmp_path / "export", 5))
    assert "say what to check" in in_one_line(invoke("audit", "verify", "--key", KEY))
    assert "say what to check" in in_one_line(invoke("audit", "verify", folder, "--server", "--key", KEY))
    assert "say by which key of the log" in in_one_line(invoke("audit", "verify", folder))
    assert "is no key of a log" in in_one_line(invoke("audit", "verify", folder, "--key", "x"))
    assert "--remember goes with" in in_one_line(invoke("audit", "verify", folder, "--key", KEY, "--remember", "x"))
    assert "cannot be read" in in_one_line(invoke("audit", "verify", "/nowhere", "--key", KEY))
    arguments = ("audit", "verify", folder, "--key", KEY, "--checkpoint", "/nowhere")
    assert "/nowhere cannot be read" in in_one_line(invoke(*arguments))
    assert "is no range of indexes" in in_one_line(invoke("audit", "verify", folder, "--key", KEY, "--dropped", "1"))
    leaves = made_up(2)
    note = vouched(2, root_of([leaf_hash(leaf) for leaf in leaves]), LOGGER)
    (tmp_path / "kept").write_text(note)
    proof = str(proof_of(tmp_path / "proof", leaves, 1, note))
    for option in (("--dropped", "0..1"), ("--archive", folder), ("--checkpoint", str(tmp_path / "kept"))):
        assert "go with an export" in in_one_line(invoke("audit", "verify", proof, "--key", KEY, *option))


@pytest.fixture(scope="module")
def key(server: Installation) -> str:
    until(lambda: server.run("audit", "keys").exit_code == 0)
    return server.run("audit", "keys").stdout.splitlines()[0]


def test_a_live_server_is_checked_and_remembered(server: Installation, key: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    arguments = ("audit", "verify", "--server", "--key", key, "--remember", str(kept))
    done = server.run(*arguments)
    assert done.exit_code == 0, done.stderr
    assert "records are as they were signed" in done.stdout
    before = kept.read_text()
    done = server.run(*arguments)
    assert done.exit_code == 0, done.stderr
    assert f"the checkpoint in {kept}" in done.stdout
    assert int(kept.read_text().split("\n")[1]) >= int(before.split("\n")[1])


def test_a_live_server_that_was_rolled_back_is_found(server: Installation, key: str, tmp_path: Path) -> None:
    """Whoever kept a checkpoint of what is not there any more has all that it takes."""

    async def keys(connection: Connection) -> tuple[str, list[Signer]]:
        origin = await connection.fetchval("SELECT origin FROM audit_log")
        return origin, list(await signers(KeyRing.load(server.folder / "data" / "keys.json"))(connection, origin))

    origin, held = in_database(server, keys)
    for size in (10**6, 3):
        kept = tmp_path / str(size)
        kept.write_text(str(signed(Checkpoint(origin, size, leaf_hash(b"what was there")).text(), held)))
        done = server.run("audit", "verify", "--server", "--key", key, "--remember", str(kept))
        assert done.exit_code == 1, done.stdout
        assert ("the log ends here" if size > 3 else "index 0 to 2: here is something else") in done.stderr
        assert f"\n{size}\n" in kept.read_text()


@pytest.fixture
def edited(server: Installation) -> Iterator[int]:
    """The index of a record that was changed in the database, and is put back."""
    find = "SELECT index, leaf, action_id FROM audit_leaf JOIN audit_record USING (action_id, phase) WHERE index = 4"
    write = "UPDATE audit_record SET leaf = $2 WHERE action_id = $1"

    async def edit(connection: Connection) -> asyncpg.Record:
        row = await connection.fetchrow(find)
        assert row is not None
        await connection.execute("ALTER TABLE audit_record DISABLE TRIGGER ALL")
        await connection.execute("ALTER TABLE audit_record_start DISABLE TRIGGER ALL")
        leaf = row["leaf"].replace(b'"v":1', b'"v":2')
        await connection.execute(write, row["action_id"], leaf)
        return row

    async def mend(connection: Connection) -> None:
        await connection.execute(write, row["action_id"], row["leaf"])
        await connection.execute("ALTER TABLE audit_record_start ENABLE TRIGGER ALL")
        await connection.execute("ALTER TABLE audit_record ENABLE TRIGGER ALL")

    row = in_database(server, edit)
    yield row["index"]
    in_database(server, mend)


def test_a_record_that_was_edited_under_a_live_server_is_found(server: Installation, key: str, edited: int) -> None:
    done = server.run("audit", "verify", "--server", "--key", key)
    assert done.exit_code == 1
    assert f"index {edited}: this is no record of version 1" in done.stderr


def test_a_server_is_given_the_time_that_its_witness_takes() -> None:
    """On a busy server the newest checkpoint is often one that the witness has not been asked about yet."""
    root = root_of([leaf_hash(leaf) for leaf in made_up(9)])
    served = [vouched(9, root, LOGGER), vouched(9, root, LOGGER), vouched(9, root, LOGGER, WITNESSER)]
    notes = iter(served)
    trust = [read_key(KEY, LOG)], [read_key(WITNESS_KEY, WITNESS)]
    answering = httpx.MockTransport(lambda request: httpx.Response(200, content=next(notes).encode()))
    with httpx.Client(transport=answering, base_url="http://server.test") as public:
        note, newest = _newest(public, trust)
    assert (note, newest.size) == (served[-1], 9)


def test_a_server_is_not_waited_for_where_its_log_has_not_signed() -> None:
    notes = iter([vouched(9, leaf_hash(b""), WITNESSER)])
    trust = [read_key(KEY, LOG)], [read_key(WITNESS_KEY, WITNESS)]
    answering = httpx.MockTransport(lambda request: httpx.Response(200, content=next(notes).encode()))
    with (
        httpx.Client(transport=answering, base_url="http://server.test") as public,
        pytest.raises(Wrong, match="is not signed with a key that was given"),
    ):
        _newest(public, trust)


@pytest.fixture
def deleted(server: Installation) -> Iterator[int]:
    """The index of a record that was deleted from the database, and is put back."""
    parts = ("audit_record", "audit_record_start")

    async def delete(connection: Connection) -> None:
        for part in parts:
            await connection.execute(f"ALTER TABLE {part} DISABLE TRIGGER ALL")
        find = "SELECT r.* FROM audit_leaf JOIN audit_record r USING (action_id, phase) WHERE index = 5"
        await connection.execute(f"CREATE TABLE kept AS {find}")
        await connection.execute("DELETE FROM audit_record WHERE action_id = (SELECT action_id FROM kept)")

    async def mend(connection: Connection) -> None:
        await connection.execute("INSERT INTO audit_record SELECT * FROM kept")
        await connection.execute("DROP TABLE kept")
        for part in parts:
            await connection.execute(f"ALTER TABLE {part} ENABLE TRIGGER ALL")

    in_database(server, delete)
    yield 5
    in_database(server, mend)


def test_a_record_that_was_deleted_is_missed_and_named(
    server: Installation, key: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No part of this log was ever dropped. What is said to be dropped is shown; what an archive has is not missing."""
    kept = tmp_path / "kept"
    until(lambda: server.run("audit", "archive", "audit_record_start", "--to", str(kept)).exit_code == 0)
    index = request.getfixturevalue("deleted")
    arguments = ("audit", "verify", "--server", "--key", key)
    done = server.run(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"index {index}: only the record's hash is there, and nothing told that it was dropped" in done.stderr
    done = server.run(*arguments, "--dropped", f"0..{index}")
    assert done.exit_code == 0, done.stderr
    assert "records and 1 hash alone are as they were signed" in done.stdout
    assert f"index {index} to {index}: the hash alone, dropped as you were told" in done.stdout
    done = server.run(*arguments, "--archive", str(kept))
    assert done.exit_code == 0, done.stderr
    assert "all " in done.stdout.splitlines()[0]
    assert f"index {index} to {index}: taken from {kept}" in done.stdout


def test_an_archive_fills_an_export(tmp_path: Path) -> None:
    leaves = made_up(12)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    checkpoint = vouched(12, root_of(hashes), LOGGER)
    left = [None if index in (3, 4, 8) else leaf for index, leaf in enumerate(leaves)]
    folder = write_export(tmp_path / "export", left, hashes, checkpoint, also={"notes.txt": b"a\n"})
    for name, first, end in (("one", 2, 5), ("two", 7, 10)):
        write_export(tmp_path / name, leaves, hashes, checkpoint, first=first, end=end)
    arguments = ["audit", "verify", str(folder), "--key", KEY, "--archive", str(tmp_path / "one")]
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "index 8: only the record's hash is there" in done.stderr
    done = invoke(*arguments, "--archive", str(tmp_path / "two"))
    assert done.exit_code == 0, done.stderr
    assert "all 12 records are as they were signed" in done.stdout
    assert done.stdout.endswith(
        "NOT COMPARED with the records, and proven by nothing: notes.txt\n"
        f"index 3 to 4: taken from {tmp_path / 'one'}\nindex 8 to 8: taken from {tmp_path / 'two'}\n"
    )
    (tmp_path / "two" / "manifest.json").unlink()
    assert "cannot be read" in in_one_line(invoke(*arguments, "--archive", str(tmp_path / "two")))
    (folder / "manifest.json").write_text("[]")
    assert "is damaged" in invoke(*arguments).stderr


def test_the_tiles_above_are_held_to_those_below() -> None:
    hashes = [leaf_hash(str(number).encode()) for number in range(256)]
    asked = []

    def served(request: httpx.Request) -> httpx.Response:
        """A server that has another history above than below."""
        asked.append(request.url.path)
        return httpx.Response(200, content=b"".join([*hashes[:9], leaf_hash(b"another"), *hashes[10:]]))

    with httpx.Client(transport=httpx.MockTransport(served), base_url="http://server.test") as public:
        tiles = Tiles(public)
        for hashed in hashes[:-1]:
            tiles.add(1, hashed)
        with pytest.raises(Wrong, match="index 2304 to 2559: the tiles below level 1 are not those"):
            tiles.add(1, hashes[-1])
        tiles.fetched(2, 1234067, 256)
        with pytest.raises(Wrong, match="tile 12 of level 0 has 8192 bytes, and not 96"):
            tiles.fetched(0, 12, 3)
    assert asked == ["/tile/1/000", "/tile/2/x001/x234/067", "/tile/0/012.p/3"]
