"""The connections of a process, lent one at a time.

Lending costs no task and no timer while a connection is idle, which is what a request costs most of after its queries
themselves. Nothing is ever set on a lent connection, so nothing is reset; one that comes back broken, inside a
transaction, or from somebody who was interrupted is not lent again.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING

import asyncpg

Row = asyncpg.Record
if TYPE_CHECKING:
    Connection = asyncpg.Connection[Row]
else:  # asyncpg's classes cannot be subscripted at run time
    Connection = asyncpg.Connection


class Pool:
    """At most ``size`` connections; when all are lent, the next in line waits, for ``patience`` seconds at most."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int, patience: float) -> None:
        self._connect = connect
        self._size = size
        self._patience = patience
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._made = 0
        """Connections that are idle, lent, or being made: a place is taken before there is a connection in it."""
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False

    def occupancy(self) -> tuple[int, int]:
        """Connections lent and idle."""
        return len(self._lent), len(self._idle)

    def lend(self) -> "Loan":
        """``async with`` it for a connection. Entering it raises ``TimeoutError`` when none is free in time."""
        return Loan(self)

    async def close(self, patience: float) -> None:
        """Lend no more, wait for what is lent, and close everything, the hard way after ``patience`` seconds."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._lent:  # noqa: ASYNC110 - a rare wait, at the end of the process
                    await asyncio.sleep(0.01)
                for connection in self._idle:
                    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                        await connection.close()
        for connection in (*self._idle, *self._lent):
            connection.terminate()

    async def _take(self) -> Connection:
        if self._closed:
            raise asyncpg.InterfaceError("the pool is closed")
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                self._lent.add(connection)
                return connection
            self._made -= 1
        if self._made < self._size:
            self._made += 1
            return await self._fill()
        offered: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(offered)
        try:
            async with asyncio.timeout(self._patience):
                connected = await offered
        except BaseException:
            if offered.done() and not offered.cancelled():  # given in the very moment that its taker was interrupted
                self._pass_on(offered.result())
            raise
        return await self._fill() if connected is None else connected

    async def _fill(self) -> Connection:
        """A new connection in a place that is taken already."""
        try:
            connection = await self._connect()
        except BaseException:
            self._pass_on(None)
            raise
        self._lent.add(connection)
        return connection

    def _give_back(self, connection: Connection, *, interrupted: bool) -> None:
        if interrupted or self._closed or connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
            self._lent.discard(connection)
            self._pass_on(None)
        else:
            self._pass_on(connection)

    def _pass_on(self, connection: Connection | None) -> None:
        """A connection, or a place for one, for who waits longest; else it stays here."""
        while self._waiting:
            offered = self._waiting.popleft()
            if not offered.done():
                offered.set_result(connection)
                return
        if connection is None:
            self._made -= 1
        else:
            self._lent.discard(connection)
            self._idle.append(connection)


class Loan:
    """One connection, given back at the end of the block."""

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Connection:
        self._connection = await self._pool._take()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A cancelled query may still run: the connection's next user would wait for it, or be cancelled in its place.
        interrupted = isinstance(error, TimeoutError) or (error is not None and not isinstance(error, Exception))
        self._pool._give_back(self._connection, interrupted=interrupted)
