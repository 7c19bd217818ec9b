"""Health: ``/livez`` (the loop turns), ``/readyz`` (requests are served and recorded), ``GET /`` (the handshake).

``/readyz?verbose`` names each check. A policy folder that cannot be used, or that differs from the active version,
is told there and does not make the server unready: it goes on deciding by the active version.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.http.exchange import Exchange
from server.http.signature import CURRENT_VERSION

Check = Callable[[], Awaitable[str]]
"""Returns what to tell when all is well; raises ``Unready`` with what is wrong."""


class Unready(Exception):
    """A check that failed. The message may be read by anyone."""


@dataclass(frozen=True)
class Health:
    """``checks`` decide readiness; ``notes`` are told beside them and decide nothing."""

    checks: Mapping[str, Check]
    notes: Mapping[str, Check]
    version: str

    def routes(self) -> list[Route]:
        return [Route("/", self.handshake), Route("/livez", self.livez), Route("/readyz", self.readyz)]

    async def handshake(self, request: Request) -> Response:
        return _answer(request, "/", 200, {"version": CURRENT_VERSION, "manager": self.version})

    async def livez(self, request: Request) -> Response:
        return _answer(request, "/livez", 200, {"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        told: dict[str, object] = {}
        ready = True
        for name, check in self.checks.items():
            try:
                told[name] = {"ok": True, "detail": await check()}
            except Unready as fault:
                ready = False
                told[name] = {"ok": False, "detail": str(fault)}
        body: dict[str, object] = {"status": "ready" if ready else "unready"}
        if "verbose" in request.query_params:
            for name, note in self.notes.items():
                try:
                    told[name] = {"ok": True, "detail": await note()}
                except Unready as fault:
                    told[name] = {"ok": False, "detail": str(fault)}
            body["checks"] = told
        return _answer(request, "/readyz", 200 if ready else 503, body)


def _answer(request: Request, route: str, status: int, body: object) -> Response:
    Exchange.of(request.scope).route = route
    return Response(orjson.dumps(body), status, {"cache-control": "no-store"}, "application/json")
