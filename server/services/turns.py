"""Turns at what takes long: a few at a time, some waiting, and whoever comes when it is full is told to come back.

It counts, and does not know what is done in a turn.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actions.errors import Unavailable

WAITING_AT_MOST = 8


class Turns:
    """``at_once`` may be at it in this worker at the same time, and ``WAITING_AT_MOST`` wait for them."""

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it. Raises ``Unavailable`` when too many wait already."""
        if self._waiting == WAITING_AT_MOST:
            raise Unavailable("Too many questions about policies are being worked on.", reason="busy")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()
