"""Logging in, as the tests do it."""

from typing import Any

import httpx

from tests.world.client import Caller
from tests.world.stage import PASSWORD
from tests.world.world import World

HOMES = {"root": "default", "olga": "default", "nobody": "elsewhere"}
"""Where personas live who do not live in research."""


def claim(name: str = "mia", **more: Any) -> dict[str, Any]:
    """What a persona sends to log in."""
    return {"domain": HOMES.get(name, "research"), "username": name, "password": PASSWORD, **more}


async def ask(
    world: World, given: object, *, address: str = "127.0.0.1", path: str = "/auth/authorize"
) -> httpx.Response:
    return await world.stranger(address=address).send("POST", path, given)


async def log_in(world: World, name: str = "mia", *, address: str = "127.0.0.1", **more: Any) -> dict[str, Any]:
    """A persona's tokens."""
    response = await ask(world, claim(name, **more), address=address)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def refresh(world: World, tokens: dict[str, Any], *, address: str = "127.0.0.1") -> httpx.Response:
    return await ask(world, {"refresh_token": tokens["refresh_token"]}, address=address, path="/auth/refresh")


def bearer(world: World, tokens: dict[str, Any] | str, **options: Any) -> Caller:
    """Whoever carries this token."""
    token = tokens if isinstance(tokens, str) else tokens["access_token"]
    return Caller(world.asgi, None, token=token, **options)
