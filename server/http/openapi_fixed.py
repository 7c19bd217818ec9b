"""What the OpenAPI document says besides the actions: problems, credentials, headers, and the routes of no action.

Data only. A test holds the routes to those that are served.
"""

from collections.abc import Mapping
from typing import Any

from actions.errors import (
    BadRequest,
    ChamberlainError,
    Conflict,
    Denied,
    HeadersTooLarge,
    Internal,
    Invalid,
    MethodNotAllowed,
    NotFound,
    TargetTooLong,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)

Schema = dict[str, Any]

ABOUT = """\
Every operation is an *action*: it is decided by the policy, and recorded in the audit log. `x-chamberlain-permission`
is the cell of the policy that an operation asks for.

Every answer that is not a success is a problem (RFC 9457). Branch on its `code`; quote its `request_id` when you ask
for help. What is missing and what you may not see look the same: 404.

The same actions are served over GraphQL, by `POST /graphql`.

A request is signed with a key pair: `Authorization: BackendAI signMethod=HMAC-SHA256, credential=<access
key>:<signature>`. The signature is the hexadecimal HMAC-SHA256 of seven lines joined by line feeds: the method; the
path with its query; the header `Date` (ISO 8601, at most 15 minutes off); `host:` and the header `Host`;
`content-type:` and the media type, `application/octet-stream` where there is none; `x-backendai-version:` and the
header `X-BackendAI-Version`; and `x-backendai-content-sha256:` with the SHA-256 of the body, as in the header
`X-BackendAI-Content-SHA256`. Its key is HMAC-SHA256(HMAC-SHA256(secret key, yyyymmdd), host), the first argument
being the key. Or a request carries a token.
"""

SECURITY: Mapping[str, Schema] = {
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "The signature of the request, made with a key pair. It stands beside the headers `Date`, "
        "`X-BackendAI-Version` and `X-BackendAI-Content-SHA256`.",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token that a log-in gave."},
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "X-BackendAI-Token",
        "description": "A token, as clients of the original system send it.",
    },
}

PROBLEM: Schema = {
    "type": "object",
    "description": "Why it was not done (RFC 9457).",
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "The kind of problem."},
        "title": {"type": "string", "description": "The kind of problem, in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong this time."},
        "instance": {"type": "string", "format": "uri"},
        "request_id": {"type": "string", "description": "Leads to this request in the log and in the audit log."},
        "code": {
            "type": "string",
            "pattern": "^[a-z0-9]+(-[a-z0-9]+)+$",
            "description": "What to branch on: entity, operation, reason.",
        },
        "errors": {
            "type": "array",
            "description": "The places of the input that are wrong.",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "description": "A JSON pointer into the input."},
                    "message": {"type": "string"},
                },
                "required": ["pointer", "message"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance", "request_id", "code"],
}


def _header(says: str, schema: Schema) -> Schema:
    return {"description": says, "required": True, "schema": schema}


