"""Check an export of the audit log, or the proof of one record, and believe nobody but the keys that you bring.

    python verify.py export FOLDER --key KEY [--witness KEY]... [--checkpoint FILE]... [--dropped A..B]...
    python verify.py proof FILE --key KEY [--witness KEY]...

The hash of each record goes into a Merkle tree (RFC 6962), and the log's key signs the tree's size and root: a
checkpoint. A witness, who is somebody else, signs only what goes on from what it signed before. So all hashes are
computed anew here, from the bytes of the records, one line at a time, and are to come to the roots that were signed.
It ends with 0 if all holds, with 1 and the first index where something is wrong, with 2 if it could not check.
"""

import argparse
import json
import re
import sqlite3
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from functools import reduce
from hashlib import file_digest, sha256
from pathlib import Path
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
UNCOMPARED, FLOAT = "NOT COMPARED with the records, and proven by nothing: ", f"float {uuid4()} "
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


def grow(subtrees: list[bytes], size: int, hashed: bytes) -> None:
    """Put a leaf at the end of a tree, given by the perfect subtrees that its leaves fall into, the widest first."""
    while size & 1:  # as in counting: each one that is carried joins two subtrees of the same width
        hashed, size = node_hash(subtrees.pop(), hashed), size >> 1
    subtrees.append(hashed)


def root_of(subtrees: list[bytes]) -> bytes:
    return reduce(lambda right, left: node_hash(left, right), reversed(subtrees)) if subtrees else sha256(b"").digest()


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
    if found := re.fullmatch(r"([^+\s]+)\+([0-9a-f]{8})\+([+/0-9A-Za-z]{44})", text.strip()):
        public = b64decode(found[3])
        key_id = sha256(found[1].encode() + b"\n" + public).digest()[:4]
        if key_id.hex() == found[2] and public[0] == kind:
            return found[1], key_id, kind, public[1:]
    raise ValueError(f"{text[:90]!r} is no key of a {'log' if kind == LOG else 'witness'}, name+id+base64")


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
    if b64encode(found := b64decode(text)).decode() != text:  # there is one way to write it
        raise ValueError("it is no base64")
    return found


