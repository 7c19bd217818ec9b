"""Pages for a browser: one HTML file each, in which script and style stand, so that nothing else is ever loaded.

The content security policy names the script and the style by their digests, taken from the very bytes that are served:
what somebody might smuggle into a page does not run, and no page reaches another machine. Knows nothing of what a page
says.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files

from starlette.types import Receive, Scope, Send

from server.http.exchange import Exchange

_ELEMENT = rb"<%b>(.*?)</%b>"


class Page:
    """One page, served as it was read. An ASGI application for ``GET`` and ``HEAD``."""

    def __init__(self, html: bytes) -> None:
        self._html = html
        policy = (
            "default-src 'none'",
            f"script-src {_digests(html, b'script')}",
            f"style-src {_digests(html, b'style')}",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        )
        self._headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", str(len(html)).encode()),
            (b"content-security-policy", "; ".join(policy).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cache-control", b"no-cache"),
        ]

    @classmethod
    def read(cls, name: str) -> "Page":
        """The page of that name among the package's own, for example ``docs.html``."""
        return cls((files("server.http") / "pages" / name).read_bytes())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).route = scope["path"]
        await send({"type": "http.response.start", "status": 200, "headers": list(self._headers)})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self._html})


def _digests(html: bytes, element: bytes) -> str:
    """The sources that a policy allows: the digest of each element's content, or ``'none'``."""
    return " ".join(_digest(found) for found in contents(html, element)) or "'none'"


def _digest(content: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


def contents(html: bytes, element: bytes) -> Iterator[bytes]:
    """What stands in each element of a kind. One with attributes is none of ours, and will not run."""
    return (found[1] for found in re.finditer(_ELEMENT % (element, element), html, re.DOTALL))