HEADERS: Mapping[str, Schema] = {
    "RequestId": _header(
        "The id of the request: the caller's own `X-Request-ID`, if it was well-formed.",
        {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
    ),
    "Location": _header("Where what was created is.", {"type": "string", "format": "uri-reference"}),
    "Challenge": _header("How to authenticate.", {"type": "string"}),
    "Allow": _header("The methods that this path is served with.", {"type": "string"}),
    "RetryAfter": _header("Seconds to wait before the next try.", {"type": "integer", "minimum": 1}),
    "Tag": _header("Changes when the document does.", {"type": "string"}),
}

_KINDS: tuple[tuple[type[ChamberlainError], str, str | None], ...] = (
    (BadRequest, "The request cannot be read.", None),
    (Unauthenticated, "There are no valid credentials.", "WWW-Authenticate"),
    (Denied, "The policy does not allow it.", None),
    (NotFound, "There is nothing here, or nothing that the caller may see.", None),
    (MethodNotAllowed, "The path is served, and not with this method.", "Allow"),
    (Conflict, "The present state forbids it.", None),
    (TooLarge, "The body is too large.", None),
    (TargetTooLong, "The path and query are too long.", None),
    (UnsupportedMedia, "The body is no JSON.", None),
    (Invalid, "It can be read, and a value in it is wrong.", None),
    (TooManyRequests, "Too many requests.", "Retry-After"),
    (HeadersTooLarge, "The headers are too large.", None),
    (Internal, "Something of the server's own broke.", None),
    (Unavailable, "Not at the moment; what was asked was not done, or nobody knows yet.", "Retry-After"),
)
_HEADER_OF = {"WWW-Authenticate": "Challenge", "Allow": "Allow", "Retry-After": "RetryAfter"}


def problem_responses() -> dict[str, Schema]:
    """A component for each status that can end a request."""
    found = {}
    for kind, says, header in _KINDS:
        headers = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
        if header:
            headers[header] = {"$ref": f"#/components/headers/{_HEADER_OF[header]}"}
        content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        found[str(kind.status)] = {"description": says, "headers": headers, "content": content}
    return found


def _plain(
    id: str, summary: str, answers: Mapping[int, tuple[str, str, Schema]], parameters: tuple[Schema, ...] = ()
) -> Schema:
    """An operation of no action: its answers by status, each what it says, its media type and its schema."""
    responses: Schema = {
        str(status): {
            "description": says,
            "headers": {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}},
            "content": {kind: {"schema": schema}},
        }
        for status, (says, kind, schema) in answers.items()
    }
    failing = {str(status): {"$ref": f"#/components/responses/{status}"} for status in (400, 405, 413, 414, 431, 500)}
    return {
        "operationId": id,
        "tags": ["server"],
        "summary": summary,
        "security": [],
        **({"parameters": list(parameters)} if parameters else {}),
        "responses": {**responses, **failing},
    }


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


_JSON, _TEXT = "application/json", {"type": "string"}
_CHECKS = {"type": "object", "additionalProperties": _object(ok={"type": "boolean"}, detail=_TEXT)}
_READINESS = {
    "type": "object",
    "properties": {"status": {"type": "string", "enum": ["ready", "unready"]}, "checks": _CHECKS},
    "required": ["status"],
}
_GRAPHQL_ERRORS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"message": _TEXT, "extensions": _object(code=_TEXT, status={"type": "integer"})},
        "required": ["message", "extensions"],
    },
}


def _graphql() -> Schema:
    """The one route of all actions at once. What it takes and answers besides is said by the GraphQL schema."""
    said = _plain(
        "graphql",
        "Carry out a GraphQL document: each of its top-level fields is an action.",
        {
            200: (
                "What came of each field.",
                _JSON,
                {
                    "type": "object",
                    "properties": {"data": {"type": ["object", "null"]}, "errors": _GRAPHQL_ERRORS},
                    "required": ["data"],
                },
            )
        },
    )
    told = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    unread = {
        "description": "The request or its document cannot be read, or goes beyond the limits.",
        "headers": {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}},
        "content": {_JSON: {"schema": _object(errors=_GRAPHQL_ERRORS)}, **told},
    }
    more = {str(status): {"$ref": f"#/components/responses/{status}"} for status in (401, 415, 429, 503)}
    document = {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "The document."},
            "operationName": {"type": ["string", "null"]},
            "variables": {"type": ["object", "null"]},
        },
        "required": ["query"],
    }
    return {
        **said,
        "description": "A document of nothing but actions that anyone may ask for needs no credentials.",
        "security": [{name: []} for name in SECURITY],
        "requestBody": {"required": True, "content": {_JSON: {"schema": document}}},
        "responses": {**said["responses"], "400": unread, **more},
    }


_VERBOSE = {
    "name": "verbose",
    "in": "query",
    "required": False,
    "allowEmptyValue": True,
    "description": "Given with any value, each check is named.",
    "schema": {"type": "string"},
}


