"""Watching a policy folder: which contents it settles on, one after the other. What becomes of them is unknown here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from actions.authorization.signing import read_signed
from actions.authorization.source import CASES_FOLDER, PolicySource

_READ_ANYWAY_AFTER = 20
"""Scans without a change after which the files are read anyway: some tools keep size and time of what they replace."""


async def settled(path: Path, interval: float = 0.2) -> PolicySource:
    """The folder's policy, once two reads ``interval`` seconds apart agree: a ``git pull`` writes file after file."""
    before = await asyncio.to_thread(read_signed, path)
    while True:
        await asyncio.sleep(interval)
        now = await asyncio.to_thread(read_signed, path)
        if now == before:
            return now
        before = now


async def candidates(
    path: Path, known: str | None = None, *, poll: float = 0.5, interval: float = 0.2
) -> AsyncIterator[PolicySource]:
    """Each policy the folder settles on, whenever it or its signature is not that of the one before.

    ``known`` is a digest that is not told of at first.

    Looks at names, sizes and times every ``poll`` seconds, and reads the files only when these have changed. A folder
    that is gone is a policy without files, so that its absence is reported like any other mistake.
    """
    seen: object = None
    last: PolicySource | None = None
    quiet = 0
    while True:
        looks = await asyncio.to_thread(_looks, path)  # before the read: what changes after it shows at the next scan
        if looks != seen or quiet >= _READ_ANYWAY_AFTER:
            source = await settled(path, interval)
            seen, quiet = looks, 0
            if source != last and (last is not None or source.digest != known):
                yield source
            last = source
        quiet += 1
        await asyncio.sleep(poll)


def _looks(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Name, time, size and identity of everything that a policy is read from."""
    found = []
    for folder in (path, path / CASES_FOLDER):
        with suppress(OSError):
            for entry in folder.iterdir():
                state = entry.stat()
                found.append((str(entry), state.st_mtime_ns, state.st_size, state.st_ino))
    return tuple(sorted(found))