def record(leaf: bytes, index: int) -> dict[str, Any]:
    """The record of version 1 that a leaf is, in canonical JSON; a float is as it was written. Raises ``Wrong``."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        told: dict[str, Any] = json.loads(text := leaf.decode(), parse_float=lambda number: FLOAT + number)
        canonical = re.sub(f'"{FLOAT}([^"]*)"', r"\1", ENCODE(told)) == text
        known = canonical and all(type(told[name]) is kind for name, kind in RECORD.items())
        known = known and told["v"] == 1 and told["phase"] in PHASES and str(UUID(told["id"])) == told["id"]
        if known and datetime.fromisoformat(told["at"]).tzinfo:
            return told
    raise Wrong(f"index {index}: this is no record of version 1 in canonical JSON")


def _line(lines: IO[bytes], index: int) -> tuple[bytes, dict[str, Any]]:
    """The hash of the next leaf, and the record; nothing if all that is left of it is its hash."""
    line = lines.readline(LONGEST)
    if line[-1:] != b"\n":
        raise Wrong(f"index {index}: its line is {'cut off, or too long for a record' if line else 'missing'}")
    if left := re.fullmatch(rb'"([0-9a-f]{64})"\n', line):
        return bytes.fromhex(left[1].decode()), {}
    return leaf_hash(line[:-1]), record(line[:-1], index)


def _manifest(folder: Path) -> dict[str, Any]:
    """What an export says of itself, read as far as it is needed."""
    try:
        told: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
        first, end, files = told["first"], told["end"], told["files"]
        told |= {part: [bytes.fromhex(text) for text in told[part]] for part in ("before", "consistency")}
        told["final"] = final = Checkpoint.read(told["checkpoint"], "the checkpoint in manifest.json")
        told["passed"] = [Checkpoint.read(note, "a checkpoint in manifest.json") for note in told["checkpoints"]]
        told["paths"] = {file["kind"]: folder / file["name"] for file in files}
        told["sums"] = {file["name"]: bytes.fromhex(file["sha256"]) for file in files}
        fits = type(first) is type(end) is int and 0 <= first <= end <= final.size and told["format"] == 1
        fits = fits and first.bit_count() == len(told["before"]) and told["origin"] == final.origin
        fits = fits and all(len(hashed) == 32 for hashed in told["before"] + told["consistency"])
        fits = fits and all(first <= one.size <= end and one.origin == final.origin for one in told["passed"])
        fits = fits and "leaves" in told["paths"] and len(told["paths"]) == len(told["sums"]) == len(files)
        if not fits or any(Path(name).name != name for name in told["sums"]):
            raise ValueError("range, hashes, checkpoints and files do not fit together")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Wrong(f"manifest.json in {folder} is damaged: {type(error).__name__}, {error}") from None
    return told


def export(
    folder: Path, trust: Trust, older: Sequence[Checkpoint] = (), dropped: Sequence[range] = (), bar: Progress = None
) -> list[str]:
    """Check all of an export and say what holds, a line each. Of the records in ``dropped`` a hash alone may be left.
    Raises ``Wrong``, and ``ValueError`` if a checkpoint in ``older`` lies outside of the export."""
    told, gaps = _manifest(folder), list[tuple[int, int]]()
    final, first, end, paths = told["final"], told["first"], told["end"], told["paths"]
    said, known = final.trusted(*trust), sum(bool(one.vouched(trust[0])) for one in told["passed"])
    for one in older:
        one.trusted(trust[0])
        if one.origin != final.origin or not (first <= one.size <= end or one.size == final.size):
            held = f"but this export can be held to {first} to {end} records of {final.origin}, or to {final.size}"
            raise ValueError(f"{one.what} covers {one.size} of {one.origin}, {held}: get one that reaches it")
    marks = sorted([*told["passed"], *older, final], key=lambda one: one.size, reverse=True)
    tree, sure, early, late = told["before"], first, datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
    with ExitStack() as stack:
        seen = stack.enter_context(closing(sqlite3.connect(""))).execute("CREATE TABLE seen (record, place)")
        lines = stack.enter_context(paths["leaves"].open("rb"))
        hashes = stack.enter_context(paths["hashes"].open("rb")) if "hashes" in paths else None
        for index in range(first, end + 1):
            while marks and marks[-1].size == index:
                if (one := marks.pop()).root != root_of(tree):
                    raise Wrong(f"index {sure} to {index - 1}: here is something else than was signed in {one.what}")
                sure = index
            if index == end:
                break
            hashed, stands = _line(lines, index)
            if hashes and hashes.read(32) != hashed:
                raise Wrong(f"index {index}: the record does not have the hash that {paths['hashes'].name} tells")
            if stands:
                seen.execute("INSERT INTO seen VALUES (?, ?)", (f"{stands['id']} {stands['phase']}", index))
                early, late = min(early, at := datetime.fromisoformat(stands["at"])), max(late, at)
            elif any(index in one for one in dropped):
                gaps.append((gaps.pop()[0] if gaps and gaps[-1][1] == index - 1 else index, index))
            else:
                raise Wrong(f"index {index}: only the record's hash is there, and nothing told that it was dropped")
            grow(tree, index, hashed)
            if bar:
                bar(index + 1 - first, end - first)
        if lines.read(1) or (hashes and hashes.read(1)):
            raise Wrong(f"index {end}: there is more than the {end - first} records that manifest.json tells of")
        for place, again in seen.execute("SELECT min(place), max(place) FROM seen GROUP BY record HAVING count(*) > 1"):
            raise Wrong(f"index {again}: the record of index {place} stands here again, by its id and phase")
        for name, digest in told["sums"].items():
            if file_digest(stack.enter_context((folder / name).open("rb")), "sha256").digest() != digest:
                raise Wrong(f"{name} is not the file whose SHA-256 stands in manifest.json")
    for one in marks:
        way, root = list(told["consistency"]), root_of(tree)
        if (end and roots_over(root, end, one.size, way) != (root, one.root)) or way:
            raise Wrong(f"index {sure} to {end - 1}: here is something else than {one.what} goes on from")
    there = end - first - (alone := sum(last + 1 - begin for begin, last in gaps))
    count = f"{there} records and {alone} hash{'es' * (alone > 1)} alone" if alone else f"all {there} records"
    said = [f"index {first} to {end - 1} of {final.origin}: {count} are as they were signed", *said]
    said += [f"the earliest was made at {early}, the latest at {late}"] * (there > 0)
    said += [f"{known} of {len(told['passed'])} checkpoints on the way are signed with a key that was given; all agree"]
    said += [f"{one.what} ({one.size} records) agrees" for one in older]
    said += [f"index {begin} to {last}: the hash alone, dropped as you were told" for begin, last in gaps]
    compared = (folder / "manifest.json", paths["leaves"], paths.get("hashes"))
    others = sorted(path.name for path in folder.iterdir() if path not in compared)
    return said + [f"{UNCOMPARED}{name}" for name in others]


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


def span(text: str) -> range:
    """The indexes that were typed as ``A..B``. Raises ``ValueError``."""
    if not (found := re.fullmatch("([0-9]{1,18})[.][.]([0-9]{1,18})", text)):
        raise ValueError(f"{text[:90]!r} is no range of indexes, A..B")
    return range(int(found[1]), int(found[2]) + 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("export", "proof"))
    parser.add_argument("path", type=Path)
    for option in ("--key", "--witness", "--checkpoint", "--dropped"):
        parser.add_argument(option, action="append", default=[], required=option == "--key", help="may be repeated")
    given = parser.parse_args()
    try:
        trust = [read_key(key, LOG) for key in given.key], [read_key(key, WITNESS) for key in given.witness]
        notes = [(Path(name).read_bytes().decode(), f"the checkpoint in {name}") for name in given.checkpoint]
        older, dropped = [Checkpoint.read(*note) for note in notes], [span(text) for text in given.dropped]
        if given.what == "proof" and (older or dropped):
            raise ValueError("--checkpoint and --dropped go with an export")
        said = export(given.path, trust, older, dropped) if given.what == "export" else proof(given.path, trust)
        code, out = 0, sys.stdout
    except (Wrong, OSError, ValueError, sqlite3.Error) as error:
        said, code, out = [str(error)], 1 if isinstance(error, Wrong) else 2, sys.stderr
    for line in said:  # in which nothing can steer a terminal
        print("".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in line), file=out)
    return code


if __name__ == "__main__":
    sys.exit(main())
