"""``chamberlain audit verify``: check an export, the proof of a record, or the live server, with keys of one's own.

What is checked, and how, is all in ``audit.verify``, which a reviewer can read and run by itself. A live server is
checked by making an export of it here: its entries by the action, their hashes from the public tiles. So is an export
to which archives are brought: by making one here in which their records stand where they belong.
"""

import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import typer
from rich.console import Console
from rich.progress import Progress

from audit.derived import compare
from audit.export import Entry, ExportBroken, Folder, HashedFile, Lines, Range, Sheet, leaves
from audit.keychain import widened
from audit.merkle import HEIGHT, WIDTH, Edge
from audit.note import NoteBroken, Verifier
from audit.verify import LOG, UNCOMPARED, WITNESS, Checkpoint, Trust, Wrong, export, proof, read_key, span
from server.cli.api import Call, send
from server.cli.audit import gaps
from server.cli.output import CannotRun, Refused, unsteered
from server.cli.signing_client import Credentials
from server.witness import write_durably

_STEP = 1000  # records between two movements of the bar
_SECONDS = 30.0
_WITNESS_SECONDS = 10.0
"""How long a live server may take until a witness vouches for a checkpoint: it is asked after that is signed."""
Told = Callable[[int, int], object]


def trusted(keys: Sequence[str], endorsements: Sequence[Path]) -> list[str]:
    """Keys, and those that they vouch for in files of endorsements. Raises ``CannotRun``."""
    if not endorsements:
        return list(keys)
    try:
        notes = [note for file in endorsements for note in _notes(file)]
        return [str(key) for key in widened([Verifier.read(key) for key in keys], notes)]
    except OSError as error:
        raise CannotRun(f"{error.filename} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CannotRun(unsteered(str(error))) from None


def _notes(file: Path) -> list[str]:
    """The signed notes in a file, one after the other."""
    text = file.read_text()
    found = re.findall(r"(?:[^\n]+\n)+\n(?:\u2014 [^\n]+\n)+", text)
    if not found or "".join(found) != text:
        raise NoteBroken(f"{file} holds no endorsements: signed notes, as `chamberlain audit keys` prints them")
    return found


def verify(
    path: Path | None,
    who: Callable[[], Credentials] | None,
    keys: Sequence[str],
    witnesses: Sequence[str],
    checkpoints: Sequence[Path],
    remember: Path | None,
    dropped: Sequence[str],
    archives: Sequence[Path],
) -> None:
    """Print what holds. Raises ``Refused`` with what does not, and ``CannotRun``."""
    if (path is None) == (who is None):
        raise CannotRun("say what to check: the folder of an export, the file of a proof, or --server")
    if remember is not None and who is None:
        raise CannotRun("--remember goes with --server")
    if not keys:
        raise CannotRun(
            "say by which key of the log to check it: --key name+id+base64, from whoever you believe. What the server "
            "names (`chamberlain audit keys`), and what a manifest tells, only shows that the log agrees with itself"
        )
    try:
        trust = [read_key(key, LOG) for key in keys], [read_key(key, WITNESS) for key in witnesses]
        older, spans = [_kept(file) for file in checkpoints], [span(text) for text in dropped]
        kept = gaps.Archives(archives)
        if who is not None:
            said = _live(who(), trust, older, spans, kept, remember)
        elif path is not None and path.is_dir():
            said = _export(path, trust, older, spans, kept if archives else None)
        elif path is not None:
            if older or spans or archives:
                raise CannotRun("--checkpoint, --dropped and --archive go with an export or with --server")
            said = proof(path, trust)
    except (Wrong, ExportBroken) as wrong:
        raise Refused(unsteered(str(wrong))) from None
    except OSError as error:
        raise CannotRun(f"{error.filename} cannot be read: {error.strerror}") from None
    except (ValueError, sqlite3.Error) as error:
        raise CannotRun(unsteered(str(error))) from None
    for line in said:
        typer.echo(unsteered(line))


def _kept(file: Path) -> Checkpoint:
    return Checkpoint.read(file.read_bytes().decode(), f"the checkpoint in {file}")


def _export(
    folder: Path, trust: Trust, older: list[Checkpoint], dropped: list[range], archives: gaps.Archives | None
) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="chamberlain-verify-") as made:
        with _bar("checking") as bar:
            whole = folder if archives is None else gaps.filled(folder, archives, Path(made))
            said = export(whole, trust, older, dropped, bar)
        with _bar("comparing") as bar:
            compared = compare(whole, bar)
    said = [line for line in said if line.removeprefix(UNCOMPARED) not in compared]
    said += [f"{name}: {what}" for name, what in compared.items()]
    return said if archives is None else [*said, *archives.said()]


def _live(
    who: Credentials,
    trust: Trust,
    older: list[Checkpoint],
    dropped: list[range],
    archives: gaps.Archives,
    remember: Path | None,
) -> list[str]:
    if remember is not None and remember.exists():
        older = [*older, _kept(remember)]
    # A proxy that the environment names is for other machines than this one.
    here: dict[str, None] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
    with (
        tempfile.TemporaryDirectory(prefix="chamberlain-verify-") as made,
        httpx.Client(base_url=who.endpoint, timeout=_SECONDS, mounts=here) as public,
    ):
        folder = Path(made) / "log"
        note, newest = _newest(public, trust)
        for one in older:
            if one.origin == newest.origin and one.size > newest.size:
                one.trusted(trust[0])
                told = f"{one.what} says that it had {one.size} records"
                raise Wrong(f"index {newest.size}: the log ends here, but {told}: it was rolled back")
        with _bar("fetching") as bar:
            found = _export_of(who, public, note, newest, folder, archives, bar)
        drops: list[gaps.Dropped] = []
        if missing := [indexes for indexes, _ in found.missing.found]:
            drops = gaps.dropped(who)
            gaps.held(drops, found.drops, missing, dropped, archives.digests)
        with _bar("checking") as bar:
            said = export(folder, trust, older, [*dropped, *(one.span for one in drops)], bar)
        said += [*(one.said() for one in drops), *archives.said()]
    if remember is not None:
        write_durably(remember, note.encode())
    return said


