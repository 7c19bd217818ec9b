"""The application as a worker serves it, without the sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from server.app import Application, http_app


@asynccontextmanager
async def served(app: Application) -> AsyncIterator[ASGIApp]:
    """The ASGI application, once its invalidation channel is heard: from then on answers may be cached."""
    if app.policy.source.files == {}:
        assert await app.policy.load()
    async with asyncio.timeout(5):
        while not app.channel.trusted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    yield http_app(app, asyncio.Event())
