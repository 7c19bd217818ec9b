"""Check an export of the audit log, or the proof of one record, and believe nobody but the keys that you bring.

    python verify.py export FOLDER --key KEY [--witness KEY]... [--checkpoint FILE]... [--dropped]
    python verify.py proof FILE --key KEY [--witness KEY]...

The log is a list. The hash of each record goes into a Merkle tree (RFC 6962), and the log's key signs the size and the
root of that tree: a checkpoint. A witness, who is somebody else, signs only what goes on from what it signed before. So
all hashes are computed anew here, from the bytes of the records, and are to come to the roots that were signed. It ends
with 0 if all holds, with 1 and the first index where something is wrong, with 2 if it could not check. It holds a line
in memory at a time; the marks by which it finds a record that stands twice go to 256 heaps, temporary files.
"""

import argparse
import json
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple
from uuid import UUID, uuid4

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LONGEST = 16 * 1024 * 1024  # bytes of a line; no record is nearly as long
LOG, WITNESS = 1, 4  # kinds of keys: a log's own (C2SP signed-note), a witness's (C2SP tlog-cosignature)
PHASES = ("done", "intent", "outcome", "opened", "closed", "settled")
RECORD = {"v": int, "id": str, "phase": str, "at": str, "action": str, "result": str, "principal": dict, "salt": str}
CHECKPOINT = r"\A((.+)\n(0|[1-9][0-9]{0,17})\n([+/0-9A-Za-z]{43}=)\n(?:.+\n)*)\n((?:\u2014 [^ \n]+ [^ \n]+\n)+)\Z"
PROOF = r"\Ac2sp\.org/tlog-proof@v1\nextra (.+)\nindex (0|[1-9][0-9]{0,17})\n((?:[+/0-9A-Za-z]{43}=\n)*)\n((?s:.+))\Z"
UNCOMPARED, FLOAT = "not compared with the records: ", f"float {uuid4()} "
ENCODE = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
Key = tuple[str, bytes, int, bytes]  # name, id, kind, and the public key itself
Trust = tuple[Sequence[Key], Sequence[Key]]  # the log's; and witnesses', of whom one has to vouch if any are there
Progress = Callable[[int, int], object] | None  # hears how many records of how many are done


