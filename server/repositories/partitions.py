"""The partitions of the log, as the role that owns its tables sees them. On the machine itself alone: a worker has no
such role, and so can neither look into one by itself nor drop it.

What is done here may take long, so it stands outside any unit of work, and no deadline of one holds for it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from sqlalchemy import text

from actions.errors import Unavailable
from server.repositories.database import (
    COMMITS,
    CONNECT_SECONDS,
    Connection,
    Database,
    Query,
    Row,
    errors,
    is_connection_loss,
)
from server.repositories.vouching import KEYS, log_keys

BATCH = 2000
"""Records that are looked at together."""
TRIES = 20
"""To drop a partition every transaction that reads the log is waited for; meanwhile new ones wait too. So the wait is
short, and repeated."""
WAIT = "200ms"
BETWEEN_SECONDS = 0.2

_PARTITIONS = r"""
    SELECT child.relname AS name, pg_total_relation_size(child.oid) AS bytes,
    substring(bound FROM 'FROM \(''([0-9a-f-]{36})''\)')::uuid AS first_id,
    substring(bound FROM 'TO \(''([0-9a-f-]{36})''\)')::uuid AS end_id
    FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid,
    LATERAL (SELECT pg_get_expr(child.relpartbound, child.oid) AS bound) AS told
    WHERE inhparent = 'audit_record'::regclass
    ORDER BY end_id NULLS LAST
"""
_CENSUS = """
    SELECT count(*) AS records, count(leaf.index) AS numbered, min(leaf.index) AS first, max(leaf.index) + 1 AS end
    FROM {name} AS record LEFT JOIN audit_leaf AS leaf USING (action_id, phase)
"""
_RECORDS = """
    SELECT leaf.index, record.leaf, record.sealed
    FROM {name} AS record LEFT JOIN audit_leaf AS leaf USING (action_id, phase) ORDER BY leaf.index NULLS FIRST
"""
_LAST = "SELECT max(xid)::text FROM {name}"
_ROOT = "SELECT root FROM audit_checkpoint WHERE size = $1"
_ARCHIVE = "SELECT * FROM audit_archive WHERE partition = $1 ORDER BY created_at DESC, id DESC LIMIT 1"
_DROPPED = """
    SELECT DISTINCT ON (partition) * FROM audit_archive WHERE to_regclass(partition) IS NULL
    ORDER BY partition, created_at DESC
"""
_LISTED = Query(text(_PARTITIONS))


@dataclass(frozen=True, slots=True)
class Partition:
    """``first_id`` is None where it reaches back to the beginning; ``end_id`` for what is of no other partition."""

    name: str
    bytes: int
    first_id: UUID | None
    end_id: UUID | None

    @property
    def since(self) -> datetime | None:
        return None if self.first_id is None else _time_of(self.first_id)

    @property
    def until(self) -> datetime | None:
        return None if self.end_id is None else _time_of(self.end_id)

    def has(self, moment: datetime) -> bool:
        """Whether the records of actions that begin then lie in it."""
        return self.until is not None and moment < self.until and (self.since is None or self.since <= moment)


@dataclass(frozen=True, slots=True)
class Census:
    """Of a partition's records: how many, how many are numbered, and the indexes they lie between."""

    records: int
    numbered: int
    first: int | None
    end: int | None


async def partitions(database: Database) -> list[Partition]:
    """All that there are, the oldest first, as a worker may ask."""
    return [Partition(**row) for row in await database.fetch(_LISTED, {})]


