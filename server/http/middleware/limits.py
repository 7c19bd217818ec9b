"""Bounds on what a request may weigh: its target, its headers, its body; and on what may stand in its path.

More is a 413, 414 or 431 before it is kept.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actions.errors import BadRequest, HeadersTooLarge, TargetTooLong, TooLarge

MAX_TARGET = 8 * 1024
MAX_HEADERS = 16 * 1024


class LimitsMiddleware:
    """``max_body`` in bytes. A declared length is refused at once, an undeclared one when it grows too long."""

    def __init__(self, app: ASGIApp, max_body: int) -> None:
        self._app = app
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
            raise TargetTooLong(f"The request's target is longer than {MAX_TARGET} bytes.")
        if not scope["path"].isprintable():
            # To the router, a path that ends in a line break is the path without it.
            raise BadRequest("The path holds a character that no path has.", reason="malformed-path")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADERS:
            raise HeadersTooLarge(f"The request's headers are longer than {MAX_HEADERS} bytes.")
        for name, value in scope["headers"]:
            if name == b"content-length":
                if not value.isdigit():
                    raise BadRequest("The header Content-Length is not a number.")
                if int(value) > self._max_body:
                    raise self._too_large()
        taken = 0

        async def receiving() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._max_body:
                    raise self._too_large()
            return message

        await self._app(scope, receiving, send)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is longer than {self._max_body} bytes.", reason="body-too-large")
