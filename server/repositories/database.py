"""PostgreSQL as the repositories use it: SQLAlchemy Core states a statement once, asyncpg runs it.

A ``Query`` is a Core statement compiled for asyncpg at start; running one costs no SQL building. ``Database`` is the
pool: bounded, every connection with a statement and a transaction timeout of its own, and every failure turned into
an error of ours in one place.
"""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TypeAlias

import asyncpg
import orjson
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

from actions.errors import ChamberlainError, Conflict, Fault, Invalid, TooLarge, Unauthenticated, Unavailable
from server.repositories import pool

Row: TypeAlias = pool.Row
Connection: TypeAlias = pool.Connection

WRITE_SECONDS = 5.0
"""The longest that a write transaction may last (law 8), enforced by PostgreSQL and by the client."""
LOCK_SECONDS = 0.75
"""The longest that a statement waits for a lock: a log that somebody holds is told of soon, not after five seconds."""
COMMIT_SECONDS = 1.2
"""The longest that a caller waits for a commit before somebody else is asked what became of it. A guarded change waits
for its row's lock in this time, too."""
ANSWER_SECONDS = 1.8
"""When a caller whose commit did not answer is told what is known, counted from when it was sent."""
CONNECT_SECONDS = 1.5
COMMITS: Mapping[str, str] = {"synchronous_commit": "on"}
"""What every connection of ours begins with, whatever a role, a database or a file says: what was committed is on
disk."""
SIGNATURE_KEY = "request_signature_pkey"

_DIALECT = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]
_GONE = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says of a connection whose backend was ended while it idled
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
)
_TOO_SLOW = (
    TimeoutError,
    asyncpg.QueryCanceledError,
    asyncpg.TransactionTimeoutError,
    asyncpg.LockNotAvailableError,
)
_OVERLOADED = (
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
)


class Query:
    """A Core statement compiled once. ``arguments`` puts named values in the order of its placeholders."""

    __slots__ = ("_constants", "_names", "sql")

    def __init__(self, statement: Executable) -> None:
        assert isinstance(statement, ClauseElement)  # every Core statement is one  # noqa: S101
        compiled = statement.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101
        self.sql = str(compiled)
        self._names = tuple(compiled.positiontup or ())
        self._constants: Mapping[str, object] = dict(compiled.params)

    def arguments(self, values: Mapping[str, object]) -> list[object]:
        constants = self._constants
        return [values[name] if name in values else constants[name] for name in self._names]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._names)


class Database:
    """The application's pool. ``async with`` it for its lifetime."""

    def __init__(self, url: str, *, size: int = 10, name: str = "chamberlain") -> None:
        self._url = url
        self._size = size
        self._name = name
        self._pool = pool.Pool(lambda: self.connect("pool"), size, CONNECT_SECONDS)

    async def __aenter__(self) -> "Database":
        async with self.connection():
            return self  # a first connection is made now, so that a wrong address is told at once

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close(WRITE_SECONDS)

    async def connect(self, purpose: str) -> Connection:
        """A connection of one's own, outside the pool: for the log's writer and for listening."""
        return await self._connect(self._url, purpose)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A pooled connection. Raises ``Unavailable`` when none is free in time."""
        with errors():
            async with self._pool.lend() as connection:
                yield connection

    async def fetch(self, query: Query, values: Mapping[str, object]) -> list[Row]:
        with errors():
            async with self._pool.lend() as connection:
                return await connection.fetch(query.sql, *query.arguments(values))

    async def fetchrow(self, query: Query, values: Mapping[str, object]) -> Row | None:
        with errors():
            async with self._pool.lend() as connection:
                return await connection.fetchrow(query.sql, *query.arguments(values))

    async def server_version(self) -> str:
        """PostgreSQL's own: proof that a connection can be had and answers."""
        async with self.connection() as connection:
            return str(await connection.fetchval("SHOW server_version"))

    def occupancy(self) -> tuple[int, int]:
        """Pooled connections in use and idle."""
        return self._pool.occupancy()

    async def _connect(self, url: str, purpose: str) -> Connection:
        # The name tells connections apart for good, also after a restart has handed out a process id again.
        limit = f"{WRITE_SECONDS:.0f}s"
        connection: Connection = await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS,
            command_timeout=WRITE_SECONDS + 1,
            statement_cache_size=1024,
            server_settings={
                "application_name": f"{self._name}-{purpose}-{uuid.uuid4().hex[:16]}",
                "statement_timeout": limit,
                "lock_timeout": f"{LOCK_SECONDS * 1000:.0f}ms",
                # A little longer: it would end the connection, where a statement alone may be given up.
                "transaction_timeout": f"{WRITE_SECONDS * 1000 + 500:.0f}ms",
                "idle_in_transaction_session_timeout": limit,
                "timezone": "UTC",
                **COMMITS,
            },
        )
        await connection.set_type_codec(
            "jsonb", encoder=_to_json, decoder=orjson.loads, schema="pg_catalog", format="text"
        )
        return connection


def _to_json(value: object) -> str:
    return orjson.dumps(value).decode()


class errors:
    """``with errors():`` is the one place where PostgreSQL's errors become ours. What it says of rows and values stays
    inside."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and (ours := _translated(error)) is not None:
            raise ours from error


def _translated(error: BaseException) -> ChamberlainError | None:
    match error:
        case asyncpg.UniqueViolationError():
            return _clash(error)
        case asyncpg.ForeignKeyViolationError():
            return Conflict("Something else still refers to this, or what this refers to is gone.", reason="in-use")
        case asyncpg.CheckViolationError() | asyncpg.DataError():
            return Invalid("A value is outside what can be stored.")
        case asyncpg.ProgramLimitExceededError():
            return TooLarge("A value is larger than can be stored.")
        case _ if isinstance(error, _TOO_SLOW):
            return Unavailable("The database did not answer in time.", reason="deadline-exceeded")
        case _ if isinstance(error, (*_GONE, *_OVERLOADED)):
            return Unavailable("The database cannot be reached.", reason="database-unavailable")
        case _:
            return None


def is_connection_loss(error: BaseException) -> bool:
    """Whether the error leaves open what became of the statement that was under way."""
    return isinstance(error, (*_GONE, TimeoutError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError))


def _clash(error: asyncpg.UniqueViolationError) -> ChamberlainError:
    constraint = error.constraint_name or ""
    if constraint == SIGNATURE_KEY:
        return Unauthenticated("signature-replayed", reason="signature-replayed")
    # Constraints are named uq_<table>__<column>__<column>, scope columns first.
    column = constraint.rpartition("__")[2] if "__" in constraint else ""
    if not column:
        return Conflict("This exists already.", reason="already-exists")
    taken = [Fault(f"/{column}", "is taken")]
    return Conflict(f"This {column.replace('_', ' ')} is taken.", reason="already-exists", errors=taken)
