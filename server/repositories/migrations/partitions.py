"""Partitions of the log are made ahead of time, by whoever owns its tables: at each start of the server.

A server that runs for longer than they reach writes into ``audit_record_default``. The next start gives the months
that have passed meanwhile their partitions, and moves their records there: each stays what it was, byte for byte.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from uuid import UUID

import asyncpg

from server.repositories.pool import Connection

AHEAD = 3
"""Months after the present one that have a partition from the start on."""
LOCK_SECONDS = 5
"""A server that still runs on the database is not kept waiting for longer. What could not be done is left to the next
start."""

_TODAY = "SELECT (now() AT TIME ZONE 'UTC')::date"
_UPPERMOST = r"""
    SELECT max(substring(pg_get_expr(relpartbound, oid) FROM 'TO \(''([0-9a-f-]{36})''\)')) FROM pg_class
    WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_record'::regclass)
"""
_COVERED = r"""
    SELECT EXISTS (
        SELECT FROM pg_inherits JOIN pg_class ON oid = inhrelid,
        LATERAL (SELECT pg_get_expr(relpartbound, oid) AS bound) AS told
        WHERE inhparent = 'audit_record'::regclass AND bound <> 'DEFAULT'
        AND COALESCE(substring(bound FROM 'FROM \(''([0-9a-f-]{36})''\)')::uuid <= audit_month($1), true)
        AND substring(bound FROM 'TO \(''([0-9a-f-]{36})''\)')::uuid > audit_month($1)
    )
"""
_STRAYS = """
    SELECT EXISTS (
        SELECT FROM audit_record_default WHERE action_id >= audit_month($1) AND action_id < audit_month($2)
    )
"""
_SET_ASIDE = """
    WITH moved AS (
        DELETE FROM audit_record_default WHERE action_id >= audit_month($1) AND action_id < audit_month($2) RETURNING *
    )
    INSERT INTO moving SELECT * FROM moved
"""


async def make_ahead(connection: Connection, today: date | None = None) -> None:
    """Have a partition for every month up to ``AHEAD`` after the present one (the database's, in UTC)."""
    today = today or await connection.fetchval(_TODAY)
    uppermost = _month_of(UUID(await connection.fetchval(_UPPERMOST)))
    try:
        for month in _months(min(uppermost, today.replace(day=1)), _later(today.replace(day=1), AHEAD)):
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
                if not await connection.fetchval(_COVERED, month):
                    await _add(connection, month)
    except asyncpg.LockNotAvailableError:
        return  # `/readyz` tells when the present month has none


async def _add(connection: Connection, month: date) -> None:
    """Make the partition of a month, and move there what has been written of it elsewhere: all of it, or nothing."""
    span = month, _later(month, 1)
    if not await connection.fetchval(_STRAYS, *span):
        await connection.execute("SELECT add_audit_partition($1)", month)
        return
    await connection.execute("ALTER TABLE audit_record_default DISABLE TRIGGER append_only")
    await connection.execute("CREATE TEMPORARY TABLE moving (LIKE audit_record_default) ON COMMIT DROP")
    await connection.execute(_SET_ASIDE, *span)
    await connection.execute("SELECT add_audit_partition($1)", month)
    await connection.execute("INSERT INTO audit_record SELECT * FROM moving")
    await connection.execute("ALTER TABLE audit_record_default ENABLE TRIGGER append_only")


def _months(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first = _later(first, 1)


def _later(month: date, months: int) -> date:
    years, place = divmod(month.month - 1 + months, 12)
    return date(month.year + years, place + 1, 1)


def _month_of(key: UUID) -> date:
    """The month whose ids begin with this one: the first 48 bits are milliseconds since 1970."""
    return datetime.fromtimestamp((key.int >> 80) / 1000, UTC).date()
