"""An export of part of the log, with the sealed parts, read back: what a record is held to before it is dropped.

``audit.export`` writes it. Checking it needs the folder, the log's keys, and nothing else.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import orjson

from audit.checkpoint import Checkpoint
from audit.export import FORMAT, dropped_line
from audit.merkle import extends, joined, leaf_hash, node_hash, subtrees
from audit.note import Note, NoteBroken, Verifier

MANIFEST = "manifest.json"
LEAVES, SEALED = "records.jsonl", "sealed.jsonl"


class ArchiveBroken(ValueError):
    """A folder is no archive, or not of this log; the message says where and what is wrong."""


@dataclass(frozen=True, slots=True)
class Head:
    """What an archive says of itself, its files apart. ``end`` is the first index that is not in it."""

    origin: str
    first: int
    end: int
    checkpoint: str
    before: Sequence[bytes]
    """The roots of the perfect subtrees of the leaves before ``first``."""
    consistency: Sequence[bytes]
    """The proof from a tree of ``end`` leaves to the checkpoint's."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A record in an archive. ``leaf`` is None where it is kept elsewhere; ``sealed`` where it has none."""

    index: int
    leaf: bytes | None
    sealed: object = None


class Archive:
    """A folder that says that it is an archive. Raises ``ArchiveBroken``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            written = (folder / MANIFEST).read_bytes()
            told: dict[str, Any] = orjson.loads(written)
            self.head = Head(
                origin=str(told["origin"]),
                first=_index(told["first"]),
                end=_index(told["end"]),
                checkpoint=str(told["checkpoint"]),
                before=_hashes(told["before"]),
                consistency=_hashes(told["consistency"]),
            )
            self._files = {str(file["name"]): str(file["sha256"]) for file in told["files"]}
        except OSError as error:
            raise ArchiveBroken(f"{folder / MANIFEST} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveBroken(f"{folder / MANIFEST} is no manifest of an archive") from error
        if told.get("format") != FORMAT or not self.head.first < self.head.end or LEAVES not in self._files:
            raise ArchiveBroken(f"{folder / MANIFEST} is no manifest of an archive of format {FORMAT}")
        self.digest = hashlib.sha256(written).hexdigest()
        """The SHA-256 of its manifest, which names those of its files."""

    def checked(self, keys: Sequence[Verifier]) -> Checkpoint:
        """Recompute everything from the records up to the signed checkpoint, which is returned."""
        head = self.head
        for name, digest in self._files.items():
            with self._open(name) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise ArchiveBroken(f"{name} is not the file that the manifest speaks of")
        try:
            note = Note.read(head.checkpoint)
            checkpoint = Checkpoint.of(note)
            vouched = note.vouched(keys)
        except NoteBroken as error:
            raise ArchiveBroken(f"the manifest's checkpoint: {error}") from error
        if not vouched or checkpoint.origin != head.origin:
            raise ArchiveBroken("the manifest's checkpoint is signed by no key of this log")
        before = [node.level for node in subtrees(0, head.first)]
        if len(before) != len(head.before):
            raise ArchiveBroken("the manifest does not say what stands before the first index")
        root = self._root(list(zip(before, head.before, strict=True)))
        if not extends(head.end, root, checkpoint.size, checkpoint.root, head.consistency):
            raise ArchiveBroken("the records do not lead to the root that was signed: some are not as they were")
        return checkpoint

    def _root(self, perfect: list[tuple[int, bytes]]) -> bytes:
        """The root of the tree up to ``end``, from the perfect subtrees before ``first``, widest first."""
        with self._open(LEAVES) as file:
            index = self.head.first
            for line in file:
                leaf = line.removesuffix(b"\n")
                level, hashed = 0, _leaf_of(leaf) or leaf_hash(leaf)
                while perfect and perfect[-1][0] == level:
                    level, hashed = level + 1, node_hash(perfect.pop()[1], hashed)
                perfect.append((level, hashed))
                index += 1
        if index != self.head.end:
            raise ArchiveBroken(f"{LEAVES} ends at index {index}, and not at {self.head.end}")
        return joined([hashed for _, hashed in perfect])

    def records(self) -> Iterator[Kept]:
        """Every index in order."""
        with ExitStack() as stack:
            parts = self._sealed(stack)
            nearest = next(parts, None)
            for index, line in enumerate(stack.enter_context(self._open(LEAVES)), self.head.first):
                leaf = line.removesuffix(b"\n")
                sealed = None
                if nearest is not None and nearest[0] == index:
                    sealed, nearest = nearest[1], next(parts, None)
                yield Kept(index, None if _leaf_of(leaf) else leaf, sealed)

    def _sealed(self, stack: ExitStack) -> Iterator[tuple[int, object]]:
        if SEALED in self._files:
            for line in stack.enter_context(self._open(SEALED)):
                try:
                    told = orjson.loads(line)
                    yield _index(told["index"]), told["sealed"]
                except (ValueError, KeyError, TypeError) as error:
                    raise ArchiveBroken(f"{SEALED} holds a line that is no sealed part") from error

    def _open(self, name: str) -> BufferedReader:
        if name != Path(name).name:
            raise ArchiveBroken(f"the manifest names {name[:80]!r}, which is no file beside it")
        try:
            return (self._folder / name).open("rb")
        except OSError as error:
            raise ArchiveBroken(f"{self._folder / name} cannot be read: {error.strerror}") from error


def _leaf_of(line: bytes) -> bytes | None:
    """The hash that a line gives in place of a leaf; None where it is the leaf itself, which begins with a brace."""
    if line[:1] != b'"':
        return None
    try:
        hashed = bytes.fromhex(line[1:-1].decode())
    except ValueError:
        hashed = b""
    if len(hashed) != 32 or line != dropped_line(hashed):
        raise ArchiveBroken(f"{LEAVES} holds a line that is neither a record nor its hash")
    return hashed


def _index(told: object) -> int:
    if not isinstance(told, int) or isinstance(told, bool) or told < 0:
        raise ValueError("no index")
    return told


def _hashes(told: Sequence[str]) -> list[bytes]:
    hashes = [bytes.fromhex(one) for one in told]
    if any(len(one) != 32 for one in hashes):
        raise ValueError("no hash")
    return hashes