def _tree(id: str, summary: str, answer: tuple[str, str, Schema], parameters: tuple[Schema, ...] = ()) -> Schema:
    """A route of the audit log's tree: there may be nothing yet, or too many who ask."""
    said = _plain(id, summary, {200: answer}, parameters)
    more = {str(status): {"$ref": f"#/components/responses/{status}"} for status in (404, 503)}
    return {**said, "responses": {**said["responses"], **more}}


def _tile(*names: str) -> Schema:
    parameters = tuple(
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": pattern},
            "description": says,
        }
        for name, pattern, says in (
            (
                "level",
                "^[0-9]{1,2}$",
                "0 for the hashes of leaves; each level above is that of full tiles of the one below.",
            ),
            *(
                (
                    name,
                    r"^(x?[0-9]{3}(\.p)?|[0-9]{1,3})$",
                    "The next part of `<N>[.p/<W>]`: `x001/x234/067`, `067.p/112`.",
                )
                for name in names
            ),
        )
    )
    hashes = ("Its hashes, of 32 bytes each.", "application/octet-stream", {"type": "string", "format": "binary"})
    return _tree(f"server_tile_{len(names)}", "A tile of the audit log's tree (C2SP tlog-tiles).", hashes, parameters)


FIXED: Mapping[str, Schema] = {
    "GET /": _plain(
        "server_handshake",
        "Tell the version of the interface and of the server.",
        {200: ("The versions.", _JSON, _object(version=_TEXT, manager=_TEXT))},
    ),
    "GET /livez": _plain(
        "server_liveness",
        "Tell that the process answers.",
        {200: ("It does.", _JSON, _object(status={"const": "alive", "type": "string"}))},
    ),
    "GET /readyz": _plain(
        "server_readiness",
        "Tell whether requests are served and recorded.",
        {200: ("They are.", _JSON, _READINESS), 503: ("They are not.", _JSON, _READINESS)},
        (_VERBOSE,),
    ),
    "GET /openapi.json": _plain("server_openapi", "This document.", {200: ("OpenAPI 3.1.", _JSON, {"type": "object"})}),
    "GET /docs": _plain("server_docs", "A page to read this document by.", {200: ("HTML.", "text/html", _TEXT)}),
    "GET /graphql": _plain("server_explorer", "A page to try GraphQL on.", {200: ("HTML.", "text/html", _TEXT)}),
    "POST /graphql": _graphql(),
    "GET /.well-known/jwks.json": _plain(
        "server_keys",
        "Tell the public keys that verify bearer tokens.",
        {
            200: (
                "A JSON Web Key Set (RFC 7517).",
                "application/jwk-set+json",
                _object(keys={"type": "array", "items": _object(kty=_TEXT, crv=_TEXT, x=_TEXT, kid=_TEXT, alg=_TEXT)}),
            )
        },
    ),
    "GET /checkpoint": _tree(
        "server_checkpoint",
        "The newest checkpoint of the audit log, with all who vouch for it.",
        ("A signed note (C2SP tlog-checkpoint).", "text/plain", _TEXT),
    ),
    **{f"GET /tile/{{level}}/{{{'}/{'.join(names)}}}": _tile(*names) for names in ("a", "ab", "abc", "abcd")},
    "GET /.well-known/authzen-configuration": _plain(
        "server_authzen",
        "Tell where the AuthZEN endpoints are.",
        {
            200: (
                "The metadata of a policy decision point (AuthZEN Authorization API 1.0).",
                _JSON,
                _object(
                    policy_decision_point=_TEXT,
                    access_evaluation_endpoint=_TEXT,
                    access_evaluations_endpoint=_TEXT,
                    search_subject_endpoint=_TEXT,
                    search_resource_endpoint=_TEXT,
                    search_action_endpoint=_TEXT,
                ),
            )
        },
    ),
}
"""The routes of no action, as in ``tests/golden/ungoverned.txt``; and that of many."""
