"""A Chamberlain that records nothing: what the log costs is what this one answers more.

The server has no such switch. This program puts other parts in the place of two of the server's before it starts one;
everything else, the policy, the signatures and their protection from replay, is as it is served. It runs on no other
database than one that ``tests.bench.servers`` has made and marked.

    python -m tests.bench.unrecorded serve      prints its port; settings as for `chamberlain serve`, and a database
    python -m tests.bench.unrecorded work ...   is one worker, started by the other
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
from sqlalchemy import LargeBinary, bindparam, insert, literal_column, select
from sqlalchemy.sql.dml import Delete, Insert, Update

import server.app
import server.repositories.base
import server.repositories.unit
from actions.hooks import Outcome, Result
from actions.recording import Recorder
from audit.log import COLUMN_NAMES
from audit.record import Columns, Phase, Record, new_id
from server import worker
from server.logging import configure
from server.repositories.database import Query
from server.repositories.rows import request_signatures
from server.settings import load
from server.supervisor import Supervisor
from tests.bench.servers import MARK

_MARK = """
    SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()
"""
_NOTHING = Record(Columns(new_id(), Phase.DONE, datetime.now(UTC), "", "", ""), b"", None)


class Unrecorded(Recorder):
    async def record(self, outcome: Outcome, phase: Phase = Phase.DONE, result: Result | None = None) -> Record:
        return _NOTHING

    async def records(self, outcomes: Sequence[Outcome], phase: Phase, foretold: Result) -> list[Record]:
        return []

    async def after(self, outcome: Outcome) -> None:
        outcome.recorded = True


def without_record(change: Update | Insert | Delete) -> Query:
    """A change that writes the signature that asked for it, and no record."""
    changed = change.cte("change")
    digest = bindparam("digest", type_=LargeBinary)
    signature = (
        insert(request_signatures)
        .from_select(["digest"], select(digest).select_from(changed).where(digest.is_not(None)))
        .returning(literal_column("1"))
        .cte("signature")
    )
    return Query(select(changed).add_cte(signature))


def no_columns(records: list[Record]) -> list[list[object]]:
    return [[] for _ in COLUMN_NAMES]


def work() -> None:
    server.app.Recorder = Unrecorded  # type: ignore[attr-defined]
    server.repositories.base.with_record = without_record  # type: ignore[attr-defined]
    server.repositories.unit.columns_of = no_columns  # type: ignore[attr-defined]
    worker.main()


async def serve() -> int:
    configure("error")
    settings = load()
    assert settings.database_url is not None
    await refuse_others(settings.database_url.get_secret_value())
    os.environ[worker.DATABASE_URL] = settings.database_url.get_secret_value()
    command = [sys.executable, "-m", "tests.bench.unrecorded", "work"]
    supervisor = Supervisor(command, workers=settings.workers, port=0, metrics_port=0)
    return await supervisor.run(on_ready=lambda: print(supervisor.http_address[1], flush=True))


async def refuse_others(url: str) -> None:
    """End the program with code 2 on any database but one that the bench has made."""
    connection = await asyncpg.connect(url)
    try:
        mark = await connection.fetchval(_MARK)
    finally:
        await connection.close()
    if mark != MARK:
        sys.stderr.write("This program records nothing, so it runs on a database of the bench's alone; this is none.\n")
        sys.exit(2)


def main() -> None:
    how, *rest = sys.argv[1:]
    if how == "serve":
        sys.exit(asyncio.run(serve()))
    asyncio.run(refuse_others(os.environ[worker.DATABASE_URL]))
    sys.argv[1:] = rest
    work()


if __name__ == "__main__":
    main()
