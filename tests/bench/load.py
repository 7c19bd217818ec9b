"""The load generator: a process of its own that sends prepared requests over kept-alive connections and counts.

It must cost next to nothing beside the servers, so requests are bytes made (and signed) before the clock starts, and a
connection writes the next one the moment an answer is whole. What it can do at most is measured against ``Echo``, a
server that does nothing, and stands in the results.

    python -m tests.bench.load           reads jobs, one JSON object a line, and answers each with a line
    python -m tests.bench.load --echo    is that server; prints its port
"""

import asyncio
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import uvloop

from server.http.signature import CURRENT_VERSION, SignedRequest, authorization, sign

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Job:
    """``count`` requests over ``connections`` connections; each connection goes through ``paths`` of its own.

    ``bodies`` are none, or one for each path. ``%d`` in one becomes the number of the request, so that every change
    changes something. With ``access_key`` and ``secret_key`` each request is signed, with a date of its own; with
    ``bearer`` each carries that token. With ``rate``, so many requests a second are sent, evenly spaced, and latencies
    count from the moment at which a request was due; without, each is sent when the one before it is answered.
    """

    name: str
    port: int
    method: str
    paths: list[str]
    count: int
    connections: int
    bodies: list[str] = field(default_factory=list)
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a job. Latencies in milliseconds. ``statuses`` counts the answers by status line."""

    seconds: float
    answered: int
    p50: float
    p99: float
    statuses: dict[str, int]

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answered / self.seconds


class _Connection(asyncio.Protocol):
    """One kept-alive connection: sends its requests one after the other, and notes when each was answered.

    ``every`` is the time in seconds between two requests, zero for none: an answer that is late delays those after it,
    and their latencies tell of the delay.
    """

    def __init__(
        self,
        requests: list[bytes],
        every: float,
        statuses: Counter[str],
        done: Callable[[BaseException | None], None],
    ) -> None:
        self._requests = requests
        self._every = every
        self._next = 0
        self._statuses = statuses
        self._done = done
        self._received = b""
        self._sent_at = 0.0
        self.latencies: list[float] = []
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def start(self, at: float) -> None:
        """Send the first request at a moment of ``time.perf_counter``."""
        self._sent_at = at - self._every
        self._follow()

    def _follow(self) -> None:
        due = self._sent_at + self._every
        wait = due - time.perf_counter()
        if self._every and wait > 0:
            asyncio.get_running_loop().call_later(wait, self._send, due)
        else:
            self._send(due if self._every else time.perf_counter())

    def _send(self, due: float) -> None:
        if self._next == len(self._requests):
            self._done(None)
            return
        self._sent_at = due
        self._transport.write(self._requests[self._next])
        self._next += 1

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        at = received.find(b"content-length: ")
        if at < 0 or at > end:
            self._done(RuntimeError(f"an answer without a length: {received[:200]!r}"))
            return
        if len(received) < end + 4 + int(received[at + 16 : received.index(b"\r\n", at)]):
            return
        self._received = b""
        self.latencies.append(time.perf_counter() - self._sent_at)
        self._statuses[received[9:12].decode()] += 1
        if received[9:12] != b"200":
            self._done(RuntimeError(received[:500].decode(errors="replace")))
            return
        self._follow()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next < len(self._requests) or len(self.latencies) < self._next:
            self._done(exc or ConnectionError("the server closed a connection under load"))

    def close(self) -> None:
        self._transport.close()


def prepared(job: Job) -> list[list[bytes]]:
    """The requests of each connection, in order, as they go over the wire."""
    host = f"127.0.0.1:{job.port}"
    kind = "application/json" if job.bodies else ""
    moment = datetime.now(UTC)
    found: list[list[bytes]] = [[] for _ in range(job.connections)]
    for number in range(job.count):
        turn, connection = divmod(number, job.connections)
        mine = range(connection, len(job.paths), job.connections)
        which = mine[turn % len(mine)]
        path = job.paths[which]
        body = job.bodies[which].replace("%d", str(number)).encode() if job.bodies else b""
        lines = [f"{job.method} {path} HTTP/1.1", f"Host: {host}"]
        if body:
            lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        if job.bearer:
            lines.append(f"Authorization: Bearer {job.bearer}")
        if job.access_key:
            date = moment + timedelta(microseconds=number)
            stamp = date.isoformat(timespec="microseconds")
            said = SignedRequest(
                job.method,
                path.encode(),
                host.encode(),
                kind.encode() or None,
                stamp.encode(),
                CURRENT_VERSION.encode(),
            )
            lines += [f"Date: {stamp}", f"X-BackendAI-Version: {CURRENT_VERSION}"]
            lines.append(f"Authorization: {authorization(job.access_key, sign(said, job.secret_key, date))}")
        found[connection].append("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return found


async def run(job: Job) -> Load:
    """Carry out a job. Raises when a connection breaks or an answer has no length."""
    loop = asyncio.get_running_loop()
    statuses: Counter[str] = Counter()
    finished: asyncio.Future[None] = loop.create_future()
    waiting = job.connections

    def done(error: BaseException | None) -> None:
        nonlocal waiting
        waiting -= 1
        if finished.done():
            return
        if error is not None:
            finished.set_exception(error)
        elif waiting == 0:
            finished.set_result(None)

    connections = []
    every = job.connections / job.rate if job.rate else 0.0
    for requests in prepared(job):
        _, connection = await loop.create_connection(
            lambda requests=requests: _Connection(requests, every, statuses, done),  # type: ignore[misc]
            "127.0.0.1",
            job.port,
        )
        connections.append(connection)
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        for number, connection in enumerate(connections):
            connection.start(started + number * every / job.connections)
        await finished
        seconds = time.perf_counter() - started
    finally:
        gc.enable()
        for connection in connections:
            connection.close()
    taken = sorted(latency for connection in connections for latency in connection.latencies)
    p50, p99 = (taken[int(len(taken) * share)] * 1e3 for share in (0.5, 0.99))
    return Load(seconds, len(taken), p50, p99, dict(statuses))


class Echo(asyncio.Protocol):
    """Answers every request with two bytes. It expects them whole, one at a time, as ``_Connection`` sends them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER)


async def _echo() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            told: dict[str, object] = asdict(await run(Job(**json.loads(line))))
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    uvloop.run(_echo() if "--echo" in sys.argv else _serve())
