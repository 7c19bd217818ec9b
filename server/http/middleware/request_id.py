"""The outermost: gives each request its id, counts and times it, and writes its log line once it is answered."""

import os
import re
import time
from datetime import UTC, datetime

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.http.exchange import Exchange
from server.http.metrics import Metrics

HEADERS = (b"x-backendai-requestid", b"x-request-id")
_ACCEPTED = re.compile(rb"[A-Za-z0-9._:-]{1,64}\Z")


class RequestIdMiddleware:
    """Takes the caller's id if it is well-formed, and answers with the one in force in ``X-Request-ID``."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._log = structlog.get_logger("chamberlain.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        exchange = Exchange(_request_id(scope), datetime.now(UTC), time.perf_counter(), client[0] if client else "")
        exchange.enter(scope)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", exchange.request_id.encode())]
            await send(message)

        self._metrics.request_started()
        try:
            await self._app(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - exchange.started
            self._metrics.request_finished(exchange.route, scope["method"], exchange.status or 499, seconds)
            if exchange.spec is None:
                # An action writes a line of its own, with what was decided; this is for all that is not one.
                self._log.info(
                    "request",
                    request_id=exchange.request_id,
                    method=scope["method"],
                    route=exchange.route,
                    status=exchange.status,
                    client=exchange.client_address,
                    ms=round(seconds * 1e3, 2),
                )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name in HEADERS and _ACCEPTED.match(value):
            return str(value.decode())
    return os.urandom(16).hex()