class Partitions:
    """``url`` is the owner's; None in a worker."""

    def __init__(self, url: str | None) -> None:
        self._url = url

    async def all(self) -> list[Partition]:
        async with self._connected() as connection:
            return [Partition(**row) for row in await connection.fetch(_PARTITIONS)]

    async def dropped(self) -> list[Row]:
        """The archive of each partition that is there no more."""
        async with self._connected() as connection:
            return await connection.fetch(_DROPPED)

    async def archive_of(self, name: str) -> Row | None:
        """The latest archive that was written down for a partition."""
        async with self._connected() as connection:
            return await connection.fetchrow(_ARCHIVE, name)

    async def census(self, partition: Partition) -> Census:
        async with self._connected() as connection:
            row = await connection.fetchrow(_CENSUS.format(name=partition.name))
            assert row is not None  # it counts  # noqa: S101
            return Census(**row)

    async def records(self, partition: Partition) -> AsyncIterator[list[Row]]:
        """``index, leaf, sealed`` of every record in the order of the indexes; first those that have none."""
        async with self._connected() as connection, connection.transaction(readonly=True):
            cursor = await connection.cursor(_RECORDS.format(name=partition.name))
            while rows := await cursor.fetch(BATCH):
                yield rows

    async def last_change(self, partition: Partition) -> str | None:
        """The latest transaction that wrote into it: as long as it is the same, nothing has come to it."""
        async with self._connected() as connection:
            last: str | None = await connection.fetchval(_LAST.format(name=partition.name))
            return last

    async def keys(self) -> list[str]:
        """The public halves of the log's keys."""
        async with self._connected() as connection:
            return log_keys(await connection.fetch(KEYS.sql, *KEYS.arguments({}))).public

    async def root(self, size: int) -> bytes | None:
        """The root that was signed for a tree of that size."""
        async with self._connected() as connection:
            root: bytes | None = await connection.fetchval(_ROOT, size)
            return root

    async def drop(self, name: str, last_change: str | None) -> bool:
        """Drop a partition to which nothing has come since ``last_change``. False: it was there no more.

        Raises ``Unavailable`` when nothing was done. What is raised else leaves open what became of it.
        """
        for _ in range(TRIES):
            try:
                return await self._drop(name, last_change)
            except asyncpg.LockNotAvailableError:
                await asyncio.sleep(BETWEEN_SECONDS)
        raise Unavailable("Others are reading the log all the time. Nothing was dropped. Try again.", reason="busy")

    async def _drop(self, name: str, last_change: str | None) -> bool:
        with errors():
            connection = await self._connect()
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{WAIT}'")
                if name not in {row["name"] for row in await connection.fetch(_PARTITIONS)}:
                    return False
                await connection.execute(f"ALTER TABLE audit_record DETACH PARTITION {name}")
                if await connection.fetchval(_LAST.format(name=name)) != last_change:
                    raise Unavailable("Records have come to it meanwhile. Nothing was dropped.", reason="changed")
                await connection.execute(f"DROP TABLE {name}")
        except Exception as error:
            if not is_connection_loss(error):
                raise
        else:
            return True
        finally:
            await _close(connection)
        # What became of the commit is there to be seen. If it cannot be, nobody knows.
        connection = await self._connect()
        try:
            if await connection.fetchval("SELECT to_regclass($1) IS NULL", name):
                return True
        finally:
            await _close(connection)
        raise Unavailable("The database was lost. Nothing was dropped. Try again.", reason="database-unavailable")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        with errors():
            connection = await self._connect()
            try:
                yield connection
            finally:
                await _close(connection)

    async def _connect(self) -> Connection:
        if self._url is None:
            raise Unavailable("This is done on the server's own machine.", reason="elsewhere")
        settings = {"application_name": "chamberlain-owner", "timezone": "UTC", **COMMITS}
        connection: Connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS, server_settings=settings)
        return connection


async def _close(connection: Connection) -> None:
    """Whatever state it is in."""
    try:
        await connection.close(timeout=CONNECT_SECONDS)
    except Exception:
        connection.terminate()


def _time_of(key: UUID) -> datetime:
    """When ids began with this one: their first 48 bits are milliseconds since 1970."""
    return datetime.fromtimestamp((key.int >> 80) / 1000, UTC)
