"""A supervisor with tiny workers as a process of its own, so that it can be interrupted and killed.

Usage: tiny_server.py MANNER WORKERS. Says what happens on standard output, one JSON object a line; its workers
inherit that pipe, so its end is the end of them all.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from server.supervisor import Supervisor

WORKER = (sys.executable, str(Path(__file__).with_name("tiny_worker.py")))
ROOT = Path(__file__).resolve().parents[1]


def say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def foundation() -> AsyncIterator[Mapping[str, str]]:
    say(foundation="laid")
    yield {"PYTHONPATH": str(ROOT), "TINY_SETTING": "from the foundation"}
    say(foundation="removed")


async def main(manner: str, workers: int) -> int:
    supervisor = Supervisor((*WORKER, manner), workers=workers, port=0, metrics_port=0, grace=30.0)

    def ready() -> None:
        pids = [worker.pid for worker in supervisor.workers.values()]
        say(http=supervisor.http_address, metrics=supervisor.metrics_address, pids=pids)

    return await supervisor.run(foundation(), ready)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sys.exit(asyncio.run(main(sys.argv[1], int(sys.argv[2]))))