class Wrong(Exception):
    """Something does not hold: what, and at which index if it is about records."""


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows to the right. It keeps the perfect subtrees that its leaves fall into, the widest first."""

    def __init__(self, size: int = 0, subtrees: Sequence[bytes] = ()) -> None:
        self.size, self._subtrees = size, list(subtrees)

    def add(self, hashed: bytes) -> None:
        ones = self.size
        while ones & 1:  # as in counting: each one that is carried joins two subtrees of the same width
            hashed = node_hash(self._subtrees.pop(), hashed)
            ones >>= 1
        self._subtrees.append(hashed)
        self.size += 1

    def root(self) -> bytes:
        root = self._subtrees[-1] if self._subtrees else sha256(b"").digest()
        for left in reversed(self._subtrees[:-1]):
            root = node_hash(left, root)
        return root


def root_over(hashed: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """RFC 6962, section 2.1.1: the root that a leaf comes to by its proof, of which no hash may be left over."""
    if size == 1:
        return hashed
    half, beside = 1 << (size - 1).bit_length() - 1, proof.pop() if proof else b""
    if index < half:
        return node_hash(root_over(hashed, index, half, proof), beside)
    return node_hash(beside, root_over(hashed, index - half, size - half, proof))


def roots_over(old: bytes, old_size: int, size: int, proof: list[bytes], known: bool = True) -> tuple[bytes, bytes]:
    """RFC 6962, section 2.1.2: the roots of the older tree and of the whole that a consistency proof comes to."""
    beside = b"" if old_size == size and known else proof.pop() if proof else b""
    if old_size == size:
        return (old, old) if known else (beside, beside)
    if old_size <= (half := 1 << (size - 1).bit_length() - 1):
        older, whole = roots_over(old, old_size, half, proof, known)
        return older, node_hash(whole, beside)
    older, whole = roots_over(old, old_size - half, size - half, proof, known=False)
    return node_hash(beside, older), node_hash(beside, whole)


def read_key(text: str, kind: int) -> Key:
    """A key as people pass it on, ``name+id+base64``. Raises ``ValueError``."""
    name, told, encoded = [*text.strip().split("+", 2), "", ""][:3]
    public = b64decode(encoded)
    key_id = sha256(name.encode() + b"\n" + public).digest()[:4]
    if not name or key_id.hex() != told or len(public) != 33 or public[0] != kind:
        raise ValueError(f"{text[:90]!r} is no key of a {'log' if kind == LOG else 'witness'}, name+id+base64")
    return name, key_id, kind, public[1:]


class Checkpoint(NamedTuple):
    """What a log has signed: its name, how many records, and the root over them. ``what`` says where it was found."""

    what: str
    text: str
    origin: str
    size: int
    root: bytes
    signatures: Sequence[tuple[str, bytes]]

    @classmethod
    def read(cls, note: str, what: str) -> "Checkpoint":
        try:
            [(text, origin, size, root, below)] = re.findall(CHECKPOINT, note.encode().decode())
            signatures = [(name, _base64(told)) for name, told in re.findall("\u2014 ([^ \n]+) (.+)\n", below)]
            return cls(what, text, origin, int(size), _base64(root), signatures)
        except ValueError:
            raise Wrong(f"{what} is not written as one: a name, a size, a root, a gap, and signatures") from None

    def vouched(self, keys: Sequence[Key]) -> list[str]:
        """Which of the keys have signed it and, if they are witnesses, when. Raises ``Wrong`` for a false signature."""
        found = []
        for (name, key_id, kind, public), told in [(key, told) for told in self.signatures for key in keys]:
            if told[0] == name and told[1][:4] == key_id:
                at, start = (int.from_bytes(told[1][4:12], "big"), 12) if kind == WITNESS else (0, 4)
                text = f"cosignature/v1\ntime {at}\n{self.text}" if kind == WITNESS else self.text
                try:
                    Ed25519PublicKey.from_public_bytes(public).verify(told[1][start:], text.encode())
                except InvalidSignature:
                    raise Wrong(f"{self.what} has a signature of {name} that does not hold") from None
                when = f" as a witness at {datetime.fromtimestamp(min(at, 2**37), UTC)}" * (kind == WITNESS)
                found.append(f"signed by {name} (key {key_id.hex()}){when}")
        return found

    def trusted(self, keys: Sequence[Key], witnesses: Sequence[Key] = ()) -> list[str]:
        """Who vouches for it. Raises ``Wrong`` if nobody does who has to."""
        signed, cosigned = self.vouched([key for key in keys if key[0] == self.origin]), self.vouched(witnesses)
        if not signed:
            raise Wrong(f"{self.what}, of the log {self.origin}, is not signed with a key that was given")
        if witnesses and not cosigned:
            raise Wrong(f"{self.what} is not cosigned by {' or '.join(sorted({key[0] for key in witnesses}))}")
        return signed + cosigned


def _base64(text: str) -> bytes:
    if b64encode(found := b64decode(text, validate=True)).decode() != text:  # there is one way to write it
        raise ValueError("it is no base64")
    return found


def record(leaf: bytes, index: int) -> dict[str, Any]:
    """The record that a leaf is. Raises ``Wrong`` if it is none of version 1, in canonical JSON: keys sorted, no white
    space, each text written in one way. A float stays as it was written."""
    try:
        told: dict[str, Any] = json.loads(text := leaf.decode(), parse_float=lambda number: FLOAT + number)
        canonical = re.sub(f'"{FLOAT}([^"]*)"', r"\1", ENCODE(told)) == text
        known = canonical and all(type(told[name]) is kind for name, kind in RECORD.items())
        if known and told["v"] == 1 and told["phase"] in PHASES and str(UUID(told["id"])) == told["id"]:
            return told
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise Wrong(f"index {index}: this is no record of version 1 in canonical JSON")


def _line(lines: IO[bytes], index: int) -> tuple[bytes, bytes]:
    """The hash of the next leaf, and a mark that no other record has; none if all that is left of it is its hash."""
    line = lines.readline(LONGEST)
    if line[-1:] != b"\n":
        raise Wrong(f"index {index}: its line is {'cut off, or too long for a record' if line else 'missing'}")
    if left := re.fullmatch(rb'"([0-9a-f]{64})"\n', line):
        return bytes.fromhex(left[1].decode()), b""
    told = record(line[:-1], index)
    return leaf_hash(line[:-1]), sha256(f"{told['id']} {told['phase']}".encode()).digest()


def _manifest(folder: Path) -> dict[str, Any]:
    """What an export says of itself, read as far as it is needed."""
    try:
        told: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
        told |= {part: [bytes.fromhex(text) for text in told[part]] for part in ("before", "consistency")}
        told["final"] = final = Checkpoint.read(told["checkpoint"], "the checkpoint in manifest.json")
        told["passed"] = [Checkpoint.read(note, "a checkpoint in manifest.json") for note in told["checkpoints"]]
        told["paths"] = {file["kind"]: folder / Path(file["name"]).name for file in told["files"]}
        fits = 0 <= told["first"] <= told["end"] <= final.size and told["first"].bit_count() == len(told["before"])
        fits = fits and told["format"] == 1 and told["origin"] == final.origin and "leaves" in told["paths"]
        missing = [f"{path.name} is missing" for path in told["paths"].values() if not path.is_file()]
        if fits and not missing:
            return told
        fault = [*missing, "range, hashes, checkpoint and files do not fit together"][0]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        fault = f"{type(error).__name__}: {error}"
    raise Wrong(f"manifest.json in {folder} is damaged: {fault}")


def export(
    folder: Path, trust: Trust, older: Sequence[Checkpoint] = (), dropped: bool = False, progress: Progress = None
) -> list[str]:
    """Check all of an export and say what holds, a line each. ``dropped``: records may be there by their hash alone.
    Raises ``Wrong``, and ``ValueError`` if a checkpoint in ``older`` lies outside of the export."""
    told = _manifest(folder)
    final, first, end, paths = told["final"], told["first"], told["end"], told["paths"]
    said, known = final.trusted(*trust), sum(bool(one.vouched(trust[0])) for one in told["passed"])
    for one in older:
        one.trusted(trust[0])
        if one.origin != final.origin or not (first <= one.size <= end or one.size == final.size):
            held = f"but this export can be held to {first} to {end} records of {final.origin}, or to {final.size}"
            raise ValueError(f"{one.what} covers {one.size} of {one.origin}, {held}: get one that reaches it")
    marks = sorted([*told["passed"], *older, final], key=lambda one: one.size, reverse=True)
    tree, sure, gone = Tree(first, told["before"]), first, 0
    with ExitStack() as stack:
        heaps = [stack.enter_context(SpooledTemporaryFile(1 << 16)) for _ in range(256)]
        lines = stack.enter_context(paths["leaves"].open("rb"))
        hashes = stack.enter_context(paths["hashes"].open("rb")) if "hashes" in paths else None
        for index in range(first, end + 1):
            while marks and marks[-1].size <= index:
                one = marks.pop()
                if (one.size, one.root) != (index, tree.root()):
                    raise Wrong(f"index {sure} to {one.size - 1}: here is something else than was signed in {one.what}")
                sure = one.size
            if index == end:
                break
            hashed, mark = _line(lines, index)
            if hashes and hashes.read(32) != hashed:
                raise Wrong(f"index {index}: the record does not have the hash that {paths['hashes'].name} tells")
            if mark:
                heaps[mark[0]].write(mark[1:17] + index.to_bytes(8, "big"))
            elif not dropped:
                raise Wrong(f"index {index}: only the record's hash is there. If its time was over, say --dropped")
            gone += not mark
            tree.add(hashed)
            if progress:
                progress(index + 1 - first, end - first)
        if lines.read(1) or (hashes and hashes.read(1)):
            raise Wrong(f"index {end}: there is more than the {end - first} records that manifest.json tells of")
        for heap in heaps:
            seen: dict[bytes, bytes] = {}
            heap.seek(0)
            while entry := heap.read(24):
                before, index = seen.setdefault(entry[:16], entry[16:]), int.from_bytes(entry[16:], "big")
                if (place := int.from_bytes(before, "big")) != index:
                    raise Wrong(f"index {index}: the record of index {place} stands here again, by its id and phase")
    for one in marks:
        way, root = list(told["consistency"]), tree.root()
        if end and (roots_over(root, end, one.size, way) != (root, one.root) or way):
            raise Wrong(f"index {sure} to {end - 1}: here is something else than {one.what} goes on from")
    for file in told["files"]:
        with (folder / Path(file["name"]).name).open("rb") as whole:
            if file_digest(whole, "sha256").hexdigest() != file["sha256"]:
                raise Wrong(f"{file['name']} is not the file whose SHA-256 stands in manifest.json")
    said += [f"{known} of {len(told['passed'])} checkpoints on the way are signed with a key that was given; all agree"]
    said += [f"{one.what} ({one.size} records) agrees" for one in older]
    said += [f"{gone} records were dropped, and are there by their hash alone"] * (gone > 0)
    said += [f"{UNCOMPARED}{paths[kind].name}" for kind in paths if kind not in ("leaves", "hashes")]
    return [f"index {first} to {end - 1} of {final.origin}: all {end - first} records are as they were signed", *said]


def proof(path: Path, trust: Trust) -> list[str]:
    """Check the proof of one record (C2SP tlog-proof) and say what holds. Raises ``Wrong``."""
    try:
        [(extra, place, hashes, note)] = re.findall(PROOF, path.read_bytes().decode())
        leaf, index, way = _base64(extra), int(place), [_base64(text) for text in hashes.split("\n")[:-1]]
    except ValueError:
        raise Wrong(f"{path.name} is no proof: a first line, the record, its index, hashes, a checkpoint") from None
    signed = Checkpoint.read(note, f"the checkpoint in {path.name}")
    said = signed.trusted(*trust)
    if index >= signed.size or root_over(leaf_hash(leaf), index, signed.size, way) != signed.root or way:
        raise Wrong(f"index {index}: the record is not the one that stands there by the root of {signed.what}")
    record(leaf, index)
    return [f"index {index} of the {signed.size} records of {signed.origin} is", leaf.decode(), *said]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("export", "proof"))
    parser.add_argument("path", type=Path)
    for option in ("--key", "--witness", "--checkpoint"):
        parser.add_argument(option, action="append", default=[], required=option == "--key", help="may be repeated")
    parser.add_argument("--dropped", action="store_true", help="records may be there by their hash alone")
    given = parser.parse_args()
    try:
        trust = [read_key(key, LOG) for key in given.key], [read_key(key, WITNESS) for key in given.witness]
        older = [Checkpoint.read(Path(name).read_text(), f"the checkpoint in {name}") for name in given.checkpoint]
        said = export(given.path, trust, older, given.dropped) if given.what == "export" else proof(given.path, trust)
    except (Wrong, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1 if isinstance(error, Wrong) else 2
    sys.stdout.write("\n".join(said) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
