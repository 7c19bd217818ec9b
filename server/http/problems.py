"""RFC 9457 problem details: the one place where an error becomes an answer.

A 404 says the same for everything on its route, whether the thing is missing, hidden or refused (law 6).
"""

import orjson
from starlette.types import Receive, Scope, Send

from actions.errors import ChamberlainError, NotFound, Unauthenticated, seen
from actions.standard import Spec

CHALLENGES = (b"Bearer", b"BackendAI signMethod=HMAC-SHA256")
"""How a caller may prove who it is, in the order in which we would have it."""


def problem(error: ChamberlainError, request_id: str, spec: Spec | None) -> dict[str, object]:
    """The body. ``code`` is ``<entity>-<operation>-<reason>``; outside any action, ``request-handle-<reason>``."""
    face = seen(error)
    prefix = spec.code_prefix if spec else "request-handle"
    more = error.extra if face.status != NotFound.status else {}
    if isinstance(error, Unauthenticated):
        prefix = "authentication-verify"
    body: dict[str, object] = {
        "type": f"urn:chamberlain:problem:{face.reason}",
        "title": face.title,
        "status": face.status,
        "detail": face.detail,
        **more,
        "instance": f"urn:chamberlain:request:{request_id}",
        "request_id": request_id,
        "code": f"{prefix}-{face.reason}",
    }
    if face.errors:
        body["errors"] = [{"pointer": fault.pointer, "message": fault.message} for fault in face.errors]
    return body


class ProblemResponse:
    """An ASGI answer that is a problem."""

    def __init__(self, error: ChamberlainError, request_id: str, spec: Spec | None) -> None:
        self.status = error.face
        self._body = orjson.dumps(problem(error, request_id, spec))
        self._headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(self._body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if error.retry_after is not None:
            self._headers.append((b"retry-after", str(error.retry_after).encode()))
        if self.status == Unauthenticated.status:
            self._headers += [(b"www-authenticate", challenge) for challenge in CHALLENGES]
        for name, value in error.extra.items():
            if name == "allow":
                self._headers.append((b"allow", str(value).encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self._headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self._body})
