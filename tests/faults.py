"""Faults for the tests of durability: a line to PostgreSQL that can be cut at a chosen byte, and further workers."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
from sqlalchemy import make_url

from server.app import application
from server.http.metrics import Metrics
from tests.world.served import served
from tests.world.world import World

_READY = b"Z\x00\x00\x00\x05"
"""ReadyForQuery: PostgreSQL has done all that it was asked to."""


class Line:
    """A Unix socket in front of PostgreSQL's. ``url`` leads through it. ``async with`` it for its lifetime."""

    def __init__(self, url: str) -> None:
        told = make_url(url)
        self._folder = tempfile.TemporaryDirectory(prefix="line-", dir="/tmp")
        self._name = f".s.PGSQL.{told.query['port']}"
        self._far = str(Path(str(told.query["host"])) / self._name)
        self.url = f"postgresql://{told.username}@/{told.database}?host={self._folder.name}&port={told.query['port']}"
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._down = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._silent_at: bytes | None = None
        self._mark: bytes | None = None
        self._deliver = self._stay_down = False
        self.cut = asyncio.Event()

    def cut_at(self, mark: bytes, *, deliver: bool, stay_down: bool = False) -> None:
        """Break the connection on which ``mark`` is sent: before PostgreSQL gets it, or (``deliver``) after it has
        done what was asked but before the answer arrives. ``stay_down``: all others too, and no new ones."""
        self._mark, self._deliver, self._stay_down = mark, deliver, stay_down
        self.cut.clear()

    def fall_silent(self) -> None:
        """Nothing comes through any more, either way, and nothing breaks: as if all of PostgreSQL were suspended."""
        self._flowing.clear()

    def fall_silent_at(self, mark: bytes) -> None:
        """The same, as soon as ``mark`` is sent, which ``cut`` tells; PostgreSQL does not get it before ``speak``."""
        self._silent_at = mark

    def speak(self) -> None:
        """What was sent meanwhile comes through now."""
        self._flowing.set()

    def go_down(self) -> None:
        self._down = True
        for end in list(self._ends):
            end.transport.abort()

    def restore(self) -> None:
        self._down = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, str(Path(self._folder.name) / self._name))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.speak()
        self.go_down()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._folder.cleanup()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self._down:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_unix_connection(self._far)
        self._ends |= {writer, far_writer}
        muted = asyncio.Event()
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(
                    self._out(reader, far_writer, muted, writer), self._back(far_reader, writer, muted, far_writer)
                )
        finally:
            self._ends -= {writer, far_writer}
            writer.transport.abort()
            far_writer.transport.abort()

    async def _out(
        self, reader: asyncio.StreamReader, far: asyncio.StreamWriter, muted: asyncio.Event, near: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(1 << 20):
            if self._silent_at is not None and self._silent_at in chunk:
                self._silent_at = None
                self.fall_silent()
                self.cut.set()
            await self._flowing.wait()
            if self._mark is not None and self._mark in chunk:
                self._mark = None
                muted.set()
                if not self._deliver:
                    self._break(near, far)
                    return
            far.write(chunk)
        far.transport.abort()

    async def _back(
        self, reader: asyncio.StreamReader, near: asyncio.StreamWriter, muted: asyncio.Event, far: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(1 << 20):
            await self._flowing.wait()
            if not muted.is_set():
                near.write(chunk)
            elif _READY in chunk:
                self._break(near, far)
                return
        near.transport.abort()

    def _break(self, *ends: asyncio.StreamWriter) -> None:
        if self._stay_down:
            self.go_down()
        for end in ends:
            end.transport.abort()
        self.cut.set()


@asynccontextmanager
async def another_worker(world: World, url: str | None = None, **settings: Any) -> AsyncIterator[World]:
    """A second application over the same database, perhaps by another way."""
    async with (
        application(world.stage.settings(**settings), url or world.urls.application, Metrics()) as app,
        served(app) as asgi,
    ):
        yield World(world.stage, world.urls, app, asgi)


async def as_application(world: World, statement: str) -> list[asyncpg.Record]:
    """Ask the database as the application's role, which alone sees and may end its own backends."""
    connection = await asyncpg.connect(world.urls.application)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 5.0) -> None:
    """Wait for a condition; fail when it does not come in time."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - conditions of any kind tell nobody when they come
            await asyncio.sleep(0.01)


async def somebody_waits(world: World) -> bool:
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await as_application(world, waiting))
