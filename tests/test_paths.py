"""The router by segments: it finds what Starlette's own would, and no more."""

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from server.http.paths import Paths


async def _said(request: Request) -> Response:
    values = ",".join(f"{name}={value}" for name, value in request.path_params.items())
    return PlainTextResponse(f"{request.scope['asked']} {values}".strip())


def _route(path: str) -> Route:
    async def endpoint(request: Request) -> Response:
        request.scope["asked"] = path
        return await _said(request)

    return Route(path, endpoint)


async def _elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("elsewhere", 404)(scope, receive, send)


ROUTES = [
    _route("/"),
    _route("/livez"),
    _route("/domains/{domain}"),
    _route("/domains/{domain}/users"),
    _route("/domains/{domain}/users/{id}"),
    _route("/domains/{domain}/users/batch_update"),
    _route("/domains/{domain}/users/{id}/restore"),
]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/", "/"),
        ("/livez", "/livez"),
        ("/domains/a", "/domains/{domain} domain=a"),
        ("/domains/a/users", "/domains/{domain}/users domain=a"),
        ("/domains/a/users/7", "/domains/{domain}/users/{id} domain=a,id=7"),
        ("/domains/a/users/batch_update", "/domains/{domain}/users/batch_update domain=a"),
        ("/domains/a/users/batch_update/restore", "/domains/{domain}/users/{id}/restore domain=a,id=batch_update"),
        ("/domains/users/users/users", "/domains/{domain}/users/{id} domain=users,id=users"),
        ("/domains/a%2Fusers", "elsewhere"),
        ("/domains", "elsewhere"),
        ("/domains/", "elsewhere"),
        ("/domains//users", "elsewhere"),
        ("/domains/a/users/", "elsewhere"),
        ("/domains/a/users/7/unknown", "elsewhere"),
        ("/livez/more", "elsewhere"),
        ("//livez", "elsewhere"),
    ],
)
async def test_a_path_leads_where_it_says(path: str, answer: str) -> None:
    for app in (Paths(ROUTES, default=_elsewhere), Paths([*ROUTES, Mount("", app=_elsewhere)])):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://chamberlain.test") as client:
            assert (await client.get(f"http://chamberlain.test{path}")).text == answer


def test_a_route_that_cannot_be_found_by_its_path_is_refused() -> None:
    async def endpoint(websocket: object) -> None: ...

    with pytest.raises(TypeError):
        Paths([WebSocketRoute("/live", endpoint)])
