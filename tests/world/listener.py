"""One who listens to a stream: signs the request, speaks to the ASGI application in this process, reads its events."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson
from starlette.types import ASGIApp, Message

from server.http.exchange import ABORT
from tests.world.client import Caller

PATIENCE = 20.0
"""Seconds after which something that should come has not."""


@dataclass(frozen=True)
class Event:
    """What one event says. One that has an id and nothing else only tells how far the stream has come."""

    id: str | None
    name: str | None
    data: Any


class Listener:
    """``async with`` it: it has been answered then. ``read`` gives the next event, ``rest`` all until the end."""

    def __init__(self, asgi: ASGIApp, request: Mapping[str, Any]) -> None:
        self._asgi = asgi
        self._scope = dict(request)
        self._come: asyncio.Queue[Message | None] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._text = b""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.heartbeats = 0
        self.reads = asyncio.Event()
        """Cleared, it takes no more of what it is sent."""
        self.reads.set()
        self.aborted = False

    async def __aenter__(self) -> Self:
        self._scope[ABORT] = self._abort
        self._task = asyncio.create_task(self._run())
        async with asyncio.timeout(PATIENCE):
            message = await self._come.get()
        assert message is not None
        self.status = message["status"]
        self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()

    async def hang_up(self) -> None:
        """Be gone, and wait until the server has noticed."""
        self.reads.set()
        self._gone.set()
        async with asyncio.timeout(PATIENCE):
            await self._task

    async def killed(self) -> None:
        """The server's end is torn off, as at a shutdown whose patience has come to its end."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = asyncio.create_task(asyncio.sleep(0))

    async def read(self) -> Event:
        """The next event; heartbeats are counted."""
        async with asyncio.timeout(PATIENCE):
            while (found := self._event()) is None:
                message = await self._come.get()
                assert message is not None, "the stream has ended"
                self._text += message["body"]
            return found

    async def things(self, count: int) -> list[Event]:
        """The next events that tell of something."""
        found: list[Event] = []
        while len(found) < count:
            if (event := await self.read()).name is not None:
                found.append(event)
        return found

    async def rest(self) -> list[Event]:
        """All that comes until the end."""
        async with asyncio.timeout(PATIENCE):
            while (message := await self._come.get()) is not None:
                self._text += message["body"]
        found = []
        while (event := self._event()) is not None:
            found.append(event)
        return found

    async def problem(self) -> Any:
        """The whole answer, where it is no stream."""
        async with asyncio.timeout(PATIENCE):
            while (message := await self._come.get()) is not None:
                self.body += message["body"]
        return orjson.loads(self.body)

    def _event(self) -> Event | None:
        while b"\n\n" in self._text:
            block, _, self._text = self._text.partition(b"\n\n")
            if block == b":":
                self.heartbeats += 1
                continue
            said = dict(line.partition(": ")[::2] for line in block.decode().split("\n"))
            data = orjson.loads(said["data"]) if "data" in said else None
            return Event(said.get("id"), said.get("event"), data)
        return None

    def _abort(self) -> None:
        self.aborted = True
        self._gone.set()

    async def _run(self) -> None:
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            await self.reads.wait()
            await self._come.put(message)

        try:
            await self._asgi(self._scope, receive, send)
        finally:
            await self._come.put(None)


def listen(caller: Caller, path: str, *, last: str | None = None, method: str = "GET", **params: Any) -> Listener:
    """Ask for a stream as this caller. ``last`` is the id that was read last."""
    request = caller.built(method, path, params, {} if last is None else {"last-event-id": last})
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": request.method,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": caller.address,
    }
    return Listener(caller.asgi, scope)
