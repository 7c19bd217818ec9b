"""Part of the log in a folder: records as they are, and what proves that they are of the log.

    manifest.json    which indexes, the signed checkpoint that covers them, and the hashes that lead to its root
    records.jsonl    a line for each index: the leaf bytes, or the hash of a leaf whose record is kept elsewhere
    sealed.jsonl     the sealed parts, each with its index

Writing it needs no more memory than one part; checking it needs the folder, the log's keys, and nothing else.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from audit.checkpoint import Checkpoint
from audit.merkle import extends, joined, leaf_hash, node_hash, subtrees
from audit.note import Note, NoteBroken, Verifier

FORMAT = 1
MANIFEST = "manifest.json"
LEAVES, SEALED = "records.jsonl", "sealed.jsonl"
_KINDS = {LEAVES: "leaves", SEALED: "sealed"}


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
    checkpoints: Sequence[str]
    keys: Sequence[str]


class _File:
    """A file that is counted and hashed while it is written, and readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file: BufferedWriter = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._digest = hashlib.sha256()
        self._records = self._bytes = 0

    def add(self, line: bytes) -> None:
        self._file.write(line + b"\n")
        self._digest.update(line + b"\n")
        self._records += 1
        self._bytes += len(line) + 1

    def close(self) -> None:
        if not self._file.closed:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())

    def told(self) -> dict[str, object]:
        told: dict[str, object] = {"name": self.name, "kind": _KINDS[self.name], "records": self._records}
        return {**told, "bytes": self._bytes, "sha256": self._digest.hexdigest()}


class ArchiveWriter:
    """``with`` it to write an archive into a folder that is empty or not there yet; the manifest comes last, so that
    one that was cut short is none."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ArchiveBroken(f"{folder} is not empty")
        self._folder = folder
        self._leaves, self._sealed = _File(folder / LEAVES), _File(folder / SEALED)
        self.alone: list[range] = []
        """The indexes of which it was given the hash alone."""

    def __enter__(self) -> "ArchiveWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._leaves.close()
        self._sealed.close()
        if kind is not None:
            for name in _KINDS:
                (self._folder / name).unlink(missing_ok=True)

    def add(self, index: int, line: bytes, sealed: bytes | None) -> None:
        """The leaf of the next index, or the JSON string of its hash; and its sealed part as it is kept."""
        self._leaves.add(line)
        if _leaf_of(line) is not None:
            first = self.alone.pop().start if self.alone and self.alone[-1].stop == index else index
            self.alone.append(range(first, index + 1))
        if sealed is not None:
            self._sealed.add(b'{"index":%d,"sealed":%b}' % (index, sealed))

    def finish(self, head: Head, asked: Mapping[str, object], made_at: str) -> None:
        self._leaves.close()
        self._sealed.close()
        told = {
            "format": FORMAT,
            "origin": head.origin,
            "first": head.first,
            "end": head.end,
            "asked": asked,
            "made_at": made_at,
            "checkpoint": head.checkpoint,
            "before": [one.hex() for one in head.before],
            "consistency": [one.hex() for one in head.consistency],
            "checkpoints": head.checkpoints,
            "keys": head.keys,
            "files": [self._leaves.told(), self._sealed.told()],
        }
        with os.fdopen(os.open(self._folder / MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def hash_line(hashed: bytes) -> bytes:
    """What stands in the place of a leaf whose record is kept elsewhere."""
    return b'"%b"' % hashed.hex().encode()


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
                checkpoints=[str(one) for one in told["checkpoints"]],
                keys=[str(one) for one in told["keys"]],
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
    if len(hashed) != 32 or line != hash_line(hashed):
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
