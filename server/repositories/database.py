"""PostgreSQL as the repositories use it: SQLAlchemy Core states a statement once, asyncpg runs it.

A ``Query`` is a Core statement compiled for asyncpg at start; running one costs no SQL building. ``Database`` is the
pool: bounded, every connection with a statement and a transaction timeout of its own, and every failure turned into
an error of ours in one place.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

from actions.errors import ChamberlainError, Conflict, Invalid, TooLarge, Unauthenticated, Unavailable

Row = asyncpg.Record
if TYPE_CHECKING:
    Connection = asyncpg.Connection[Row]
else:  # asyncpg's classes cannot be subscripted at run time
    Connection = asyncpg.Connection

WRITE_SECONDS = 5.0
"""The longest that a write transaction may last (law 8), enforced by PostgreSQL and by the client."""
CONNECT_SECONDS = 2.0
SIGNATURE_KEY = "request_signature_pkey"

_DIALECT = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]
_GONE = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError)
_OVERLOADED = (
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InsufficientPrivilegeError,
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
        self._pool: asyncpg.Pool[Row] | None = None

    async def __aenter__(self) -> "Database":
        with errors():
            self._pool = await asyncpg.create_pool(
                self._url, min_size=1, max_size=self._size, connect=self._connect_pooled, reset=_no_reset
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    async def connect(self, purpose: str) -> Connection:
        """A connection of one's own, outside the pool: for the log's writer and for listening."""
        return await self._connect(self._url, purpose)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A pooled connection. Raises ``Unavailable`` when none is free in time."""
        assert self._pool is not None, "the database is not open"  # noqa: S101
        with errors():
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
                yield connection  # type: ignore[misc]  # the pool's proxy stands in for a connection

    async def fetch(self, query: Query, values: Mapping[str, object]) -> list[Row]:
        async with self.connection() as connection:
            return await connection.fetch(query.sql, *query.arguments(values))

    async def fetchrow(self, query: Query, values: Mapping[str, object]) -> Row | None:
        async with self.connection() as connection:
            return await connection.fetchrow(query.sql, *query.arguments(values))

    def occupancy(self) -> tuple[int, int]:
        """Pooled connections in use and idle."""
        if self._pool is None:
            return 0, 0
        idle = self._pool.get_idle_size()
        return self._pool.get_size() - idle, idle

    async def _connect_pooled(self, *arguments: Any, **settings: Any) -> Connection:
        return await self._connect(self._url, "pool")

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
                "transaction_timeout": limit,
                "idle_in_transaction_session_timeout": limit,
                "timezone": "UTC",
            },
        )
        await connection.set_type_codec(
            "jsonb", encoder=_to_json, decoder=orjson.loads, schema="pg_catalog", format="text"
        )
        return connection


async def _no_reset(connection: object) -> None:
    """Nothing is ever set on a pooled connection, so there is nothing to reset: it saves a round trip per use."""


def _to_json(value: object) -> str:
    return orjson.dumps(value).decode()


@contextmanager
def errors() -> Iterator[None]:
    """The one place where PostgreSQL's errors become ours. What it says of rows and values stays inside."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise _clash(error) from error
    except asyncpg.ForeignKeyViolationError as error:
        raise Conflict(
            "Something else still refers to this, or what this refers to is gone.", reason="in-use"
        ) from error
    except (asyncpg.CheckViolationError, asyncpg.DataError) as error:
        raise Invalid("A value is outside what can be stored.") from error
    except asyncpg.ProgramLimitExceededError as error:
        raise TooLarge("A value is larger than can be stored.") from error
    except (TimeoutError, asyncpg.QueryCanceledError, asyncpg.TransactionTimeoutError) as error:
        raise Unavailable("The database did not answer in time.", reason="deadline-exceeded") from error
    except (*_GONE, *_OVERLOADED) as error:
        raise Unavailable("The database cannot be reached.", reason="database-unavailable") from error


def is_connection_loss(error: BaseException) -> bool:
    """Whether the error leaves open what became of the statement that was under way."""
    return isinstance(error, (*_GONE, TimeoutError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError))


def _clash(error: asyncpg.UniqueViolationError) -> ChamberlainError:
    constraint = error.constraint_name or ""
    if constraint == SIGNATURE_KEY:
        return Unauthenticated("signature-replayed", reason="signature-replayed")
    # Constraints are named uq_<table>__<column>__<column>, scope columns first.
    column = constraint.rpartition("__")[2].replace("_", " ")
    return Conflict(f"This {column} is taken." if column else "This exists already.", reason="already-exists")
