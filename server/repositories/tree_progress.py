"""How far the numbering of the log has come, and what keeps it: for metrics and ``/readyz``.

Anybody may see the locks of all, so the transaction that everything waits for can be named, whoever's it is and in
whichever database of the cluster. Since when it is open is told of one's own alone.
"""

from dataclasses import dataclass

from sqlalchemy import text

from server.repositories.database import Database, Query

MOST_WAITING = 10_000
"""Records that are counted: more is as bad."""

_READ = Query(
    text(
        """
    WITH head AS (
        SELECT size, extract(epoch FROM clock_timestamp() - at)::float8 AS age
        FROM audit_checkpoint ORDER BY size DESC LIMIT 1
    ), waiting AS (
        SELECT record.at FROM audit_leaf AS leaf
        JOIN audit_record AS record ON leaf.action_id = record.action_id AND leaf.phase = record.phase
        WHERE leaf.index >= coalesce((SELECT size FROM head), 0)
        UNION ALL
        SELECT record.at FROM audit_record AS record
        WHERE record.xid >= (SELECT xid FROM audit_head)
        AND record.xid < pg_snapshot_xmax(pg_current_snapshot())
        AND NOT EXISTS (
            SELECT FROM audit_leaf AS leaf WHERE leaf.action_id = record.action_id AND leaf.phase = record.phase
        )
        LIMIT :most
    )
    SELECT coalesce((SELECT size FROM head), 0) AS size, coalesce((SELECT age FROM head), 0) AS age,
        (SELECT count(*) FROM waiting) AS waiting,
        coalesce((SELECT extract(epoch FROM clock_timestamp() - min(at))::float8 FROM waiting), 0) AS waited
    """
    )
)
_HOLDS = Query(
    text(
        """
    SELECT lock.pid, coalesce(activity.datname, prepared.database)::text AS database, prepared.gid,
        extract(epoch FROM clock_timestamp() - coalesce(activity.xact_start, prepared.prepared))::float8 AS seconds
    FROM pg_locks AS lock
    LEFT JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
    LEFT JOIN pg_prepared_xacts AS prepared ON prepared.transaction = lock.transactionid
    WHERE lock.locktype = 'transactionid' AND lock.mode = 'ExclusiveLock' AND lock.granted
    AND lock.transactionid = pg_snapshot_xmin(pg_current_snapshot())::xid
    LIMIT 1
    """
    )
)


@dataclass(frozen=True, slots=True)
class Holder:
    """The transaction that all later ones wait for. ``gid`` names a prepared one, which has no process; ``seconds`` is
    how long it has been open, where that may be seen."""

    database: str | None
    pid: int | None
    gid: str | None
    seconds: float | None

    def __str__(self) -> str:
        whose = f"the prepared transaction {self.gid!r}" if self.gid else f"a transaction of process {self.pid}"
        where = f" in the database {self.database!r}" if self.database else ""
        since = f", open for {self.seconds:.0f} s" if self.seconds is not None else ""
        return whose + where + since


@dataclass(frozen=True, slots=True)
class Progress:
    """Sizes in records, times in seconds."""

    size: int
    age: float
    """Since the newest checkpoint was signed; 0 before the first."""
    waiting: int
    """Without a number, or not signed yet, ``MOST_WAITING`` at most."""
    waited: float
    """How long ago the oldest of them was made."""


async def progress(database: Database) -> Progress:
    row = await database.fetchrow(_READ, {"most": MOST_WAITING})
    assert row is not None  # it is one row whatever there is  # noqa: S101
    return Progress(row["size"], row["age"], row["waiting"], row["waited"])


async def holder(database: Database) -> Holder | None:
    """Whose transaction must end before anything newer is numbered; None where no transaction is open."""
    row = await database.fetchrow(_HOLDS, {})
    return None if row is None else Holder(row["database"], row["pid"], row["gid"], row["seconds"])
