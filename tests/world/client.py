"""A persona's client: signs every request or carries a token, and speaks to the ASGI application in this process."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.cli.signing_client import SignatureAuth


class Signs(Protocol):
    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...


class Caller:
    """``get``, ``post``, ``patch``, ``delete`` assert the status (200 unless ``expect`` says) and return the JSON;
    ``send`` asserts nothing and returns the response."""

    def __init__(
        self,
        app: ASGIApp,
        who: Signs | None,
        *,
        address: str = "127.0.0.1",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sign_body: bool = True,
        token: str | None = None,
    ) -> None:
        self.asgi = app
        self.address = (address, 40000)
        transport = httpx.ASGITransport(app=_left_when_open(app), client=self.address)
        bearer = {"authorization": f"Bearer {token}"} if token else None
        self._client = httpx.AsyncClient(transport=transport, base_url="http://chamberlain.test", headers=bearer)
        self._auth = SignatureAuth(who.access_key, who.secret_key, sign_body=sign_body, now=now) if who else None

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        kwargs: dict[str, Any] = {"auth": self._auth} if self._auth else {}
        if isinstance(body, bytes):
            kwargs["content"] = body
        elif body is not None:
            kwargs["json"] = body
        return await self._client.request(method, path, params=_filled(params), headers=headers, **kwargs)

    def built(self, method: str, path: str, params: Mapping[str, Any], headers: Mapping[str, str]) -> httpx.Request:
        """A request as it would be sent, without a body."""
        request = self._client.build_request(method, path, params=_filled(params), headers=headers)
        return next(self._auth.auth_flow(request)) if self._auth else request

    async def ask(self, method: str, path: str, body: object = None, *, expect: int = 200, **params: Any) -> Any:
        response = await self.send(method, path, body, params)
        assert response.status_code == expect, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()

    async def get(self, path: str, *, expect: int = 200, **params: Any) -> Any:
        return await self.ask("GET", path, expect=expect, **params)

    async def post(self, path: str, body: object = None, *, expect: int = 200) -> Any:
        return await self.ask("POST", path, body, expect=expect)

    async def patch(self, path: str, body: object, *, expect: int = 200) -> Any:
        return await self.ask("PATCH", path, body, expect=expect)

    async def delete(self, path: str, *, expect: int = 200, **params: Any) -> Any:
        return await self.ask("DELETE", path, expect=expect, **params)


def _filled(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    filled = {
        name: orjson.dumps(value).decode() if isinstance(value, dict) else value
        for name, value in (params or {}).items()
    }
    return filled or None


def _left_when_open(app: ASGIApp) -> ASGIApp:
    """A ``Caller`` wants whole answers. Of a stream it wants to know that it opened, and hangs up then."""

    async def leaving(scope: Scope, receive: Receive, send: Send) -> None:
        streams = asyncio.Event()

        async def receiving() -> Message:
            hearing = asyncio.ensure_future(receive())
            opening = asyncio.ensure_future(streams.wait())
            await asyncio.wait({hearing, opening}, return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done():
                hearing.cancel()
                return {"type": "http.disconnect"}
            opening.cancel()
            return hearing.result()

        async def sending(message: Message) -> None:
            if (b"content-type", b"text/event-stream") in message.get("headers", ()):
                streams.set()
            await send(message)

        await app(scope, receiving, sending)

    return leaving
