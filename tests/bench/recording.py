"""How fast the log takes records, each on disk before its caller goes on, against COPY of the same rows at once."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
from sqlalchemy import make_url

from audit.log import COLUMN_NAMES
from audit.pulse import Pulse
from audit.record import Columns, Phase, Record, canonical, new_id
from audit.writer import GroupCommitLog
from server.http.metrics import Metrics
from server.repositories.migrations.migrate import migrate
from tests.bench import servers
from tests.bench.rows import Row

CALLERS = 64
FLOOR = 20.0


@dataclass(frozen=True)
class Plan:
    """``pairs`` of turns of ``records`` each."""

    pairs: int = 7
    records: int = 20_000


QUICK = Plan(pairs=1, records=200)


async def measure(place: Path, plan: Plan) -> list[Row]:
    async with servers.postgres(place) as urls:
        await migrate(urls.migrator, make_url(urls.application).username or "")
        pairs = []
        for number in range(plan.pairs):
            if number % 2:
                copied = await _copied(urls.application, plan.records)
                pairs.append((await _written(urls.application, plan.records), copied))
            else:
                written = await _written(urls.application, plan.records)
                pairs.append((written, await _copied(urls.application, plan.records)))
    ratio = statistics.median(100 * written / copied for written, copied in pairs)
    return [
        Row(f"durable records/s with {CALLERS} callers, share of COPY of the same rows", ratio, "%", FLOOR),
        Row(f"durable records/s with {CALLERS} callers", statistics.median(one for one, _ in pairs), "records/s"),
        Row("COPY of the same rows", statistics.median(one for _, one in pairs), "records/s"),
    ]


async def _written(url: str, count: int) -> float:
    """Records a second, by callers who each wait for theirs."""
    waiting = _records(count)

    async with GroupCommitLog(lambda: asyncpg.connect(url), Metrics(), Pulse()) as log:

        async def caller() -> None:
            for record in waiting:
                await log.write(record)

        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return count / (time.perf_counter() - started)


async def _copied(url: str, count: int) -> float:
    rows = [record.row() for record in _records(count)]
    connection = await asyncpg.connect(url)
    try:
        started = time.perf_counter()
        await connection.copy_records_to_table("audit_record", records=rows, columns=COLUMN_NAMES)
        return count / (time.perf_counter() - started)
    finally:
        await connection.close()


def _records(count: int) -> Iterator[Record]:
    """Records as a read makes them, ready to be written: of how they are made, the other rows tell."""
    return iter([_record(UUID(int=number % 500)) for number in range(count)])


def _record(user: UUID) -> Record:
    key, at = new_id(), datetime.now(UTC)
    columns = Columns(
        *(key, Phase.DONE, at, "domain_user", "succeeded", f"user:{user}", user, key.hex, "domain", user),
        target_id=str(user),
        target_domain_id=user,
        target_user_id=user,
        rule="domain.csv:17",
        policy="0" * 64,
    )
    told = {
        "id": str(key),
        "phase": "done",
        "at": at,
        "action": "domain_user",
        "entity": "user",
        "operation": "get",
        "principal": {"kind": "user", "name": f"user:{user}", "credential": "AK" + "X" * 18},
        "changes": [],
        "decision": {"allowed": True, "rule": "domain.csv:17", "policy": "0" * 64, "roles": ["domain_admin"]},
        "scope": {"type": "domain", "lineage": [{"type": "domain", "id": str(user)}]},
        "uses": [],
        "request": {"id": key.hex, "surface": "rest"},
        "result": "succeeded",
        "v": 1,
        "salt": key.hex,
        "sealed": [{"subject": str(user), "commitment": "0" * 64}],
    }
    return Record(columns, canonical(told), b'{"%s":"%s"}' % (str(user).encode(), b"x" * 80))
