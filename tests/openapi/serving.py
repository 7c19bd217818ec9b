"""An application of a test on a real socket of this machine, with the HTTP server that a worker uses."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """The endpoint: ``http://127.0.0.1:<port>``. Served by the running event loop."""
    config = uvicorn.Config(app, http="httptools", lifespan="off", log_config=None, access_log=False, loop="none")
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server._serve([listener]))  # without its signal handlers, which are pytest's
        try:
            async with asyncio.timeout(10):
                while not server.started:  # noqa: ASYNC110 - uvicorn tells it by a flag alone
                    await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
