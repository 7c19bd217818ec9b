"""``chamberlain audit verify``: check an export, the proof of a record, or the live server, with keys of one's own.

What is checked, and how, is all in ``audit.verify``, which a reviewer can read and run by itself. A live server is
checked by making an export of it here: its entries by the action, their hashes from the public tiles.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import Any

import httpx
import typer
from rich.console import Console
from rich.progress import Progress

from audit.keychain import widened
from audit.merkle import HEIGHT, WIDTH, Edge
from audit.note import NoteBroken, Verifier
from audit.verify import LOG, WITNESS, Checkpoint, Trust, Wrong, export, proof, read_key
from server.cli.api import Call, send
from server.cli.output import CannotRun, Refused, unsteered
from server.cli.signing_client import Credentials
from server.witness import write_durably

_STEP = 1000  # records between two movements of the bar
_SECONDS = 30.0
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
    dropped: bool,
) -> None:
    """Print what holds. Raises ``Refused`` with what does not, and ``CannotRun``."""
    if (path is None) == (who is None):
        raise CannotRun("say what to check: the folder of an export, the file of a proof, or --server")
    if remember is not None and who is None:
        raise CannotRun("--remember goes with --server")
    try:
        trust = [read_key(key, LOG) for key in keys], [read_key(key, WITNESS) for key in witnesses]
        older = [_kept(file) for file in checkpoints]
        if who is not None:
            said = _live(who(), trust, older, dropped, remember)
        elif path is not None and path.is_dir():
            with _bar("checking") as told:
                said = export(path, trust, older, dropped, told)
        elif path is not None:
            if older:
                raise CannotRun("--checkpoint goes with an export or with --server")
            said = proof(path, trust)
    except Wrong as wrong:
        raise Refused(unsteered(str(wrong))) from None
    except OSError as error:
        raise CannotRun(f"{error.filename} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CannotRun(unsteered(str(error))) from None
    for line in said:
        typer.echo(unsteered(line))


def _kept(file: Path) -> Checkpoint:
    return Checkpoint.read(file.read_text(), f"the checkpoint in {file}")


def _live(who: Credentials, trust: Trust, older: list[Checkpoint], dropped: bool, remember: Path | None) -> list[str]:
    if remember is not None and remember.exists():
        older = [*older, _kept(remember)]
    # A proxy that the environment names is for other machines than this one.
    here: dict[str, None] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
    with (
        tempfile.TemporaryDirectory(prefix="chamberlain-verify-") as made,
        httpx.Client(base_url=who.endpoint, timeout=_SECONDS, mounts=here) as public,
    ):
        folder, note = Path(made), _fetched(public, "/checkpoint").decode()
        newest = Checkpoint.read(note, "the checkpoint of the server")
        newest.trusted(*trust)
        for one in older:
            if one.origin == newest.origin and one.size > newest.size:
                one.trusted(trust[0])
                told = f"{one.what} says that it had {one.size} records"
                raise Wrong(f"index {newest.size}: the log ends here, but {told}: it was rolled back")
        with _bar("fetching") as bar:
            _export_of(who, public, note, newest, folder, bar)
        with _bar("checking") as bar:
            said = export(folder, trust, older, dropped, bar)
    if remember is not None:
        write_durably(remember, note.encode())
    return said


def _export_of(who: Credentials, public: httpx.Client, note: str, newest: Checkpoint, folder: Path, told: Told) -> None:
    """Make an export of all that the server has under a checkpoint. Raises ``Wrong`` for tiles that disagree."""
    edge, above = Edge(), Tiles(public)
    with (folder / "records").open("wb") as lines, (folder / "tiles").open("wb") as hashes:
        for first in range(0, newest.size, WIDTH):
            count = min(WIDTH, newest.size - first)
            for entry in _entries(who, first, count):
                leaf = entry["leaf"]
                lines.write((json.dumps(entry["hash"]) if leaf is None else leaf).encode() + b"\n")
            tile = above.fetched(0, first // WIDTH, count)
            hashes.write(tile)
            for place in range(0, len(tile), 32):
                for node, hashed in edge.add(tile[place : place + 32]):
                    above.add(node.level // HEIGHT, hashed)
            told(first + count, newest.size)
    above.end()
    files = []
    for kind, name in (("leaves", "records"), ("hashes", "tiles")):
        with (folder / name).open("rb") as written:
            files.append({"name": name, "kind": kind, "sha256": file_digest(written, "sha256").hexdigest()})
    manifest = {
        "format": 1,
        "origin": newest.origin,
        "first": 0,
        "end": newest.size,
        "checkpoint": note,
        "before": [],
        "consistency": [],
        "checkpoints": [],
        "files": files,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


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
