"""A signed HTTP client for the command line and for tests, and where its credentials come from.

It signs what is sent, not what was meant: the signature is made from the finished request, so target, host and
content type are those of the wire. Knows nothing of what the server offers.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode, urlsplit

import httpx

from server.http.signature import (
    BODY_DIGEST_HEADER,
    CURRENT_VERSION,
    VERSION_HEADER,
    SignedRequest,
    authorization,
    sign,
)

Scalar = str | int | float | bool | None
Params = Mapping[str, Scalar | Sequence[Scalar]]

_MAX_FILE: Final = 65_536


class CredentialsError(Exception):
    """Credentials that are missing, unreadable or unsafe. The message says what to do and holds no secret."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the server is and how to sign there. ``username`` and ``password`` are what a log-in takes."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("access_key", "secret_key"):
            if not getattr(self, name):
                raise CredentialsError(f"{name} is empty")
        _check_endpoint(self.endpoint)

    @classmethod
    def from_file(cls, path: Path) -> Credentials:
        """Reads a JSON object from a file that nobody but its owner can read or change."""
        try:
            with path.open("rb") as file:
                if (mode := stat.S_IMODE(os.fstat(file.fileno()).st_mode)) & 0o077:
                    raise CredentialsError(f"{path} has mode {mode:04o}, open to others; run: chmod 600 {path}")
                content = json.loads(file.read(_MAX_FILE))
        except OSError as error:
            raise CredentialsError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError:  # the parser's own error carries the file's text, so it does not travel along
            raise CredentialsError(f"{path} is not JSON") from None
        if not isinstance(content, dict):
            raise CredentialsError(f"{path} holds no JSON object")
        known = ("endpoint", "access_key", "secret_key", "username", "password")
        values = {name: content[name] for name in known if content.get(name) is not None}
        return cls._made_of(values, f"{path} lacks")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Credentials:
        """Reads ``CHAMBERLAIN_ENDPOINT``, ``CHAMBERLAIN_ACCESS_KEY`` and ``CHAMBERLAIN_SECRET_KEY``."""
        variables = os.environ if environ is None else environ
        values = {name: variables.get(f"CHAMBERLAIN_{name.upper()}", "") for name in _REQUIRED}
        return cls._made_of({k: v for k, v in values.items() if v}, "the environment lacks", "CHAMBERLAIN_")

    @classmethod
    def _made_of(cls, values: Mapping[str, Any], lacks: str, prefix: str = "") -> Credentials:
        shown = {name: prefix + (name.upper() if prefix else name) for name in _REQUIRED}
        if missing := [shown[name] for name in _REQUIRED if name not in values]:
            raise CredentialsError(f"{lacks} {', '.join(missing)}")
        if wrong := [name for name, value in values.items() if not isinstance(value, str)]:
            raise CredentialsError(f"{', '.join(wrong)} must be text")
        return cls(**values)


_REQUIRED: Final = ("endpoint", "access_key", "secret_key")


class SignatureAuth(httpx.Auth):
    """Signs each request httpx is about to send, with or without its body.

    A body can be signed if httpx holds it whole; a stream is read into memory for that.
    """

    def __init__(self, access_key: str, secret_key: str, *, sign_body: bool, now: Callable[[], datetime]) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._now = now
        self.requires_request_body = sign_body

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        date = self._now()
        request.headers["Date"] = date.isoformat(timespec="microseconds")
        request.headers[VERSION_HEADER] = CURRENT_VERSION
        if self.requires_request_body:
            request.headers[BODY_DIGEST_HEADER] = hashlib.sha256(request.content).hexdigest()
        said = SignedRequest.of(request.method, request.url.raw_path, request.headers.raw)
        signature = sign(said, self._secret_key, date)
        request.headers["Authorization"] = authorization(self._access_key, signature)
        yield request


class SignedClient:
    """A synchronous client that signs. It follows no redirect: a signature is for one host and one target.

    ``transport`` and ``now`` are for tests. Use as a context manager, or call ``close``.
    """

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._endpoint = _check_endpoint(endpoint)
        self._access_key = access_key
        self._secret_key = secret_key
        self._now = now
        # A proxy that the environment names is for other machines than this one.
        here: dict[str, None] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
        self._client = httpx.Client(timeout=timeout, transport=transport, mounts=here, follow_redirects=False)

    @classmethod
    def of(cls, credentials: Credentials, **options: Any) -> Self:
        return cls(credentials.endpoint, credentials.access_key, credentials.secret_key, **options)

    def __repr__(self) -> str:
        return f"SignedClient({self._endpoint!r}, {self._access_key!r})"

    def request(
        self, method: str, path: str, params: Params | None = None, json: Any = None, sign_body: bool = True
    ) -> httpx.Response:
        """Sends one request. ``path`` starts with ``/`` and has no query; ``params`` makes it.

        Of ``params``, a list repeats its name, a bool is ``true`` or ``false``, and ``None`` is left out.
        ``json`` is the body, or ``None`` for no body.
        """
        auth = SignatureAuth(self._access_key, self._secret_key, sign_body=sign_body, now=self._now)
        return self._client.request(method.upper(), self._endpoint + _target(path, params or {}), json=json, auth=auth)

    @contextmanager
    def stream(self, path: str, params: Params, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Sends a GET request and hands out its answer before the body has come: ``iter_bytes`` gives it piece by
        piece. No piece may be longer in coming than ``timeout`` seconds."""
        auth = SignatureAuth(self._access_key, self._secret_key, sign_body=False, now=self._now)
        with self._client.stream("GET", self._endpoint + _target(path, params), headers=headers, auth=auth) as answer:
            yield answer

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_endpoint(endpoint: str) -> str:
    """``http://host:port`` or https, perhaps with a path before every other; without a slash at its end."""
    advice = "the endpoint must look like https://host:port, without user, query or fragment"
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        raise CredentialsError(advice) from None
    if not usable or "@" in parts.netloc or parts.query or parts.fragment:
        raise CredentialsError(advice)
    return endpoint.rstrip("/")


def _target(path: str, params: Params) -> str:
    if not path.startswith("/") or "?" in path or "#" in path:
        raise ValueError(f"a path starts with / and has neither ? nor #: {path!r}")
    pairs = [(name, _shown(value)) for name, given in params.items() for value in _listed(given) if value is not None]
    query = urlencode(pairs, quote_via=quote, safe="")
    return path + (f"?{query}" if query else "")


def _listed(given: Scalar | Sequence[Scalar]) -> Sequence[Scalar]:
    return (given,) if given is None or isinstance(given, (str, int, float)) else given


def _shown(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
