"""One worker: ``python -m server.worker``, started by the supervisor with an assignment and the database's address."""

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import Iterator

import uvicorn
import uvloop

from server.app import application, http_app
from server.http.metrics import Metrics, sample_event_loop_lag
from server.http.protocol import ProblemProtocol
from server.logging import configure
from server.settings import Settings, load
from server.worker_link import Assignment, WorkerLink

DATABASE_URL = "CHAMBERLAIN_WORKER_DATABASE_URL"
"""How the supervisor tells a worker its database; a setting of nobody's."""


class _Server(uvicorn.Server):
    """uvicorn leaves the signals to the worker's link."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(assignment: Assignment, settings: Settings, database_url: str) -> None:
    """Serve until told to stop, then finish what was begun and write what waits."""
    metrics = Metrics()
    async with (
        WorkerLink(assignment, metrics.snapshot) as link,
        application(settings, database_url, metrics) as app,
    ):
        if not await app.policy.start(settings.policy_dir):
            raise RuntimeError("the database holds no active policy")
        async with app.working(housekeeper=assignment.housekeeper):
            config = uvicorn.Config(
                http_app(app, link.draining),
                loop="none",
                http=ProblemProtocol,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=int(settings.grace_seconds) or 1,
            )
            server = _Server(config)
            lag = asyncio.create_task(sample_event_loop_lag(metrics))
            serving = asyncio.create_task(server.serve(sockets=[assignment.listener()]))
            while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells it by a flag alone
                await asyncio.sleep(0.005)
            # What is loaded by now stays, so the collector need not walk it; and what a request makes dies with it
            # by reference counting, so the collector need not look every 700 objects, several times a request.
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 20, 20)
            await link.ready()
            await asyncio.wait(
                {serving, asyncio.create_task(link.stopping.wait())}, return_when=asyncio.FIRST_COMPLETED
            )
            server.should_exit = True
            await serving
            lag.cancel()


def main() -> None:
    assignment = Assignment.parse(sys.argv[1:])
    database_url = os.environ.pop(DATABASE_URL)
    settings = load()
    configure(settings.log_level)
    uvloop.run(run(assignment, settings, database_url))


if __name__ == "__main__":
    main()
