"""A line between the workers and PostgreSQL that can be cut, or can swallow what is sent, at the moment of a commit.

It stands in PostgreSQL's own place: its socket is moved aside and the line listens where it was, so that a server that
runs finds it without being told.
"""

import asyncio
import contextlib
import random
from pathlib import Path
from types import TracebackType
from typing import Self

MARKS = (b"COMMIT\x00", b'"action":"admin_update_domain"')
"""A commit on its own, and the guarded change that commits with its record."""
ENOUGH = 3
_READY = b"Z\x00\x00\x00\x05"


class Line:
    """``async with`` it while the line is to stand. ``chance``: that a commit which passes by is met with the fault.

    ``swallow``: such a connection falls silent, both ways, and stays open; otherwise it is cut, before PostgreSQL gets
    the commit, or after it has done it and before it can say so.
    """

    def __init__(self, socket: Path, choice: random.Random, *, swallow: bool, chance: float = 0.1) -> None:
        self._near, self._far = socket, socket.with_name(".s.PGSQL.5433")
        self._choice = choice
        self._swallow = swallow
        self._chance = chance
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._met = 0
        self.met_enough = asyncio.Event()
        """Some commits were met with the fault."""

    async def __aenter__(self) -> Self:
        self._near.rename(self._far)
        self._server = await asyncio.start_unix_server(self._serve, str(self._near))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        with contextlib.suppress(FileNotFoundError):
            self._far.rename(self._near)
        for end in list(self._ends):
            end.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = {writer}
        self._ends.add(writer)
        with contextlib.suppress(OSError):
            far_reader, far = await asyncio.open_unix_connection(str(self._far))
            ends.add(far)
            self._ends.add(far)
            mute = asyncio.Event()
            await asyncio.gather(self._out(reader, far, mute), self._back(far_reader, writer, mute))
        for end in ends:
            end.transport.abort()
        self._ends -= ends

    async def _out(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter, mute: asyncio.Event) -> None:
        while chunk := await reader.read(1 << 20):
            if any(mark in chunk for mark in MARKS) and self._choice.random() < self._chance:
                self._met += 1
                if self._met == ENOUGH:
                    self.met_enough.set()
                deliver = self._choice.random() < 0.5
                mute.set()
                if deliver:
                    far.write(chunk)
                elif not self._swallow:
                    raise ConnectionAbortedError
                continue
            if not mute.is_set():
                far.write(chunk)
        raise ConnectionAbortedError

    async def _back(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter, mute: asyncio.Event) -> None:
        while chunk := await reader.read(1 << 20):
            if not mute.is_set():
                near.write(chunk)
            elif _READY in chunk and not self._swallow:
                raise ConnectionAbortedError
        raise ConnectionAbortedError
