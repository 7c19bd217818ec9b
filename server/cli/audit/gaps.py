"""What accounts for records of which the log has the hash alone: archives that have them, and what is known of drops.

None of it is taken at its word. The record of an archive is put where one is missing, and then checked like all others.
What ``/admin/audit-archives`` says is held to the records of the drops, which stand in the log, and to how many records
are missing there.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from heapq import merge
from pathlib import Path
from typing import Any

from actions.entities.audit_partition import DROP, SPECS
from audit.archive import Archive
from audit.merkle import leaf_hash
from audit.verify import Wrong
from server.cli.api import Call, send
from server.cli.output import Refused
from server.cli.signing_client import Credentials

_PAGE = 100
_ALONE = re.compile(rb'"([0-9a-f]{64})"\n')
_DROPS = {spec.name for spec in SPECS if spec.operation == DROP}


class Spans:
    """Indexes that follow on one another, and something that is said of them."""

    def __init__(self) -> None:
        self.found: list[tuple[range, str]] = []

    def add(self, index: int, said: str = "") -> None:
        """Of the next index, or of a later one."""
        if self.found and self.found[-1][0].stop == index and self.found[-1][1] == said:
            self.found[-1] = range(self.found[-1][0].start, index + 1), said
        else:
            self.found.append((range(index, index + 1), said))


class Archives:
    """The records of archives, asked for in the order of their indexes. Raises ``ArchiveBroken``."""

    def __init__(self, folders: Sequence[Path]) -> None:
        archives = [Archive(folder) for folder in folders]
        self.digests = {archive.digest for archive in archives}
        self._kept = merge(*(_records(archive, folder) for archive, folder in zip(archives, folders, strict=True)))
        self._next = next(self._kept, None)
        self._taken = Spans()

    def leaf(self, index: int, hashed: bytes) -> bytes | None:
        """The record that has this hash. Raises ``Wrong`` if an archive has another one there."""
        while self._next and self._next[0] < index:
            self._next = next(self._kept, None)
        if self._next is None or self._next[0] != index:
            return None
        _, leaf, folder = self._next
        if leaf_hash(leaf) != hashed:
            raise Wrong(f"index {index}: the record in {folder} is not the one whose hash stands here")
        self._taken.add(index, str(folder))
        return leaf

    def said(self) -> list[str]:
        """What was taken from where, a line each."""
        return [f"index {span[0]} to {span[-1]}: taken from {folder}" for span, folder in self._taken.found]


def _records(archive: Archive, folder: Path) -> Iterator[tuple[int, bytes, Path]]:
    return ((kept.index, kept.leaf, folder) for kept in archive.records() if kept.leaf is not None)


def filled(folder: Path, archives: Archives, into: Path) -> Path:
    """An export like the one in ``folder``, with the records that archives have, in the empty folder ``into``. Of what
    is no export nothing is made: whoever checks it finds that out."""
    try:
        told: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
        [leaves] = [file for file in told["files"] if file["kind"] == "leaves"]
        first, name = range(told["first"]).stop, Path(leaves["name"]).name
    except (ValueError, TypeError, KeyError, RecursionError):
        return folder
    digest = sha256()
    with (folder / name).open("rb") as lines, (into / name).open("wb") as written:
        for index, line in enumerate(lines, first):
            alone = _ALONE.fullmatch(line)
            leaf = archives.leaf(index, bytes.fromhex(alone[1].decode())) if alone else None
            whole = line if leaf is None else leaf + b"\n"
            written.write(whole)
            digest.update(whole)
    leaves["sha256"] = digest.hexdigest()
    (into / "manifest.json").write_text(json.dumps(told))
    for other in folder.iterdir():
        if other.name not in ("manifest.json", name):
            (into / other.name).symlink_to(other.absolute())
    return into


@dataclass(frozen=True)
class Dropped:
    """Part of the log that has left the database, as the server tells of it."""

    partition: str
    span: range
    records: int
    digest: str
    account: str
    location: str

    def said(self) -> str:
        what = f"{self.partition}, {self.records} records, was dropped by {self.account}"
        return f"index {self.span[0]} to {self.span[-1]}: {what} and is kept in {self.location}"


def drops(leaf: str) -> Iterator[tuple[str, range, int, str]]:
    """The drop that a record tells of: the partition, its indexes, how many records, and the archive's digest."""
    if not any(f'"action":"{name}"' in leaf for name in _DROPS):
        return
    record = json.loads(leaf)
    changes = {change["field"]: change for change in record.get("changes", ())}
    if record["action"] in _DROPS and {"indexes", "records", "digest"} <= changes.keys():
        first, _, last = changes["indexes"]["old"].partition(" to ")
        span = range(int(first), int(last) + 1)
        yield record["target"]["id"], span, changes["records"]["old"], changes["digest"]["new"]


def dropped(who: Credentials) -> list[Dropped]:
    """What the server says was dropped."""
    items: list[dict[str, Any]] = []
    asked = {"filter": ['{"dropped": {"equals": true}}'], "order": ["created_at"], "limit": [str(_PAGE)]}
    while len(items) % _PAGE == 0:
        response = send(who, Call("GET", "/admin/audit-archives", {**asked, "offset": [str(len(items))]}))
        if not response.is_success:
            raise Refused(response.json())
        if not (page := response.json()["items"]):
            break
        items += page
    return read(items)


def read(items: Iterable[Mapping[str, Any]]) -> list[Dropped]:
    """Of the items that ``/admin/audit-archives`` answers with, the oldest first: the parts in the order of their
    indexes. One that was archived again before it went is told of as it went."""
    found: dict[str, Dropped] = {}
    for item in items:
        known = {name: item[name] for name in ("partition", "records", "digest", "account", "location")}
        found[item["partition"]] = Dropped(span=range(item["first_index"], item["end_index"]), **known)
    return sorted(found.values(), key=lambda one: (one.span.start, one.span.stop))


def held(
    told: Sequence[Dropped],
    recorded: Iterable[tuple[str, range, int, str]],
    missing: Sequence[range],
    brought: Sequence[range],
    archived: Iterable[str],
) -> None:
    """Hold what the server says was dropped to the records of the drops, and to what is missing. A drop whose record
    has itself been dropped is vouched for by whoever brings its archive, or its indexes. Raises ``Wrong``."""
    known, digests = set(recorded), set(archived)
    for one in told:
        vouched = any(span.start <= one.span.start and one.span.stop <= span.stop for span in brought)
        if (
            not vouched
            and one.digest not in digests
            and (one.partition, one.span, one.records, one.digest) not in known
        ):
            raise Wrong(f"{one.said()}, says the server, and no record in the log does: bring its --archive")
    for group in _overlapping(told):
        first, end = group[0].span.start, max(one.span.stop for one in group)
        gone = sum(len(range(max(span.start, first), min(span.stop, end))) for span in missing)
        if gone > (records := sum(one.records for one in group)):
            raise Wrong(
                f"index {first} to {end - 1}: {gone} records are missing, and no more than {records} were dropped"
            )


def _overlapping(told: Sequence[Dropped]) -> Iterator[list[Dropped]]:
    """Parts whose indexes lie among one another's, as those of neighbouring months do. ``told`` is in order."""
    group: list[Dropped] = []
    for one in told:
        if group and one.span.start >= max(other.span.stop for other in group):
            yield group
            group = []
        group.append(one)
    if group:
        yield group
