"""Waiting by looking again until a deadline, in the running event loop."""

import asyncio
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds after which something that should happen has not."""


async def until(happens: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not happens():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)
