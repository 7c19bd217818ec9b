"""The log's tree as anybody may have it: its newest checkpoint and its tiles, so that a crowd costs little.

Nobody who asks has said who it is, so what is asked of the database at once is bounded, and what was read is kept: a
full tile for good, as it never changes, and the newest checkpoint for half a second.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actions.errors import Unavailable
from audit.merkle import WIDTH
from server.repositories import audit_tree
from server.repositories.database import Database

AT_ONCE = 2
"""Questions that a worker puts to the database at a time on behalf of all who ask."""
WAIT_SECONDS = 2.0
KEPT_SECONDS = 0.5
KEPT_TILES = 64
"""Full tiles that are kept, of 8 KiB each."""
_HASH = 32


class PublicTree:
    def __init__(self, database: Database) -> None:
        self._reads = database.fetch
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._checkpoint: tuple[float, str] | None = None
        self._tiles: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    async def checkpoint(self) -> str | None:
        """The newest checkpoint as a signed note, with its cosignatures; None before the first."""
        if (kept := self._kept_checkpoint()) is not None:
            return kept
        async with self._turn():
            if (kept := self._kept_checkpoint()) is not None:
                return kept  # somebody else has asked meanwhile
            found = await audit_tree.latest_checkpoint(self._reads)
            if found is None:
                return None
            self._checkpoint = asyncio.get_running_loop().time() + KEPT_SECONDS, found.note
            return found.note

    async def tile(self, level: int, index: int, width: int) -> bytes | None:
        """The first ``width`` hashes of a tile, of 32 bytes each; None where there are not so many."""
        whole = self._tiles.get((level, index))
        if whole is None:
            async with self._turn():
                found = await audit_tree.tile(self._reads, level, index, width)
            if found is None or width < WIDTH:
                return found
            self._tiles[level, index] = whole = found
            if len(self._tiles) > KEPT_TILES:
                self._tiles.popitem(last=False)
        else:
            self._tiles.move_to_end((level, index))
        return whole[: width * _HASH]

    def _kept_checkpoint(self) -> str | None:
        if self._checkpoint is None or self._checkpoint[0] < asyncio.get_running_loop().time():
            return None
        return self._checkpoint[1]

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable("Too many ask for the tree at the moment.", reason="busy") from None
        try:
            yield
        finally:
            self._turns.release()
