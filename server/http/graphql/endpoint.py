"""``POST /graphql``: one request, its document's actions, and their answers.

Who calls and how much it weighs is settled first, then whether it is a document of the schema with variables that
fit; none of that reads a row. Then each top-level field is an action of its own, decided by the pipeline. What a
request ends in before its first action is a problem or a list of errors with status 400; from then on the answer is a
200, in which each field that failed is null and has its error. Fields that read run side by side, those that change
something one after the other.
"""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson
import structlog
from graphql import (
    ExecutionResult,
    Executor,
    FieldNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLResolveInfo,
    InlineFragmentNode,
)
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from actions.errors import (
    BadRequest,
    ChamberlainError,
    Internal,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
    UnsupportedMedia,
)
from actions.repeated_names import refuse_repeated_names
from server.http.actions import Executes, Raw, action_of
from server.http.exchange import Exchange
from server.http.graphql.documents import Document, Documents, Operation, RequestErrors
from server.http.graphql.schema import Built, Served
from server.http.middleware.authentication import check_body
from server.http.problems import problem
from server.http.rest import read_body
from server.http.signature import Reason

PATH = "/graphql"
_JSON = b"application/json"
_OWN = b"application/graphql-response+json"
_NOT_BESIDE = frozenset({"type", "title", "detail", "instance"})
_TOTALS = frozenset({"totalCount", "totalCountExact"})


@dataclass(frozen=True)
class _Asked:
    """A request as it was sent: a document, which of its operations, and its variables."""

    query: str
    operation: str | None
    variables: Mapping[str, Any]


