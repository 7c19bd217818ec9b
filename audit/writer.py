"""The group-committing writer: one connection, one task, every record that waits goes into the next commit.

A caller waits for the fsync of the batch that holds its record; while one batch commits, the next one gathers. The
queue is bounded and so is the wait: a full queue or a database that hangs is told to the caller as ``LogUnavailable``
within the deadline, never by dropping a record in silence. The connection is the writer's own, because in a shared
pool the log would queue behind the handlers that wait for it.

Between batches the writer asks, several times a second, whether it could write. So it knows that the log hangs before
anybody has to wait for it, and that it answers again as soon as it does; the pulse tells everybody else.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import asyncpg

from audit.log import INSERT_MANY, LogUnavailable, columns_of
from audit.pulse import Pulse
from audit.record import Record

Connect = Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]


GATHER_SECONDS = 0.001
GATHERINGS = 3
"""How often a batch waits so long, at most, for what is under way."""
BEAT_SECONDS = 0.25
"""How often it is asked whether the log can be written, while there is nothing to write."""
SILENCE_SECONDS = 1.25
"""A log that has not answered for so long hangs. With a beat it is known within 1.5 s, and told within 2."""

_COULD_WRITE = "INSERT INTO audit_record (action_id) SELECT NULL::uuid WHERE false"
"""Adds nothing, but needs what a record needs: the lock, the privilege, a database that may be written to."""
_FAILURES = (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_NOT_THE_RECORDS = (
    TimeoutError,
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""Failures that no record can be the cause of: every record of the batch shares them."""
_HANGS = (TimeoutError, asyncpg.LockNotAvailableError)
"""Those of a log that may take its time: each that tries would wait as long."""


class _Commit(asyncio.Future[None]):
    """Of one record: done once it is known what became of it. Nobody can take it back: who waits for it and is
    cancelled meanwhile hears of that when it is done. A task of its own for each record, shielded from who waits, would
    do the same and cost more."""

    def cancel(self, msg: object = None) -> bool:
        return False


def _fail(done: _Commit, error: BaseException) -> None:
    if not done.done():
        done.set_exception(LogUnavailable(type(error).__name__))


class WriterMeter(Protocol):
    """What the writer reports of itself, batch by batch."""

    def audit_committed(self, seconds: float, records: int) -> None: ...


