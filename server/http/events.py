"""Server-sent events: a stream of an action as an HTTP answer that goes on until one side ends it.

    id: 41                     each thing with the mark from which a reader goes on, in ``Last-Event-ID``
    event: record
    data: {...}

What goes wrong before the stream opens is a problem like everywhere; after that it is an event ``problem``, the last
one. A server that stops says ``end``. A line ``:`` keeps the connection warm. Knows no entity.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Protocol

import orjson
import structlog
from starlette.types import Receive, Scope, Send

from actions.action import AnyAction
from actions.errors import STOPPING, TOO_SLOW, BrokenOff, ChamberlainError, TooManyRequests, Unavailable
from actions.streams import Part
from server.http.exchange import ABORT, Exchange
from server.http.metrics import Metrics
from server.http.problems import problem

HEARTBEAT_SECONDS = 15.0
"""After how much silence a line is sent."""
SLOW_SECONDS = 10.0
"""How long a reader may take to make room for what comes next, before it is cut off."""
MOST_STREAMS = 10
"""How many streams one principal may have open in each worker."""

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # for proxies that would hold back what is no whole answer yet
]
_HEARTBEAT = b":\n\n"


class Follows(Protocol):
    def follow(
        self, action: AnyAction, still_good: Callable[[], Awaitable[None]] | None = ...
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]: ...


class _TooSlow(BrokenOff):
    """The reader does not take what it is sent."""

    def __init__(self) -> None:
        super().__init__(TOO_SLOW)


class EventStreams:
    """Serves streams, and counts who has how many of them open."""

    def __init__(self, processor: Follows, draining: asyncio.Event, metrics: Metrics) -> None:
        self._processor = processor
        self._draining = draining
        self._metrics = metrics
        self._open: Counter[str] = Counter()
        self._log = structlog.get_logger("chamberlain.http")

    async def serve(self, action: AnyAction, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with the stream it asks for."""
        who = action.principal.name
        fault = self._refusal(who)
        if fault is not None:
            action = replace(action, given=fault)  # told after the decision, and recorded with it
        self._open[who] += 1
        self._metrics.stream_opened(1)
        try:
            await _Stream(self._processor, action, scope, receive, send).run(self._draining)
        except _TooSlow:
            self._log.info("slow reader cut off", request_id=action.context.request_id, principal=who)
        finally:
            self._metrics.stream_opened(-1)
            self._open[who] -= 1
            self._open += Counter()  # forgets who has none

    def _refusal(self, who: str) -> ChamberlainError | None:
        if self._draining.is_set():
            return Unavailable("The server is stopping.", reason=STOPPING)
        if self._open[who] >= MOST_STREAMS:
            return TooManyRequests(f"You have {MOST_STREAMS} streams open here.", reason="too-many-streams")
        return None


class _Stream:
    """One stream, from its opening to its end."""

    def __init__(self, processor: Follows, action: AnyAction, scope: Scope, receive: Receive, send: Send) -> None:
        self._processor = processor
        self._action = action
        self._exchange = Exchange.of(scope)
        self._abort: Callable[[], None] | None = scope.get(ABORT)
        self._send = send
        self._hung_up = asyncio.ensure_future(_hanging_up(receive))

    async def run(self, draining: asyncio.Event) -> None:
        stopping = asyncio.ensure_future(draining.wait())
        begun = False
        try:
            try:
                async with self._processor.follow(self._action, self._exchange.still_good) as parts:
                    await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                    begun = True
                    await self._pass_on(parts, {self._hung_up, stopping})
                    if not self._hung_up.done():
                        raise BrokenOff(STOPPING)
                last = b""
            except _TooSlow:
                raise
            except BrokenOff as broken:
                last = _event("end", {"reason": broken.reason})
            except ChamberlainError as error:
                if not begun:
                    raise
                last = _event("problem", problem(error, self._exchange.request_id, self._action.spec))
            await self._write(last, more=False)
        finally:
            stopping.cancel()
            self._hung_up.cancel()
            await asyncio.gather(stopping, self._hung_up, return_exceptions=True)

    async def _pass_on(self, parts: AsyncIterator[Part[Any]], ends: "set[asyncio.Future[Any]]") -> None:
        """Until one of the ends comes. Raises whatever the stream itself ends by."""
        name = self._action.spec.stream or ""
        coming: asyncio.Future[Part[Any]] | None = None
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(parts))
                await asyncio.wait({coming, *ends}, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if any(end.done() for end in ends):
                    return
                if coming.done():
                    part, coming = coming.result(), None
                    await self._write(_rendered(name, part))
                else:
                    await self._write(_HEARTBEAT)
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _write(self, body: bytes, *, more: bool = True) -> None:
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            if self._abort is not None:
                self._abort()
                await asyncio.wait({self._hung_up}, timeout=SLOW_SECONDS)
            raise _TooSlow from None


async def _hanging_up(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _rendered(name: str, part: Part[Any]) -> bytes:
    if not part.items:  # an id alone is kept by whoever reads, and is no event
        return b"id: %b\n\n" % part.mark.encode()
    return b"".join(
        b"id: %b\nevent: %b\ndata: %b\n\n" % (mark.encode(), name.encode(), item.__pydantic_serializer__.to_json(item))
        for item, mark in zip(part.items, part.marks, strict=True)
    )


def _event(name: str, told: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(told))