class GraphQLEndpoint:
    """An ASGI application. It stands behind authentication, as every governed route does."""

    def __init__(self, built: Built, processor: Executes) -> None:
        self._built = built
        self._processor = processor
        self._documents = Documents(built.schema)
        self._log = structlog.get_logger("chamberlain.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.route = PATH
        if scope["method"] != "POST":
            raise MethodNotAllowed("A document is sent by POST.", extra={"allow": "GET, HEAD, POST"})
        request = Request(scope, receive)
        body = await read_body(request)
        check_body(exchange, body)
        asked = _asked(request, body)
        try:
            status, told = 200, await self._run(asked, exchange)
        except (BadRequest, RequestErrors) as error:
            status, told = 400, {"errors": _request_errors(error, exchange.request_id)}
        answer = orjson.dumps(told)
        form = _OWN if _OWN.decode() in request.headers.get("accept", "") else _JSON
        headers = [
            (b"content-type", form),
            (b"cache-control", b"no-store"),
            (b"content-length", str(len(answer)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _run(self, asked: _Asked, exchange: Exchange) -> dict[str, object]:
        try:
            document = self._documents.read(asked.query)
            operation = document.operation(asked.operation)
        except (BadRequest, RequestErrors):
            self._let_in(exchange, None)
            raise
        self._let_in(exchange, operation)
        document = self._documents.check(asked.query, document)
        operation = document.operation(asked.operation)
        executed = self._executor(document, operation, asked, exchange).execute_operation()
        result = cast(ExecutionResult, await executed if inspect.isawaitable(executed) else executed)
        told: dict[str, object] = {"data": result.data}
        if result.errors:
            told["errors"] = [self._field_error(error, operation, exchange) for error in result.errors]
        return told

    def _let_in(self, exchange: Exchange, operation: Operation | None) -> None:
        """Whoever has proved to be nobody sees nothing but what is served to anybody, the schema included."""
        if exchange.principal is not None:
            return
        named = [self._built.fields.get(name) for _, name in operation.fields] if operation else [None]
        if not named or not all(served is not None and served.spec.anonymous for served in named):
            raise Unauthenticated(Reason.MISSING_CREDENTIALS, reason=Reason.MISSING_CREDENTIALS)

    def _executor(self, document: Document, operation: Operation, asked: _Asked, exchange: Exchange) -> Executor[Any]:
        """Variables take their types here. Raises ``RequestErrors``."""
        try:
            built = Executor.build(
                self._built.schema,
                document.node,
                context_value=_Running(exchange, self._processor),
                raw_variable_values=dict(asked.variables),
                operation_name=asked.operation,
            )
            if isinstance(built, Executor):
                return built
            raise self._documents.variable_faults(operation, asked.variables)
        except RecursionError:
            raise BadRequest("The variables are nested too deep.", reason="too-deep") from None

    def _field_error(self, error: GraphQLError, operation: Operation, exchange: Exchange) -> dict[str, object]:
        if error.extensions:
            return {"message": error.message, "path": error.path, "extensions": error.extensions}
        path = error.path or []
        served = next((self._built.fields.get(name) for key, name in operation.fields if [key] == path[:1]), None)
        known: ChamberlainError
        if len(path) < 2 and isinstance(error.original_error, GraphQLError | None):
            # A variable may be null and stand where nothing may: that shows only when the field is reached.
            known = BadRequest("A variable is null where there must be a value.", reason="invalid-variables")
        else:
            # A value that its type cannot hold: ours to mend, and the message would show it, be it a secret.
            cause = error.original_error or error
            self._log.error("crash", request_id=exchange.request_id, path=path, kind=type(cause).__name__)
            known = Internal()
        message, extensions = _told(problem(known, exchange.request_id, served.spec if served else None))
        return {"message": message, "path": error.path, "extensions": extensions}


@dataclass(frozen=True)
class _Running:
    """One request while its fields are run."""

    exchange: Exchange
    processor: Executes

    async def run(self, field: Served, info: GraphQLResolveInfo[Any], arguments: Mapping[str, Any]) -> object:
        """One top-level field: its action, and what came of it in the terms of GraphQL."""
        exchange = self.exchange
        try:
            address, target = field.address(arguments), arguments.get("id")
            _check_address(address.ref, target)
            given: Raw
            try:
                given = field.given(arguments, counted=not field.searches or _counts(info))
            except BadRequest as fault:
                given = fault  # told after the decision, and only to those who may ask
            digest = _digest(exchange.replay_digest, info.path.key)
            action = action_of(field.spec, exchange, "graphql", address, target, given, digest)
            return field.answer(await self.processor.execute(action), arguments)
        except ChamberlainError as error:
            if isinstance(error, Unauthenticated) and not field.spec.anonymous:  # logging in has a throttle of its own
                exchange.refusals.append(error)
            raise _as_graphql(error, field, exchange.request_id) from error


def _digest(signature: bytes | None, key: object) -> bytes | None:
    """What must not come twice: this field of this signed request. Its fellows in the document are told from it."""
    return None if signature is None else hashlib.sha256(signature + str(key).encode()).digest()


def _check_address(*parts: str | None) -> None:
    """What may not stand in a path names nothing here either."""
    if not all(part is None or part.isprintable() for part in parts):
        raise BadRequest("The scope or the id holds a character that none has.", reason="malformed-address")


def _counts(info: GraphQLResolveInfo[Any]) -> bool:
    """Whether anybody looks at the total: counting costs a statement of its own."""
    waiting = [node.selection_set for node in info.field_nodes]
    while waiting:
        selections = waiting.pop()
        for node in selections.selections if selections else ():
            if isinstance(node, FieldNode):
                if node.name.value in _TOTALS:
                    return True
            elif isinstance(node, InlineFragmentNode):
                waiting.append(node.selection_set)
            elif isinstance(node, FragmentSpreadNode):
                waiting.append(info.fragments[node.name.value].selection_set)
    return False


def in_the_address() -> BadRequest:
    """What is said of a document that stands where histories and logs keep it."""
    return BadRequest(
        "A document is sent by POST; it, its variables and its operation stand in the body.", reason="query-in-address"
    )


def _asked(request: Request, body: bytes) -> _Asked:
    """The request in the JSON of GraphQL over HTTP. Raises ``UnsupportedMedia``, ``BadRequest``."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # no form and no plain text: those a foreign page could send unasked
        raise UnsupportedMedia("A document is sent as JSON, of the type application/json.")
    if request.scope["query_string"]:
        raise in_the_address()
    try:
        told = orjson.loads(body)
    except ValueError:
        raise BadRequest("The body is not JSON.", reason="malformed-json") from None
    refuse_repeated_names(body)
    if isinstance(told, list):
        raise BadRequest("Documents are sent one at a time.", reason="batched")
    if not isinstance(told, dict) or not isinstance(told.get("query"), str):
        raise BadRequest("The body is an object with the document in `query`.", reason="malformed-request")
    operation, variables = told.get("operationName"), told.get("variables")
    if not isinstance(operation, str | None):
        raise BadRequest("`operationName` is a name.", reason="malformed-request")
    if not isinstance(variables, dict | None):
        raise BadRequest("`variables` is an object.", reason="malformed-request")
    return _Asked(told["query"], operation or None, variables or {})


def _as_graphql(error: ChamberlainError, served: Served, request_id: str) -> GraphQLError:
    told = problem(error, request_id, served.spec)
    if "errors" in told and error.face != NotFound.status:
        told["errors"] = [{"pointer": served.pointer(f.pointer), "message": f.message} for f in error.errors]
    message, extensions = _told(told)
    if error.retry_after is not None:
        extensions["retry_after"] = error.retry_after
    return GraphQLError(message, extensions=extensions)


def _request_errors(error: BadRequest | RequestErrors, request_id: str) -> list[dict[str, object]]:
    kind = error.kind if isinstance(error, RequestErrors) else error
    message, extensions = _told(problem(kind, request_id, None))
    places = error.places if isinstance(error, RequestErrors) else ()
    if not places:
        return [{"message": message, "extensions": extensions}]
    return [
        {
            "message": place.message,
            "locations": [{"line": at.line, "column": at.column} for at in place.locations or ()],
            "extensions": extensions,
        }
        for place in places
    ]


def _told(body: Mapping[str, object]) -> tuple[str, dict[str, Any]]:
    """A problem as an error of GraphQL: its sentence, and the rest beside it."""
    told = {"code": body["code"], **{name: value for name, value in body.items() if name not in _NOT_BESIDE}}
    return str(body["detail"] or body["title"]), told
