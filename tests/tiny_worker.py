"""A real worker with next to nothing in it: the real link, real metrics and uvicorn around one route.

How it is to behave stands in front of its assignment: ``well``, ``broken`` (it cannot start), ``stubborn`` (it does
not leave by itself) or ``quiet`` (it sends what it counted only when asked).
"""

import asyncio
import json
import os
import sys
import time

import uvicorn

from server.http.metrics import Metrics
from server.worker_link import INTERVAL, Assignment, WorkerLink


async def main(manner: str, assignment: Assignment) -> None:
    metrics = Metrics()
    listener = assignment.listener()

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        metrics.request_started()
        if scope["path"] == "/slow":  # answered only once the end is near
            await link.stopping.wait()
        me = {
            "pid": os.getpid(),
            "worker": assignment.worker,
            "housekeeper": assignment.housekeeper,
            "draining": link.draining.is_set(),
            "setting": os.environ.get("TINY_SETTING"),
        }
        metrics.request_finished(scope["path"], scope["method"], 200, 0.1, "0af7651916cd43dd8448eb211c80319c")
        body = json.dumps(me).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": body})

    interval = 3600.0 if manner == "quiet" else INTERVAL
    async with WorkerLink(assignment, metrics.snapshot, interval=interval, orphan_grace=1.0) as link:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 -- uvicorn has no event for it
            await asyncio.sleep(0.01)
        await link.ready()
        await link.stopping.wait()
        if manner == "stubborn":
            os.write(1, b'{"stuck": true}\n')
        while manner == "stubborn":
            time.sleep(1)  # noqa: ASYNC251 -- the event loop is stuck, on purpose
        server.should_exit = True
        await serving


if __name__ == "__main__":
    how, *rest = sys.argv[1:]
    if how == "broken":
        sys.stderr.write("loading\n")
        raise ValueError("no such database")
    asyncio.run(main(how, Assignment.parse(rest)))
