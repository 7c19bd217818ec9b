"""REST: a route per path of the catalogue, each request made into an action.

This module knows no entity. The scope and the target are the matched route's parameters; the input stays unread
bytes until the pipeline has decided.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from actions.action import Address, AnyAction
from actions.errors import BadRequest, ChamberlainError, Fault, Invalid, MethodNotAllowed, NotFound, UnsupportedMedia
from actions.model import Sparse
from actions.standard import Spec
from actions.streams import AFTER
from actions.vocabulary import CREATE, PURGE, ScopeType
from server.http.actions import Executes, Raw, action_of
from server.http.events import EventStreams
from server.http.exchange import Exchange
from server.http.middleware.authentication import check_body
from server.http.parameters import document

ME = "me"
BODY_SECONDS = 30.0
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
Parameters = Sequence[tuple[str, str]]


def routes(specs: Iterable[Spec], processor: Executes, streams: EventStreams) -> list[Route]:
    """One Starlette route per path; a path's methods are told apart by its ``Resource``."""
    resources: dict[str, Resource] = {}
    for spec in specs:
        if spec.internal:
            continue
        resources.setdefault(spec.path, Resource(spec.path, processor, streams)).serve(spec.method, spec)
        for alias in spec.aliases:
            resources.setdefault(alias.path, Resource(alias.path, processor, streams)).serve(alias.method, spec)
    return [Route(path, endpoint=resource) for path, resource in resources.items()]


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """What is served at every other path."""
    raise NotFound


class Resource:
    """What is served at one path. An ASGI application."""

    def __init__(self, path: str, processor: Executes, streams: EventStreams) -> None:
        self._path = path
        self._processor = processor
        self._streams = streams
        self._specs: dict[str, Spec] = {}

    def serve(self, method: str, spec: Spec) -> None:
        self._specs["PURGE" if spec.operation == PURGE else method] = spec

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.route = self._path
        request = Request(scope, receive)
        parameters = request.query_params.multi_items() if scope["query_string"] else []
        exchange.spec = spec = self._spec(scope["method"], parameters)
        body = await read_body(request)
        check_body(exchange, body)
        given: Raw
        try:
            given = _given(spec, request, parameters, body)
        except ChamberlainError as fault:
            given = fault  # told after the decision, and only to those who may ask
        action = self._action(spec, exchange, request.path_params, given)
        if spec.stream is not None:
            await self._streams.serve(action, scope, receive, send)
            return
        result = await self._processor.execute(action)
        created = spec.operation == CREATE
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        if created and (key := getattr(result, "id", None)):
            headers.append((b"location", f"{scope['path'].rstrip('/')}/{key}".encode()))
        answer = result.__pydantic_serializer__.to_json(result, exclude_none=isinstance(result, Sparse))
        headers.append((b"content-length", str(len(answer)).encode()))
        await send({"type": "http.response.start", "status": 201 if created else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer})

    def _spec(self, method: str, parameters: Parameters) -> Spec:
        """The spec of a method; a ``DELETE`` that speaks of ``purge`` at all is never a soft deletion."""
        if method == "HEAD" and "HEAD" in self._methods():
            method = "GET"
        if method == "DELETE" and "PURGE" in self._specs and any(name == "purge" for name, _ in parameters):
            method = "PURGE"
        spec = self._specs.get(method)
        if spec is None:
            allowed = ", ".join(self._methods())
            raise MethodNotAllowed("This path is not served with that method.", extra={"allow": allowed})
        return spec

    def _methods(self) -> list[str]:
        served = {"DELETE" if name == "PURGE" else name for name in self._specs}
        get = self._specs.get("GET")  # of a stream there is no head: it would have to be opened for it
        return sorted(served | ({"HEAD"} if get is not None and get.stream is None else set()))

    def _action(
        self,
        spec: Spec,
        exchange: Exchange,
        path: Mapping[str, str],
        given: Raw,
    ) -> AnyAction:
        own = spec.scope_type is ScopeType.USER and self._path != spec.path
        address = Address(spec.scope_type, ME if own else path.get(spec.scope_type, ""))
        return action_of(spec, exchange, "rest", address, path.get("id"), given, exchange.replay_digest)


async def read_body(request: Request) -> bytes:
    """The whole body. One that trickles is not waited for: the connection would be held for as long as it likes."""
    if not any(name in _BODY_HEADERS for name, _ in request.scope["headers"]):
        return b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.body()
    except TimeoutError:
        raise BadRequest("The body did not arrive in time.", reason="body-too-slow") from None


def _given(spec: Spec, request: Request, listed: Parameters, body: bytes) -> bytes | Mapping[str, object]:
    """The input as it came. What reads takes its parameters from the query, or from a JSON body if there is no query;
    what writes takes a JSON body alone, and ``?purge=1`` where it purges."""
    parameters = dict(listed)
    if len(parameters) != len(listed):
        raise BadRequest("A parameter is given twice.", reason="repeated-parameter")
    if spec.stream is not None and (mark := request.headers.get("last-event-id")):
        parameters[AFTER] = mark  # of one that comes back, to the address that it asked first
    if body:
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise UnsupportedMedia("A body is JSON, of the type application/json.")
    if spec.operation == PURGE and parameters.pop("purge", None) != "1":
        raise BadRequest("The parameter `purge` takes only the value 1.", reason="malformed-purge")
    if not spec.operation.reads or spec.operation.in_body:
        if parameters:
            faults = [Fault(f"/{name[:64]}", "is no parameter of this operation") for name in parameters]
            raise Invalid("The operation takes no such parameters.", errors=faults)
        return body
    if parameters and body:
        raise BadRequest("Parameters stand in the query or in the body, not in both.", reason="two-inputs")
    return body if body or not parameters else document(spec.input, parameters)