def _newest(public: httpx.Client, trust: Trust) -> tuple[str, Checkpoint]:
    """The server's checkpoint, as soon as all vouch for it who have to. Raises ``Wrong``."""
    deadline = time.monotonic() + _WITNESS_SECONDS
    while True:
        note = _fetched(public, "/checkpoint").decode()
        newest = Checkpoint.read(note, "the checkpoint of the server")
        newest.trusted(trust[0])
        try:
            newest.trusted(*trust)
        except Wrong:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return note, newest


@dataclass
class _Found:
    """What was found on the way: indexes of which there was the hash alone, and records that tell of drops."""

    missing: gaps.Spans = field(default_factory=gaps.Spans)
    drops: list[tuple[str, range, int, str]] = field(default_factory=list)


def _export_of(
    who: Credentials,
    public: httpx.Client,
    note: str,
    newest: Checkpoint,
    folder: Path,
    archives: gaps.Archives,
    told: Told,
) -> _Found:
    """Make an export of all that the server has under a checkpoint. Raises ``Wrong`` for tiles that disagree."""
    edge, above, found = Edge(), Tiles(public), _Found()
    with Folder(folder, {"records.jsonl": leaves, "tiles": _tiles}) as writing:
        writing.begin(Range(newest.origin, 0, newest.size, note, (), (), (), ()))
        for first in range(0, newest.size, WIDTH):
            count = min(WIDTH, newest.size - first)
            tile = above.fetched(0, first // WIDTH, count)
            for place, entry in enumerate(_entries(who, first, count)):
                index, hashed = first + place, tile[place * 32 : place * 32 + 32]
                leaf = None if entry["leaf"] is None else entry["leaf"].encode()
                if leaf is None:
                    found.missing.add(index)
                    leaf = archives.leaf(index, bytes.fromhex(entry["hash"]))
                if leaf is not None:
                    found.drops += gaps.drops(leaf.decode())
                writing.add(Entry(index, hashed, leaf))
                for node, whole in edge.add(hashed):
                    above.add(node.level // HEIGHT, whole)
            told(first + count, newest.size)
        above.end()
        writing.finish({})
    return found


def _tiles(file: HashedFile, _: Range) -> Sheet:
    return Lines("tiles", "hashes", file, lambda entry: entry.hash)


class Tiles:
    """The tiles above the leaves' as they follow from those below, each compared with the server's once it is whole."""

    def __init__(self, public: httpx.Client) -> None:
        self._public = public
        self._levels: dict[int, tuple[int, list[bytes]]] = {}

    def add(self, level: int, hashed: bytes) -> None:
        index, hashes = self._levels.setdefault(level, (0, []))
        hashes.append(hashed)
        if len(hashes) == WIDTH:
            self._compare(level, index, hashes)
            self._levels[level] = (index + 1, [])

    def end(self) -> None:
        for level, (index, hashes) in self._levels.items():
            if hashes:
                self._compare(level, index, hashes)

    def fetched(self, level: int, index: int, width: int) -> bytes:
        groups = [f"{index // 1000**power % 1000:03}" for power in range(4) if power == 0 or index >= 1000**power]
        path = "/".join([*(f"x{group}" for group in groups[:0:-1]), groups[0]])
        found = _fetched(self._public, f"/tile/{level}/{path}" + ("" if width == WIDTH else f".p/{width}"))
        if len(found) != width * 32:
            raise Wrong(f"tile {index} of level {level} has {len(found)} bytes, and not {width * 32}")
        return found

    def _compare(self, level: int, index: int, hashes: list[bytes]) -> None:
        found = self.fetched(level, index, len(hashes))
        for place, hashed in enumerate(hashes):
            if found[place * 32 : place * 32 + 32] != hashed:
                first = (index * WIDTH + place) << (HEIGHT * level)
                last = first + (1 << (HEIGHT * level)) - 1
                raise Wrong(f"index {first} to {last}: the tiles below level {level} are not those that it was made of")


def _entries(who: Credentials, first: int, count: int) -> Iterator[dict[str, Any]]:
    params = {"first": [str(first)], "count": [str(count)]}
    response = send(who, Call("GET", "/admin/audit-records/entries", params))
    if not response.is_success:
        raise Refused(response.json())
    entries = response.json()["entries"]
    for place in range(count):
        if place >= len(entries) or entries[place]["index"] != first + place:
            raise Wrong(f"index {first + place}: the server has no record there")
        yield entries[place]


def _fetched(public: httpx.Client, path: str) -> bytes:
    try:
        response = public.get(path)
    except httpx.TransportError as error:
        raise CannotRun(f"{public.base_url} cannot be reached: {error}. Does it run?") from None
    if not response.is_success:
        raise Wrong(f"the server has no {path}: it answers {response.status_code}")
    return response.content


@contextmanager
def _bar(what: str) -> Iterator[Told]:
    """A progress bar on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what)

        def told(done: int, total: int) -> None:
            if done % _STEP == 0 or done == total:
                bar.update(task, completed=done, total=total)

        yield told
