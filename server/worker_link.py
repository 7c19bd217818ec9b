"""The channel between the supervisor and one worker: what a worker is told at birth, and what the two say after.

A worker is born with two open file descriptors: the supervisor's reservation of the address, beside which it binds
a listening socket of its own, and its end of a socket pair, the *link*. On the link travel frames of nine bytes and a
payload: kind, number, length.

    worker to supervisor    READY      it serves requests now
                            SNAPSHOT   all it has counted so far; numbered like the COLLECT it answers, else 0
                            UNCHANGED  the same, when nothing was counted since its last SNAPSHOT
    supervisor to worker    COLLECT    send a snapshot taken from now on
                            DRAIN      SIGTERM follows: say that you are not ready any more

The link is also the life line. A supervisor that is gone, even by SIGKILL, is an end of file on it: the worker
drains by itself. A thread waits for the same end, because an event loop that is stuck notices nothing, and has the
kernel set an alarm that ends the process should it take too long.

What is lost when a worker is killed with SIGKILL: what it counted since its last snapshot was sent, which is
``INTERVAL`` seconds at most and the moment it takes to send. What was sent before is kept, and counted once.

Both ends live here so that the format has one home. Nothing here knows what a snapshot contains.
"""

import argparse
import asyncio
import contextlib
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

INTERVAL: Final = 0.5
"""Seconds between two snapshots that a worker sends unasked, unless it is told otherwise."""

