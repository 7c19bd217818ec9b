"""One kept-alive connection to a server, and which of its workers is at the other end.

The server tells nobody which worker answers, so the kernel is asked: the accepted socket is the one whose far end is
ours, and it is open in exactly one worker.
"""

import os
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson

from server.cli.signing_client import SignatureAuth


@dataclass(frozen=True)
class Key:
    """An access key and its secret."""

    access_key: str
    secret_key: str = field(repr=False)

    def signing(self) -> SignatureAuth:
        return SignatureAuth(self.access_key, self.secret_key, sign_body=True, now=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Bearer:
    """An access token."""

    token: str = field(repr=False)

    def signing(self) -> httpx.Auth:
        return _Carrying(self.token)


class _Carrying(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class Dropped(httpx.TransportError):
    """The connection was closed between two requests, and another was made in its place. A worker that dies does so."""


class Line:
    def __init__(self, endpoint: str) -> None:
        one = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)
        self._client = httpx.Client(base_url=endpoint, limits=one, timeout=30, verify=False, trust_env=False)  # noqa: S501
        self._port = 0
        try:
            self.send(None, "GET", "/livez")
        except BaseException:
            self.close()
            raise

    def send(
        self, who: Key | Bearer | None, method: str, path: str, body: object = None, **params: object
    ) -> httpx.Response:
        """One request, over the same connection as the one before. ``who`` signs it; filters may be dictionaries."""
        filled: dict[str, Any] = {
            name: orjson.dumps(value).decode() if isinstance(value, dict) else value for name, value in params.items()
        }
        sign = who.signing() if who else None
        with self._client.stream(method, path, json=body, params=filled or None, auth=sign) as response:
            # Asked before the answer is read: a connection at rest, whose worker has died, has no address any more.
            port = response.extensions["network_stream"].get_extra_info("client_addr")[1]
            response.read()
        if self._port not in (0, port):
            raise Dropped("the server closed a connection that was to be kept")
        self._port = port
        return response

    def ask(
        self, who: Key | Bearer, method: str, path: str, body: object = None, *, expect: int = 200, **params: object
    ) -> Any:
        response = self.send(who, method, path, body, **params)
        assert response.status_code == expect, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()

    def reaches(self, pid: int) -> bool:
        """Whether the process ``pid`` holds the other end."""
        return f"socket:[{self._inode()}]" in _open_in(pid)

    def _inode(self) -> str:
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[2].rpartition(":")[2] == f"{self._port:04X}":
                return fields[9]
        raise AssertionError("the connection is gone")

    def close(self) -> None:
        self._client.close()


def _open_in(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.add(os.readlink(descriptor))
    return found
