"""A client of the original system, written from the wire format alone: it shares no code with the server."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.world.counted import registry
from tests.world.stage import Persona
from tests.world.world import World

HOST = "chamberlain.test"


class OriginalClient:
    """A client of the original system: ISO dates with an offset, no signed body, a version of its own."""

    def __init__(self, world: World, who: Persona, *, address: str = "127.0.0.1", version: str = "v8.20240915") -> None:
        transport = httpx.ASGITransport(app=world.asgi, client=(address, 40000))
        self._client = httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}")
        self._who, self._version = who, version

    def signed(
        self, method: str, target: str, content_type: str | None, date: datetime | None = None
    ) -> dict[str, str]:
        date = date or datetime.now(UTC)
        written = date.isoformat()
        lines = (
            method.upper(),
            target,
            written,
            f"host:{HOST}",
            f"content-type:{(content_type or 'application/octet-stream').split(';')[0].lower()}",
            f"x-backendai-version:{self._version}",
            hashlib.sha256(b"").hexdigest(),
        )
        key = _mac(_mac(self._who.secret_key.encode(), date.strftime("%Y%m%d")), HOST)
        signature = _mac(key, "\n".join(lines)).hex()
        return {
            "Date": written,
            "X-BackendAI-Version": self._version,
            "Authorization": f"BackendAI signMethod=HMAC-SHA256, credential={self._who.access_key}:{signature}",
            **({"Content-Type": content_type} if content_type else {}),
        }

    async def send(
        self,
        method: str,
        target: str,
        *,
        content_type: str | None = None,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        date: datetime | None = None,
    ) -> httpx.Response:
        """``headers`` replace those that would be made: an empty value leaves one out."""
        made = {**self.signed(method, target, content_type, date), **(headers or {})}
        sent = {name: value for name, value in made.items() if value}
        return await self._client.request(method, target, headers=sent, content=content)


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def client(world: World, name: str = "mia", **options: Any) -> OriginalClient:
    return OriginalClient(world, world.personas[name], **options)


def failures(world: World, reason: str) -> float | None:
    """How many failed authentications the metrics count."""
    return registry(world.app.metrics).get_sample_value("chamberlain_auth_failures_total", {"reason": reason})


def code(response: httpx.Response) -> str:
    return str(response.json()["code"])