READY, SNAPSHOT, UNCHANGED, COLLECT, DRAIN = b"R", b"S", b"U", b"C", b"D"
_HEAD: Final = struct.Struct(">cII")
_LARGEST: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is told on its command line.

    ``worker`` is its place, from 1; a replacement takes the place of the dead. ``housekeeper`` is true for
    exactly one place: that worker runs the watchers and sweepers. ``log_fd`` is the error output it takes for
    its own once it is ready; until then the supervisor reads along, to be able to say why a start failed.
    """

    worker: int
    listen_fd: int
    link_fd: int
    log_fd: int
    housekeeper: bool

    def arguments(self) -> list[str]:
        numbers = (f"--{name}={getattr(self, name.replace('-', '_'))}" for name in _NUMBERS)
        return [*numbers, *(["--housekeeper"] if self.housekeeper else [])]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Self:
        """The assignment on a command line; exits with 2 and a usage message when there is none."""
        parser = argparse.ArgumentParser(description="A worker. The supervisor starts it; it is not started by hand.")
        for name in _NUMBERS:
            parser.add_argument(f"--{name}", type=int, required=True)
        parser.add_argument("--housekeeper", action="store_true")
        return cls(**vars(parser.parse_args(arguments)))

    def listener(self) -> socket.socket:
        """A socket of this worker's own at the server's address, bound and not yet listening.

        The kernel deals new connections out over the workers' sockets; over one that they share, whichever wakes
        first takes all that wait. The socket goes when the worker does, so that nobody waits in a dead one's queue.
        """
        with _adopt(self.listen_fd) as reserved:
            own = socket.socket(reserved.family, socket.SOCK_STREAM)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if reserved.family == socket.AF_INET6:
                own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            own.bind(reserved.getsockname())
        own.setblocking(False)
        return own


_NUMBERS: Final = ("worker", "listen-fd", "link-fd", "log-fd")


def _adopt(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, int, bytes]:
    """The next frame as (kind, number, payload). Raises ``EOFError`` (asyncio's) when the other end is gone."""
    kind, number, length = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    if length > _LARGEST:
        raise ValueError(f"a frame of {length} bytes on the worker link")
    return kind, number, await reader.readexactly(length)


def _frame(kind: bytes, number: int = 0, payload: bytes = b"") -> bytes:
    return _HEAD.pack(kind, number, len(payload)) + payload


class WorkerLink:
    """The worker's end. Enter it first, say ``ready``, serve until ``stopping``, leave it last.

        async with WorkerLink(assignment, metrics.snapshot) as link:
            ...start serving...
            await link.ready()
            await link.stopping.wait()
            ...accept nothing more, finish what was begun...

    ``draining`` is set as soon as the end is announced: the worker still serves, but is not ready any more.
    ``stopping`` is set by SIGTERM, which follows after the supervisor's drain delay. Without a supervisor both are
    set at once, and ``orphan_grace`` seconds later SIGALRM ends a process that is still there.

    Entering takes over SIGTERM, and SIGINT, which then does nothing: Ctrl-C in a terminal is for the supervisor.
    Leaving sends a last snapshot, so a drained worker loses no count.
    """

    def __init__(
        self,
        assignment: Assignment,
        snapshot: Callable[[], Awaitable[bytes]],
        *,
        interval: float = INTERVAL,
        orphan_grace: float = 10.0,
    ) -> None:
        self.draining = asyncio.Event()
        self.stopping = asyncio.Event()
        self._assignment = assignment
        self._snapshot = snapshot
        self._interval = interval
        self._orphan_grace = orphan_grace
        self._sending = asyncio.Lock()
        self._sent = b""
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        watching = (os.dup(self._assignment.link_fd),)
        threading.Thread(target=self._watch_supervisor, args=watching, name="supervisor-watch", daemon=True).start()
        self._reader, self._writer = await asyncio.open_unix_connection(sock=_adopt(self._assignment.link_fd))
        self._tasks = [loop.create_task(self._listen()), loop.create_task(self._push())]
        for task in self._tasks:  # a worker that cannot report what it counts leaves, and is replaced
            task.add_done_callback(lambda _: self._stop())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        with contextlib.suppress(ConnectionError):
            await self._send_snapshot()
            self._writer.close()
            await self._writer.wait_closed()

    async def ready(self) -> None:
        """Say that this worker serves requests; from here its error output is the supervisor's own."""
        sys.stderr.flush()
        os.dup2(self._assignment.log_fd, 2)
        os.close(self._assignment.log_fd)
        await self._send(_frame(READY))

    def _stop(self) -> None:
        self.draining.set()
        self.stopping.set()

    async def _listen(self) -> None:
        try:
            while True:
                kind, number, _ = await _read(self._reader)
                if kind == COLLECT:
                    await self._send_snapshot(number)
                elif kind == DRAIN:
                    self.draining.set()
        except (EOFError, ConnectionError):
            self._stop()

    def _watch_supervisor(self, link: int) -> None:
        """In a thread: wait until the supervisor is gone, then bound what is left of this process's life."""
        hung_up = select.poll()
        hung_up.register(link, 0)  # asked for nothing, it reports only the end
        hung_up.poll()
        signal.setitimer(signal.ITIMER_REAL, self._orphan_grace)

    async def _push(self) -> None:
        with contextlib.suppress(ConnectionError):  # _listen sees the end of the link, too, and knows what to do
            while True:
                await asyncio.sleep(self._interval)
                await self._send_snapshot()

    async def _send_snapshot(self, number: int = 0) -> None:
        async with self._sending:  # so that an answer is sampled after its question, and frames never interleave
            payload = await self._snapshot()
            frame = _frame(UNCHANGED, number) if payload == self._sent else _frame(SNAPSHOT, number, payload)
            self._sent = payload
            self._writer.write(frame)
            await self._writer.drain()

    async def _send(self, frame: bytes) -> None:
        async with self._sending:
            self._writer.write(frame)
            await self._writer.drain()


class WorkerChannel:
    """The supervisor's end. ``listen`` runs until the worker is gone; ``snapshot`` is the last it sent, raw."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_ready: Callable[[], None]
    ) -> None:
        self.ready = False
        self.snapshot = b""
        self._reader = reader
        self._writer = writer
        self._on_ready = on_ready
        self._heard_at = time.monotonic()
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}

    @classmethod
    async def over(cls, end: socket.socket, on_ready: Callable[[], None]) -> Self:
        """The channel over the supervisor's end of the socket pair; ``on_ready`` is called once, from ``listen``."""
        reader, writer = await asyncio.open_unix_connection(sock=end)
        return cls(reader, writer, on_ready)

    @property
    def age(self) -> float:
        """Seconds since the worker last sent its counts, or confirmed them; before the first time, since its birth."""
        return time.monotonic() - self._heard_at

    async def listen(self) -> None:
        """Take in what the worker says. Returns at the end of the link; raises ``ValueError`` at nonsense on it."""
        try:
            while True:
                kind, number, payload = await _read(self._reader)
                if kind == READY:
                    self.ready = True
                    self._on_ready()
                    continue
                if kind == SNAPSHOT:
                    self.snapshot = payload
                self._heard_at = time.monotonic()
                if answered := self._waiting.pop(number, None):
                    answered.set_result(None)
        except (EOFError, ConnectionError):
            return
        finally:
            for unanswered in self._waiting.values():
                unanswered.cancel()
            self._writer.close()

    async def collect(self, timeout: float) -> None:
        """Have ``snapshot`` taken anew. Returns when it is, or after ``timeout`` seconds, whichever comes first."""
        self._asked = number = self._asked + 1
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(_frame(COLLECT, number))
        try:
            await asyncio.wait([answer], timeout=timeout)
        finally:
            self._waiting.pop(number, None)

    def drain(self) -> None:
        """Tell the worker that it will have to leave."""
        self._writer.write(_frame(DRAIN))
