"""The small verifier: what holds is said to hold, and what is broken is told in a sentence that names the place."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import merkle, verify
from audit.checkpoint import Checkpoint
from audit.merkle import leaf_hash
from audit.note import Note, Signer
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


def checked(folder: Path, *older: verify.Checkpoint, dropped: Sequence[range] = ()) -> str:
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
    assert leaves[11].decode().replace("\u2028", "\\u2028") in done.stdout, "and nothing in it steers a terminal"


def test_it_is_short_and_knows_nothing_of_the_project() -> None:
    text = FILE.read_text()
    assert text.count("\n") < 300
    taken = {line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert taken - set(sys.stdlib_module_names) == {"cryptography"}


def without(folder: Path, leaves: Sequence[bytes], *missing: int) -> Path:
    """An export of a log that has the hash alone of some."""
    hashes = [leaf_hash(leaf) for leaf in leaves]
    left = [None if index in missing else leaf for index, leaf in enumerate(leaves)]
    return write_export(folder, left, hashes, vouched(len(leaves), root_of(hashes), LOGGER, WITNESSER))


def test_a_dropped_record_has_to_be_accounted_for(tmp_path: Path) -> None:
    folder = without(tmp_path / "export", made_up(12), 0, 1, 2, 3, 7)
    with pytest.raises(verify.Wrong, match=r"index 0: only the record's hash is there"):
        checked(folder)
    with pytest.raises(verify.Wrong, match=r"index 7: only the record's hash is there"):
        checked(folder, dropped=[range(4)])
    with pytest.raises(verify.Wrong, match=r"index 3: only the record's hash is there"):
        checked(folder, dropped=[range(3), range(7, 8)])
    told = checked(folder, dropped=[range(5), range(7, 8)])
    assert "7 records and 5 hashes alone are as they were signed" in told
    assert "all" not in told.partition("\n")[0]
    assert "index 0 to 3: the hash alone" in told
    assert "index 7 to 7: the hash alone" in told
    one = without(tmp_path / "one", made_up(5), 2)
    assert "4 records and 1 hash alone are as they were signed" in checked(one, dropped=[range(5)])


def test_indexes_are_told_as_a_range(tmp_path: Path) -> None:
    folder = without(tmp_path / "export", made_up(12), 2, 3)
    done = run("export", folder, "--key", KEY, "--dropped", "3..3", "--dropped", "2..2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 records and 2 hashes alone" in done.stdout
    assert "index 2 to 3: the hash alone" in done.stdout
    done = run("export", folder, "--key", KEY, "--dropped", "2..2")
    assert (done.returncode, done.stdout) == (1, "")
    for text in ("", "2", "2..", "..2", "a..b", "2...3", "2..3..4", "-1..3", "2..\u0663", "1" * 19 + "..2"):
        with pytest.raises(ValueError, match="is no range of indexes"):
            verify.span(text)


def test_it_is_said_when_the_records_were_made(tmp_path: Path) -> None:
    """A week can be seen to be the week; and time is compared as such, however it was written."""
    leaves = [
        canonical({**json.loads(leaf), "at": at})
        for leaf, at in zip(
            made_up(3),
            ("2026-11-20T10:00:00.5Z", "2026-11-20T11:59:59+02:00", "2026-11-20T10:00:00Z"),
            strict=True,
        )
    ]
    told = checked(export_of(tmp_path / "export", 3, leaves=leaves))
    assert "the earliest was made at 2026-11-20 11:59:59+02:00, the latest at 2026-11-20 10:00:00.500000+00:00" in told
    assert "the earliest" not in checked(without(tmp_path / "none", made_up(2), 0, 1), dropped=[range(2)])


def test_what_is_not_compared_is_said(tmp_path: Path) -> None:
    folder = export_of(tmp_path / "export", 8, also={"records.csv": b"a,b\n"})
    (folder / "beside").write_text("and what the manifest does not speak of")
    told = checked(folder).splitlines()
    assert told[-2:] == [
        "NOT COMPARED with the records, and proven by nothing: beside",
        "NOT COMPARED with the records, and proven by nothing: records.csv",
    ]


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
        canonical({**GOOD, "at": "yesterday"}),
        canonical({**GOOD, "at": "2026-11-23T05:44:41"}),
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


def elsewhere(folder: Path) -> None:
    """The records are true, and not in the folder."""
    (folder / "records.jsonl").rename(folder.parent / "records.jsonl")
    files = json.loads((folder / "manifest.json").read_text())["files"]
    amended(folder, files=[{**file, "name": file["name"].replace("records.j", "../records.j")} for file in files])


def twice(name: str, kind: str) -> Spoil:
    """Which of two files was checked?"""

    def spoil(folder: Path) -> None:
        files = json.loads((folder / "manifest.json").read_text())["files"]
        amended(folder, files=[{"name": name, "kind": kind, "sha256": ""}, *files])

    return spoil


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
        (manifest(lambda was: was[:-9]), "manifest.json in .* is damaged"),
        (manifest(lambda was: b"[]"), "is damaged"),
        (manifest(lambda was: b"[" * 100_000), "is damaged"),
        (manifest(lambda was: b"\xff"), "is damaged"),
        (lambda e: amended(e, format=2), "do not fit together"),
        (lambda e: amended(e, origin="other"), "do not fit together"),
        (lambda e: amended(e, first="0"), "is damaged"),
        (lambda e: amended(e, end=21), "do not fit together"),
        (lambda e: amended(e, end=19), "index 19: there is more"),
        (lambda e: amended(e, end=20.0), "is damaged"),
        (lambda e: amended(e, first=4, before=["00"]), "do not fit together"),
        (lambda e: amended(e, first=4, before=["00" * 32]), "index 4 to 6"),
        (lambda e: amended(e, first=3, before=["00" * 32]), "do not fit together"),
        (lambda e: amended(e, first=4, before=["00" * 32] * 2), "do not fit together"),
        (lambda e: amended(e, consistency=["00"]), "do not fit together"),
        (lambda e: amended(e, files=[{"name": "records.jsonl", "kind": "leaves"}]), "is damaged: KeyError, 'sha256'"),
        (lambda e: amended(e, before=["zz"]), "is damaged"),
        (lambda e: amended(e, files=[]), "do not fit together"),
        (lambda e: amended(e, files=7), "is damaged"),
        (elsewhere, "do not fit together"),
        (twice("other.jsonl", "leaves"), "do not fit together"),
        (twice("records.jsonl", "another"), "do not fit together"),
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
        (("export", "{folder}", "--key", KEY, "--dropped", "all"), 2, "'all' is no range of indexes, A..B"),
        (("export", "{folder}", "--key", KEY, "--dropped"), 2, "expected one argument"),
        (("proof", "{folder}", "--key", KEY, "--dropped", "1..2"), 2, "go with an export"),
        (("proof", "{folder}", "--key", KEY, "--checkpoint", "{folder}/../kept"), 2, "go with an export"),
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
    (tmp_path / "kept").write_text(vouched(5, NOTHING, LOGGER))
    done = run(*(argument.format(folder=folder) for argument in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["records.jsonl", "hashes.bin", "records.csv", "manifest.json"])
def test_a_file_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    folder = export_of(tmp_path / "export", 5, also={"records.csv": b"a\n"})
    (folder / name).unlink()
    done = run("export", folder, "--key", KEY)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"[Errno 2] No such file or directory: '{folder / name}'\n"


def test_what_begins_with_something_to_act_on_may_end_with_its_outcome(tmp_path: Path) -> None:
    leaves = made_up(4)
    leaves[1] = canonical({**json.loads(leaves[1]), "phase": "intent"})
    leaves[3] = canonical({**json.loads(leaves[1]), "phase": "outcome"})
    assert "all 4 records" in checked(export_of(tmp_path / "export", 4, leaves=leaves))


def test_a_checkpoint_on_the_way_is_of_this_log_and_on_the_way(tmp_path: Path) -> None:
    """Though it were signed, and with a root that this log once had."""
    leaves = made_up(12)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    stranger = Signer("chamberlain/other", LOGGER.private)
    text = Checkpoint(stranger.name, 8, root_of(hashes[:8])).text()
    for passed in (
        vouched(3, root_of(hashes[:5]), LOGGER),
        vouched(11, root_of(hashes[:11]), LOGGER),
        str(Note(text, (stranger.sign(text, 0),))),
    ):
        folder = export_of(tmp_path / str(len(list(tmp_path.iterdir()))), 12, leaves=leaves, first=5, end=10)
        amended(folder, checkpoints=[passed])
        with pytest.raises(verify.Wrong, match="do not fit together"):
            checked(folder)


def test_a_proof_that_has_too_much_proves_nothing(tmp_path: Path) -> None:
    folder = export_of(tmp_path / "export", 12, first=5, end=10)
    way = json.loads((folder / "manifest.json").read_text())["consistency"]
    for more in ([*way, "00" * 32], ["00" * 32, *way]):
        amended(folder, consistency=more)
        with pytest.raises(verify.Wrong, match=r"something else than the checkpoint in .* goes on"):
            checked(folder)


def test_what_is_proven_has_to_be_a_record(tmp_path: Path) -> None:
    leaves = [*made_up(3), b'{"signed": "and no record"}']
    path = proof_of(tmp_path / "one", leaves, 3, vouched(4, root_of([leaf_hash(leaf) for leaf in leaves]), LOGGER))
    with pytest.raises(verify.Wrong, match="index 3: this is no record of version 1"):
        verify.proof(path, trust(LOGGER))


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
