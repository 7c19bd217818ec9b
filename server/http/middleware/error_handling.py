"""Turns whatever a request ends in into a problem. Nothing leaves as a bare 500 or a page of HTML."""

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actions.errors import BadRequest, ChamberlainError, Internal, MethodNotAllowed, NotFound
from server.http.exchange import Exchange
from server.http.problems import ProblemResponse


class ErrorHandlingMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = structlog.get_logger("chamberlain.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        exchange = Exchange.of(scope)
        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Exception as error:
            if begun:
                raise
            if isinstance(error, ChamberlainError):
                known = error
            elif isinstance(error, HTTPException):
                known = _known(error)
            else:
                self._log.error("crash", request_id=exchange.request_id, exc_info=error)
                known = Internal()
            await ProblemResponse(known, exchange.request_id, exchange.spec)(scope, receive, sending)


def _known(error: HTTPException) -> ChamberlainError:
    match error.status_code:
        case 404:
            return NotFound()
        case 405:
            return MethodNotAllowed("This path is not served with that method.")
        case _:
            return BadRequest("The request cannot be read.")
