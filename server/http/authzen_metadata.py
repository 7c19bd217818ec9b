"""``GET /.well-known/authzen-configuration``: where an enforcement point finds the AuthZEN endpoints.

They are addresses as the caller reaches the server. A server behind a proxy is told its own by the setting
``public_url``; without it they follow the request's ``Host``, and nobody may keep the document.
"""

import re

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.http.exchange import Exchange

PATH = "/.well-known/authzen-configuration"
MAX_AGE = 3600
"""Seconds for which a reader may keep the document."""
ENDPOINTS = {
    "access_evaluation_endpoint": "/access/v1/evaluation",
    "access_evaluations_endpoint": "/access/v1/evaluations",
    "search_subject_endpoint": "/access/v1/search/subject",
    "search_resource_endpoint": "/access/v1/search/resource",
    "search_action_endpoint": "/access/v1/search/action",
}
_HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")


def route(public_url: str | None) -> Route:
    async def metadata(request: Request) -> Response:
        Exchange.of(request.scope).route = PATH
        base = public_url or f"{request.scope['scheme']}://{_host(request)}"
        shown = {"policy_decision_point": base, **{name: base + path for name, path in ENDPOINTS.items()}}
        kept = f"public, max-age={MAX_AGE}" if public_url else "no-store"
        return Response(orjson.dumps(shown), 200, {"cache-control": kept}, "application/json")

    return Route(PATH, metadata)


def _host(request: Request) -> str:
    """The caller's name for this server, if it is a name at all; else the address that it reached."""
    named = request.headers.get("host", "")
    if _HOST.match(named):
        return named
    host, port = request.scope["server"] or ("localhost", None)
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"
