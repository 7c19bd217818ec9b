"""``GET /.well-known/jwks.json``: the public keys that verify bearer tokens (RFC 7517), for other services to read."""

from base64 import urlsafe_b64decode
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.http.exchange import Exchange
from server.tokens import jwk

PATH = "/.well-known/jwks.json"
MAX_AGE = 60
"""Seconds for which a reader may keep the set: so long it may go on trusting a key that was retired."""


class Key(Protocol):
    @property
    def key_id(self) -> UUID: ...
    @property
    def public_key(self) -> str: ...
    @property
    def not_after(self) -> datetime | None: ...


class Keys(Protocol):
    async def signing_keys(self) -> Sequence[Key]: ...


def route(keys: Keys) -> Route:
    async def key_set(request: Request) -> Response:
        exchange = Exchange.of(request.scope)
        exchange.route = PATH
        shown = [
            jwk(key.key_id, urlsafe_b64decode(key.public_key + "="))
            for key in await keys.signing_keys()
            if key.not_after is None or key.not_after > exchange.received_at
        ]
        headers = {"cache-control": f"public, max-age={MAX_AGE}"}
        return Response(orjson.dumps({"keys": shown}), 200, headers, "application/jwk-set+json")

    return Route(PATH, key_set)
