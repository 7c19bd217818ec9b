"""How far ahead the log has partitions, and what lies in none of a month: for metrics and ``/readyz``.

A worker may not look into a partition by itself. What lies in none is what the log has between the bounds of those that
there are, and PostgreSQL looks for that in the default one alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

from sqlalchemy import text

from server.repositories.database import Database, Query
from server.repositories.partitions import Partition, partitions

MOST_ASTRAY = 10_000
"""Records that are counted: more is as bad."""
_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)
_COUNT = Query(
    text(
        "SELECT count(*) AS records FROM (SELECT FROM audit_record WHERE action_id >= :first AND action_id < :end "
        "LIMIT :most) AS found"
    )
)


@dataclass(frozen=True, slots=True)
class Reach:
    """``ahead``: months to come that have a partition each, without a gap; -1 where the present one has none.
    ``astray``: records that lie in no month's, ``MOST_ASTRAY`` at most."""

    ahead: int
    astray: int


async def reach(database: Database, now: datetime | None = None) -> Reach:
    """How it stands. Raises ``Unavailable`` without a database."""
    months = [one for one in await partitions(database) if one.end_id is not None]
    astray = 0
    for first, end in _gaps(months):
        row = await database.fetchrow(_COUNT, {"first": first, "end": end, "most": MOST_ASTRAY})
        astray += 0 if row is None else row["records"]
    return Reach(_ahead(months, now or datetime.now(UTC)), min(astray, MOST_ASTRAY))


def _ahead(months: Sequence[Partition], now: datetime) -> int:
    """Of partitions in the order of their ends."""
    later = [one for one in months if one.until is not None and one.until > now]
    if not later or not later[0].has(now):
        return -1
    joined = [one.end_id == after.first_id for one, after in pairwise(later)]
    return joined.index(False) if False in joined else len(joined)


def _gaps(months: Sequence[Partition]) -> Iterator[tuple[UUID, UUID]]:
    """The ids that belong into no partition but the default one: from the first of them to before the last."""
    begun = _FIRST
    for month in months:
        if month.first_id is not None and begun < month.first_id:
            yield begun, month.first_id
        begun = month.end_id or begun
    yield begun, _LAST
