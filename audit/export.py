"""An export of the log: a folder with a range of its leaves, exactly as they are, and a manifest that ties every file
to a checkpoint. Whoever has the folder and the log's key can check it without the log.

The folder is written as ``NAME.part`` and gets its name once everything in it is on disk: one that broke off never
looks whole. Leaves go from the log to the files one by one, so memory does not grow with the range. This module knows
neither where the leaves come from nor what is in them.
"""

import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import orjson

FORMAT = 1
_BUFFER = 1 << 20


class ExportBroken(Exception):
    """There can be no such export; the message says why."""


@dataclass(frozen=True, slots=True)
class Range:
    """What an export holds and what it is checked by, as the log tells it and as it stands in the manifest: signed
    notes are texts, hashes are in hex."""

    origin: str
    first: int
    end: int
    checkpoint: str
    before: Sequence[str]
    consistency: Sequence[str]
    checkpoints: Sequence[str]
    keys: Sequence[str]


@dataclass(frozen=True)
class Entry:
    """One leaf: its hash as the tree has it and its bytes, which are None where the record was dropped."""

    index: int
    hash: bytes
    leaf: bytes | None
    sealed: Mapping[str, str] | None = None

    @cached_property
    def told(self) -> Mapping[str, Any]:
        """What the leaf tells; nothing where it was dropped. Raises ``ExportBroken``."""
        if self.leaf is None:
            return {}
        try:
            found = orjson.loads(self.leaf)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise ExportBroken(f"entry {self.index} is no record that this log wrote: it is no JSON object")
        return found


class Sheet(Protocol):
    """A file of an export, filled entry by entry. ``name`` and ``kind`` are the manifest's."""

    name: str
    kind: str

    def add(self, entry: Entry) -> bool:
        """Whether the entry has its place in this file. Raises ``ExportBroken``."""

    def finish(self) -> None:
        """Write what is still to be written."""


OpenSheet = Callable[["HashedFile", Range], Sheet]


class HashedFile(io.RawIOBase):
    """A new file, for its owner alone, that knows its size and its SHA-256. Whoever closes it has it on disk."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=_BUFFER)
        self._hash = sha256()
        self._abandoned = False
        self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        if self._abandoned:
            return memoryview(data).nbytes
        self._hash.update(data)
        written = self._file.write(data)
        self.size += written
        return written

    def close(self) -> None:
        if not self.closed and not self._abandoned:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            finally:
                self.abandon()
                super().close()

    def abandon(self) -> None:
        """Let it go, whatever is in it. A library that closes its own part later may still write: to nowhere."""
        if not self._abandoned:
            self._abandoned = True
            with suppress(OSError):
                self._file.close()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class Lines:
    """A file with a line for each entry of which it has something to say."""

    def __init__(self, name: str, kind: str, file: HashedFile, line: Callable[[Entry], bytes | None]) -> None:
        self.name, self.kind = name, kind
        self._file, self._line = file, line

    def add(self, entry: Entry) -> bool:
        line = self._line(entry)
        if line is not None:
            self._file.write(line)
        return line is not None

    def finish(self) -> None: ...


def leaves(file: HashedFile, _: Range) -> Sheet:
    """Each leaf is a line, as it is; of one that was dropped, its hash as a JSON string."""
    return Lines("records.jsonl", "leaves", file, _leaf_line)


def hashes(file: HashedFile, _: Range) -> Sheet:
    """32 bytes for each leaf."""
    return Lines("hashes.bin", "hashes", file, lambda entry: entry.hash)


def sealed_parts(file: HashedFile, _: Range) -> Sheet:
    """The sealed parts, as they are."""
    return Lines("sealed.jsonl", "sealed", file, _sealed_line)


def dropped_line(hashed: bytes) -> bytes:
    """What stands in the place of a leaf whose record was dropped."""
    return b'"%s"' % hashed.hex().encode()


def _leaf_line(entry: Entry) -> bytes:
    return (dropped_line(entry.hash) if entry.leaf is None else entry.leaf) + b"\n"


def _sealed_line(entry: Entry) -> bytes | None:
    if entry.sealed is None:
        return None
    return orjson.dumps({"index": entry.index, "sealed": entry.sealed}) + b"\n"


@dataclass(slots=True)
class _Open:
    sheet: Sheet
    file: HashedFile
    records: int = 0


class Folder:
    """An export under way. Use it as a block: ``begin`` it, ``add`` its entries in order, ``finish`` it.

    Left before it is finished, it leaves nothing behind. Each of ``sheets`` is opened under the name beside it.
    """

    def __init__(self, path: Path, sheets: Mapping[str, OpenSheet]) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        self._sheets = sheets
        self._open: list[_Open] = []
        self._range: Range | None = None
        self._next = 0

    def __enter__(self) -> "Folder":
        if self.path.exists() or self.path.is_symlink():
            raise ExportBroken(f"{self.path} is there already, and nothing is written over")
        try:
            self._part.mkdir(mode=0o700)
        except FileExistsError:
            raise ExportBroken(f"{self._part} is what an export left that broke off: remove it first") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._open:
            one.file.abandon()  # of what is whole, every file is closed
        shutil.rmtree(self._part, ignore_errors=True)  # it has another name if it is finished

    def begin(self, told: Range) -> None:
        self._range, self._next = told, told.first
        for name, open_sheet in self._sheets.items():
            file = HashedFile(self._part / name)
            self._open.append(_Open(open_sheet(file, told), file))

    @property
    def range(self) -> Range | None:
        """What the export holds, once that is known."""
        return self._range

    @property
    def written(self) -> int:
        """How many entries have been added."""
        return self._next - self._range.first if self._range else 0

    def add(self, entry: Entry) -> None:
        """Raises ``ExportBroken`` if it is not the next one."""
        if entry.index != self._next:
            raise ExportBroken(f"the log has no entry {self._next}, though a checkpoint covers it")
        if entry.leaf is not None and b"\n" in entry.leaf:
            raise ExportBroken(f"entry {entry.index} is no record that this log wrote: it has a line feed in it")
        for one in self._open:
            one.records += one.sheet.add(entry)
        self._next += 1

    def finish(self, asked: Mapping[str, object]) -> None:
        """Make it whole: the manifest, everything on disk, and then the name. Raises ``ExportBroken``."""
        told = self._range
        if told is None or self._next != told.end:
            raise ExportBroken(f"the log ended at entry {self._next}, before the range did")
        files = []
        for one in self._open:
            one.sheet.finish()
            one.file.close()
            described = {"name": one.sheet.name, "kind": one.sheet.kind, "records": one.records}
            files.append({**described, "bytes": one.file.size, "sha256": one.file.sha256})
        manifest = {
            "format": FORMAT,
            "origin": told.origin,
            "first": told.first,
            "end": told.end,
            "asked": dict(asked),
            "made_at": datetime.now(UTC),
            "checkpoint": told.checkpoint,
            "before": list(told.before),
            "consistency": list(told.consistency),
            "checkpoints": list(told.checkpoints),
            "keys": list(told.keys),
            "files": files,
        }
        file = HashedFile(self._part / "manifest.json")
        file.write(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z) + b"\n")
        file.close()
        _synced(self._part)
        self._part.rename(self.path)
        _synced(self.path.parent)


def _synced(folder: Path) -> None:
    """The names in a folder are on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