class GroupCommitLog:
    """An ``AuditLog`` on one PostgreSQL connection. ``async with`` it for its lifetime."""

    def __init__(
        self,
        connect: Connect,
        meter: WriterMeter,
        pulse: Pulse,
        *,
        capacity: int = 4096,
        batch: int = 512,
        deadline: float = 1.5,
        beat: float = BEAT_SECONDS,
    ) -> None:
        self._connect = connect
        self._meter = meter
        self._pulse = pulse
        self._beat = beat
        self._capacity = capacity
        self._batch = batch
        self._deadline = deadline
        self._waiting: deque[tuple[Record, _Commit]] = deque()
        self._due: deque[tuple[float, _Commit]] = deque()
        """When each write fails that is not done by then, the oldest first."""
        self._alarm: asyncio.TimerHandle | None = None
        """Rings for the first of them: one timer for all."""
        self._work = asyncio.Event()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._in_use = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._crowd = 1
        """How many records a batch held of late."""

    async def __aenter__(self) -> "GroupCommitLog":
        self._task = asyncio.create_task(self._run(), name="audit-writer")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what still waits, then close."""
        self._closing = True
        self._work.set()
        if self._task is not None:
            await self._task
        if self._alarm is not None:
            self._alarm.cancel()
        if self._connection is not None:
            with contextlib.suppress(*_FAILURES):
                await self._connection.close(timeout=self._deadline)

    def depth(self) -> int:
        """Records that wait for a commit."""
        return len(self._waiting)

    async def write(self, record: Record) -> None:
        if self._closing or len(self._waiting) >= self._capacity:
            raise LogUnavailable("the queue is full or closed")
        if self._pulse.hanging:
            raise LogUnavailable("the log hangs")
        loop = asyncio.get_running_loop()
        done = _Commit(loop=loop)
        self._waiting.append((record, done))
        self._due.append((loop.time() + self._deadline, done))
        if self._alarm is None:
            self._watch()
        self._work.set()
        try:
            await done
        except asyncio.CancelledError:
            done.result()  # that it failed goes before that nobody waits for it
            raise

    def _watch(self) -> None:
        """Fail what is late, and set the alarm for what is due next."""
        loop = asyncio.get_running_loop()
        while self._due and (self._due[0][1].done() or self._due[0][0] <= loop.time()):
            _fail(self._due.popleft()[1], TimeoutError())
        self._alarm = loop.call_at(self._due[0][0], self._watch) if self._due else None

    async def probe(self) -> None:
        """Whether the log can be written now: one round trip on its own connection. Raises ``LogUnavailable``."""
        if self._pulse.hanging:
            raise LogUnavailable("the log hangs")
        try:
            await self._ask()
        except _FAILURES as error:
            raise LogUnavailable(type(error).__name__) from error

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._beat):
                    await self._work.wait()
            self._work.clear()
            if not self._waiting and not self._closing:
                await self._feel_the_pulse()
            while self._waiting:
                await self._gather()
                await self._commit_batch()
            if self._closing:
                return

    async def _feel_the_pulse(self) -> None:
        try:
            await self._ask()
        except Exception as error:
            self._failed(error)
        else:
            self._pulse.answers()

    async def _ask(self) -> None:
        async with asyncio.timeout(SILENCE_SECONDS), self._in_use:
            await (await self._ready()).execute(_COULD_WRITE)

    def _failed(self, error: Exception) -> None:
        """Leave the connection, which is in doubt. One that hangs is told to everybody who waits."""
        self._drop_connection()
        if not isinstance(error, _HANGS):
            self._pulse.answers()  # it said no, and says so to whoever asks
            return
        while self._waiting:
            _fail(self._waiting.popleft()[1], error)
        self._pulse.hangs(silent=isinstance(error, TimeoutError))

    async def _gather(self) -> None:
        """Where callers come in crowds, let a batch fill until half of all that is under way waits for it: a commit
        costs the same for one record as for many. The other half works meanwhile; were all waited for, nobody would.

        A caller that comes alone is not made to wait for company, and nobody waits long for what is slow.
        """
        for _ in range(GATHERINGS if self._crowd > 1 else 0):
            if self._closing or 2 * len(self._waiting) >= min(self._pulse.watching, self._batch):
                return
            await asyncio.sleep(GATHER_SECONDS)

    async def _commit_batch(self) -> None:
        loop = asyncio.get_running_loop()
        # Those that are late already are not written: their callers were told that nothing was done.
        batch = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
        batch = [(record, done) for record, done in batch if not done.done()]
        if not batch:
            return
        self._crowd = (self._crowd + len(batch) + 1) // 2
        started = loop.time()
        try:
            await self._insert([record for record, _ in batch])
        except _NOT_THE_RECORDS as error:
            for _, done in batch:
                _fail(done, error)
            self._failed(error)
        except Exception:
            # A record that PostgreSQL cannot take must not sink those beside it, nor the writer itself.
            for record, done in batch:
                await self._insert_alone(record, done)
        else:
            for _, done in batch:
                if not done.done():
                    done.set_result(None)
            self._meter.audit_committed(loop.time() - started, len(batch))

    async def _insert_alone(self, record: Record, done: _Commit) -> None:
        if done.done():
            return  # it has become late meanwhile
        try:
            await self._insert([record])
        except _NOT_THE_RECORDS as error:
            _fail(done, error)
            self._failed(error)
        except Exception as error:
            _fail(done, error)
        else:
            if not done.done():
                done.set_result(None)

    async def _insert(self, records: list[Record]) -> None:
        async with asyncio.timeout(SILENCE_SECONDS), self._in_use:
            connection = await self._ready()
            await connection.execute(INSERT_MANY, *columns_of(records))

    async def _ready(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        return self._connection

    def _drop_connection(self) -> None:
        """Leave a connection in doubt behind; the next batch makes a new one."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
