"""The small verifier: what holds is said to hold, and what is broken is told in a sentence that names the place."""

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import merkle, verify
from audit.merkle import leaf_hash
from audit.note import Signer
from audit.record import canonical
from tests.tamper.exports import (
    LOGGER,
    WITNESSER,
    export_of,
    made_up,
    node_of,
    proof_of,
    root_of,
    trust,
    vouched,
    write_export,
)
from tests.world.world import World

FILE = Path(verify.__file__)
KEY, WITNESS_KEY = str(LOGGER.verifier), str(WITNESSER.verifier)


def checked(folder: Path, *older: verify.Checkpoint, dropped: bool = False) -> str:
    return "\n".join(verify.export(folder, trust(LOGGER, WITNESSER), older, dropped))


def amended(folder: Path, **changes: Any) -> Path:
    """Change the manifest."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def replaced(folder: Path, name: str, content: bytes) -> Path:
    """Change a file, and what the manifest says of it."""
    (folder / name).write_bytes(content)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    told = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    return amended(folder, files=[file | told if file["name"] == name else file for file in files])


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """As a reviewer runs it: the one file, from anywhere, without the project."""
    return subprocess.run(
        [sys.executable, "-I", FILE, *map(str, arguments)], capture_output=True, text=True, check=False, cwd="/"
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 64, 65])
@pytest.mark.parametrize("rest", [0, 1, 6, 40])
def test_every_part_of_a_log_holds_under_a_later_checkpoint(size: int, rest: int, tmp_path: Path) -> None:
    for first in sorted({0, size // 2, size - 1}):
        folder = export_of(tmp_path / f"from-{first}", size + rest, first=first, end=size)
        assert f"all {size - first} records are as they were signed" in checked(folder)


def test_its_proofs_are_those_of_the_log(tmp_path: Path) -> None:
    """Each walk through the tree is written twice, here from the definition in RFC 6962: they agree."""
    hashes = [leaf_hash(bytes([number])) for number in range(40)]
    for size in range(1, 41):
        root = root_of(hashes[:size])
        for index in range(size):
            way = [merkle.joined([node_of(hashes, node) for node in nodes]) for nodes in merkle.inclusion(index, size)]
            left = list(way)
            assert verify.root_over(hashes[index], index, size, left) == root
            assert left == []
        for old in range(1, size):
            way = [merkle.joined([node_of(hashes, node) for node in nodes]) for nodes in merkle.consistency(old, size)]
            before = root_of(hashes[:old])
            assert verify.roots_over(before, old, size, list(way)) == (before, root)
            assert verify.roots_over(before, old, size, way[:-1]) != (before, root)
            for place in range(len(way)):
                bent = [*way[:place], leaf_hash(b"bent"), *way[place + 1 :]]
                assert verify.roots_over(before, old, size, bent) != (before, root)


def test_the_summary_says_who_vouches_and_when(tmp_path: Path) -> None:
    told = checked(export_of(tmp_path / "export", 30))
    assert "index 0 to 29 of chamberlain/test: all 30 records" in told
    assert "signed by chamberlain/test" in told
    assert "signed by witness.test/1" in told
    assert "as a witness at 2025-11-23 09:26:40+00:00" in told
    assert "4 of 4 checkpoints on the way" in told


def test_it_runs_by_itself(tmp_path: Path) -> None:
    folder = export_of(tmp_path / "export", 20)
    done = run("export", folder, "--key", KEY, "--witness", WITNESS_KEY)
    assert (done.returncode, done.stderr) == (0, "")
    assert "all 20 records" in done.stdout
    leaves = made_up(20)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    proof = proof_of(tmp_path / "one", leaves, 11, vouched(20, root_of(hashes), LOGGER, WITNESSER))
    done = run("proof", proof, "--key", KEY, "--witness", WITNESS_KEY)
    assert (done.returncode, done.stderr) == (0, "")
    assert leaves[11].decode() in done.stdout


def test_it_is_short_and_knows_nothing_of_the_project() -> None:
    text = FILE.read_text()
    assert text.count("\n") < 300
    taken = {line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert taken - set(sys.stdlib_module_names) == {"cryptography"}


def test_a_dropped_record_has_to_be_expected(tmp_path: Path) -> None:
    leaves: list[bytes | None] = [*made_up(12)]
    hashes = [leaf_hash(leaf) for leaf in leaves if leaf is not None]
    leaves[:4] = [None] * 4
    folder = write_export(tmp_path / "export", leaves, hashes, vouched(12, root_of(hashes), LOGGER, WITNESSER))
    with pytest.raises(verify.Wrong, match=r"index 0: only the record's hash is there"):
        checked(folder)
    assert "4 records were dropped, and are there by their hash alone" in checked(folder, dropped=True)


def test_what_is_not_compared_is_said(tmp_path: Path) -> None:
    assert "not compared with the records: records.csv" in checked(
        export_of(tmp_path / "export", 8, also={"records.csv": b"a,b\n"})
    )


@pytest.mark.parametrize("at", [5, 9, 12, 20])
def test_an_older_checkpoint_is_compared_where_it_can_be(at: int, tmp_path: Path) -> None:
    leaves = made_up(20)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    folder = export_of(tmp_path / "export", 20, leaves=leaves, first=5, end=12)
    older = verify.Checkpoint.read(vouched(at, root_of(hashes[:at]), LOGGER), "the checkpoint in kept")
    assert f"the checkpoint in kept ({at} records) agrees" in checked(folder, older)
    other = verify.Checkpoint.read(vouched(at, leaf_hash(b"another history"), LOGGER), "the checkpoint in kept")
    with pytest.raises(verify.Wrong, match=r"index 5 to|index 7 to"):
        checked(folder, other)


@pytest.mark.parametrize("at", [3, 13, 21])
def test_an_older_checkpoint_beyond_the_export_is_not_passed_over(at: int, tmp_path: Path) -> None:
    folder = export_of(tmp_path / "export", 20, first=5, end=12)
    older = verify.Checkpoint.read(vouched(at, leaf_hash(b""), LOGGER), "the checkpoint in kept")
    with pytest.raises(ValueError, match=f"covers {at} of chamberlain/test, .* can be held to 5 to 12 .*, or to 20"):
        checked(folder, older)


def test_a_record_may_not_stand_twice(tmp_path: Path) -> None:
    leaves = made_up(9)
    leaves[8] = canonical({**json.loads(leaves[2]), "salt": "0" * 32})
    with pytest.raises(verify.Wrong, match=r"index 8: the record of index 2 stands here again"):
        checked(export_of(tmp_path / "export", 9, leaves=leaves))


GOOD = json.loads(made_up(1)[0])
UNSORTED = json.dumps(dict(reversed(GOOD.items())), separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        UNSORTED,
        canonical(GOOD).replace(b'"v":1', b'"v": 1'),
        canonical(GOOD).replace(b'"v":1', b'"v":NaN'),
        canonical(GOOD).replace(b'"sealed":[]', b'"sealed":[NaN]'),
        canonical(GOOD).replace(b'"v":1', b'"v":1,"v":1'),
        canonical(GOOD).replace(b"domain_update", rb"\u0064omain_update"),
        canonical(GOOD).replace(b"domain_update", rb"\ud800"),
        canonical({**GOOD, "v": 2}),
        canonical({**GOOD, "v": True}),
        canonical({**GOOD, "id": 7}),
        canonical({**GOOD, "id": GOOD["id"].upper()}),
        canonical({**GOOD, "phase": "perhaps"}),
        canonical({name: value for name, value in GOOD.items() if name != "salt"}),
    ],
)
def test_a_leaf_is_a_record_in_canonical_json(leaf: bytes, tmp_path: Path) -> None:
    """Signed or not: what is in the tree is a record of version 1."""
    with pytest.raises(verify.Wrong, match=r"index 3: this is no record of version 1 in canonical JSON"):
        checked(export_of(tmp_path / "export", 5, leaves=[*made_up(3), leaf, *made_up(1)]))


def test_a_number_stays_as_it_was_written(tmp_path: Path) -> None:
    leaves = made_up(3, changes=[1e16, 1e-7, 0.1, -0.0, 1.5e300, 2**63, "float", None, True])
    assert b"1e-7" in leaves[0]
    assert "all 3 records" in checked(export_of(tmp_path / "export", 3, leaves=leaves))


async def test_every_record_that_the_server_writes_is_one(world: World) -> None:
    rows = await world.sql("SELECT leaf FROM audit_record")
    assert len(rows) > 20
    for index, row in enumerate(rows):
        verify.record(row["leaf"], index)


Spoil = Callable[[Path], object]
NOTHING = leaf_hash(b"")


def records(change: Callable[[bytes], bytes]) -> Spoil:
    return lambda folder: replaced(folder, "records.jsonl", change((folder / "records.jsonl").read_bytes()))


def hashes(change: Callable[[bytes], bytes]) -> Spoil:
    return lambda folder: replaced(folder, "hashes.bin", change((folder / "hashes.bin").read_bytes()))


def manifest(change: Callable[[bytes], bytes]) -> Spoil:
    path = "manifest.json"
    return lambda folder: (folder / path).write_bytes(change((folder / path).read_bytes()))


def signed_by(*signers: Signer) -> Spoil:
    return lambda folder: amended(folder, checkpoint=vouched(20, NOTHING, *signers))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (records(lambda was: was[:-1]), "index 19: its line is cut off"),
        (records(lambda was: b""), "index 0: its line is missing"),
        (records(lambda was: b"{" * (verify.LONGEST + 1)), "index 0: its line is cut off, or too long"),
        (records(lambda was: was + b"{}\n"), "index 20: there is more"),
        (hashes(lambda was: was + b"\0"), "index 20: there is more"),
        (hashes(lambda was: was[:100]), "index 3: the record does not have"),
        (lambda e: (e / "records.csv").write_bytes(b"c\n"), "records.csv is not the file whose SHA-256"),
        (lambda e: (e / "hashes.bin").unlink(), "hashes.bin is missing"),
        (lambda e: (e / "records.jsonl").unlink(), "records.jsonl is missing"),
        (manifest(lambda was: was[:-9]), "manifest.json in .* is damaged"),
        (manifest(lambda was: b"[]"), "is damaged"),
        (manifest(lambda was: b"[" * 100_000), "is damaged"),
        (manifest(lambda was: b"\xff"), "is damaged"),
        (lambda e: amended(e, format=2), "do not fit together"),
        (lambda e: amended(e, origin="other"), "do not fit together"),
        (lambda e: amended(e, first="0"), "is damaged"),
        (lambda e: amended(e, end=21), "do not fit together"),
        (lambda e: amended(e, end=19), "index 19: there is more"),
        (lambda e: amended(e, first=4, before=["00"]), "index 4: there is more|index 4 to 6"),
        (lambda e: amended(e, before=["zz"]), "is damaged"),
        (lambda e: amended(e, files=[]), "do not fit together"),
        (lambda e: amended(e, files=7), "is damaged"),
        (lambda e: amended(e, files=[{"name": "../../etc/passwd", "kind": "leaves"}]), "passwd is missing"),
        (lambda e: amended(e, checkpoint=None), "is damaged"),
        (lambda e: amended(e, checkpoint="\ud800"), "the checkpoint in manifest.json is not written as one"),
        (lambda e: amended(e, checkpoint="chamberlain/test\n20\n\n"), "is not written as one"),
        (lambda e: amended(e, checkpoints=["?"]), "a checkpoint in manifest.json is not written as one"),
        (signed_by(WITNESSER), "is not signed with a key that was given"),
        (signed_by(LOGGER), "is not cosigned by witness.test/1"),
        (signed_by(LOGGER, WITNESSER), "index 14 to 19: here is something else"),
    ],
)
def test_what_is_broken_is_told_in_one_sentence(spoil: Spoil, told: str, tmp_path: Path) -> None:
    folder = export_of(tmp_path / "export", 20, also={"records.csv": b"a\n"})
    spoil(folder)
    with pytest.raises(verify.Wrong, match=told) as found:
        checked(folder)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("export", "/nowhere", "--key", KEY), 2, "No such file"),
        (("export", "{folder}", "--key", "nonsense"), 2, "'nonsense' is no key of a log"),
        (("export", "{folder}", "--key", KEY[:-2] + "AA"), 2, "is no key of a log"),
        (("export", "{folder}", "--key", WITNESS_KEY), 2, "is no key of a log"),
        (("export", "{folder}", "--key", KEY, "--witness", KEY), 2, "is no key of a witness"),
        (("export", "{folder}", "--key", KEY, "--checkpoint", "/nowhere"), 2, "No such file"),
        (("export", "{folder}", "--key", KEY, "--checkpoint", "{folder}/hashes.bin"), 2, ""),
        (("proof", "{folder}/hashes.bin", "--key", KEY), 1, "hashes.bin is no proof"),
        (("proof", "{folder}/manifest.json", "--key", KEY), 1, "manifest.json is no proof"),
        (("export", "{folder}"), 2, "--key"),
    ],
)
def test_a_mistake_of_the_reviewer_is_no_traceback(
    arguments: tuple[str, ...], code: int, told: str, tmp_path: Path
) -> None:
    folder = export_of(tmp_path / "export", 5)
    done = run(*(argument.format(folder=folder) for argument in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_proof_of_something_else_is_refused(tmp_path: Path) -> None:
    leaves = made_up(13)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    checkpoint = vouched(13, root_of(hashes), LOGGER)
    whole = proof_of(tmp_path / "whole", leaves, 6, checkpoint).read_text()
    assert verify.proof(tmp_path / "whole", trust(LOGGER))
    lines = whole.split("\n")
    for spoiled, told in (
        (whole.replace("index 6", "index 7"), "index 7: the record is not the one"),
        (whole.replace("index 6", "index 13"), "index 13: the record is not the one"),
        (whole.replace("index 6", "index 06"), "is no proof"),
        ("\n".join([*lines[:3], *lines[4:]]), "index 6: the record is not the one"),
        ("\n".join([*lines[:4], lines[3], *lines[4:]]), "index 6: the record is not the one"),
        ("\n".join([*lines[:3], lines[4], lines[3], *lines[5:]]), "index 6: the record is not the one"),
        (whole.replace("tlog-proof@v1", "tlog-proof@v2"), "is no proof"),
        (whole.replace(lines[1], "extra e30="), "index 6: the record is not the one"),
        ("\n".join([lines[0], *lines[2:]]), "is no proof"),
        (whole.replace("\n13\n", "\n12\n"), "has a signature of chamberlain/test that does not hold"),
    ):
        (tmp_path / "spoiled").write_text(spoiled)
        with pytest.raises(verify.Wrong, match=told):
            verify.proof(tmp_path / "spoiled", trust(LOGGER))


def test_the_last_record_does_not_stand_beyond_the_end(tmp_path: Path) -> None:
    leaves = made_up(13)
    path = proof_of(tmp_path / "one", leaves, 12, vouched(13, root_of([leaf_hash(leaf) for leaf in leaves]), LOGGER))
    path.write_text(path.read_text().replace("index 12", "index 13"))
    with pytest.raises(verify.Wrong, match="index 13: the record is not the one"):
        verify.proof(path, trust(LOGGER))


def test_there_is_one_way_to_write_a_signature() -> None:
    """The last character of base64 has bits that say nothing: they are to be nothing."""
    note = vouched(4, NOTHING, LOGGER).removesuffix("\n")
    bare = note.rstrip("=")
    last = chr(ord(bare[-1]) + 1)
    with pytest.raises(verify.Wrong, match="is not written as one"):
        verify.Checkpoint.read(bare[:-1] + last + note[len(bare) :] + "\n", "the note")


def test_an_older_checkpoint_has_to_be_signed(tmp_path: Path) -> None:
    leaves = made_up(20)
    folder = export_of(tmp_path / "export", 20, leaves=leaves)
    root = root_of([leaf_hash(leaf) for leaf in leaves[:9]])
    forger = Signer(LOGGER.name, Ed25519PrivateKey.generate())
    older = verify.Checkpoint.read(vouched(9, root, forger), "the checkpoint in kept")
    with pytest.raises(verify.Wrong, match=r"the checkpoint in kept, of the log .*, is not signed"):
        checked(folder, older)


def test_a_key_of_another_log_vouches_for_nothing(tmp_path: Path) -> None:
    folder = export_of(tmp_path / "export", 5)
    stranger = Signer("chamberlain/other", Ed25519PrivateKey.generate())
    amended(folder, checkpoint=vouched(5, leaf_hash(b""), stranger))
    with pytest.raises(verify.Wrong, match="is not signed with a key that was given"):
        verify.export(folder, trust(LOGGER, stranger))
