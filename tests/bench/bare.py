"""What Chamberlain is compared with: Starlette and asyncpg, and nothing in between.

One route reads a user, one changes a user, in a copy of the users' table. Supervisor, worker link, uvicorn, uvloop and
httptools are those of the server, and so is the number of workers and connections; asyncpg's pool is as it comes.
What is left out is all that Chamberlain is for: signatures, policy, validation, records, metrics, error handling.

    python -m tests.bench.bare serve <workers> <connections>    prints its port; the database is in BENCH_DATABASE_URL
    python -m tests.bench.bare work <connections> ...           is one worker, started by the other
"""

import asyncio
import os
import sys
from uuid import UUID

import asyncpg
import orjson
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.http.metrics import Metrics
from server.logging import configure
from server.supervisor import Supervisor
from server.worker_link import Assignment, WorkerLink

DATABASE_URL = "BENCH_DATABASE_URL"
TABLE = "bench_bare_user"
_COLUMNS = """id, created_at, updated_at, deleted_at IS NOT NULL AS deleted, version, username, email, full_name,
    description, domain_id, status, need_password_change, password_changed_at, allowed_client_ip,
    sudo_session_enabled"""
_SELECT = f"SELECT {_COLUMNS} FROM {TABLE} WHERE id = $1"
_UPDATE = f"""UPDATE {TABLE} SET description = $2, version = version + 1, updated_at = now() WHERE id = $1
    RETURNING {_COLUMNS}"""


def application(pool: "asyncpg.Pool[asyncpg.Record]") -> Starlette:
    async def get(request: Request) -> Response:
        return answer(await pool.fetchrow(_SELECT, UUID(request.path_params["id"])))

    async def patch(request: Request) -> Response:
        change = orjson.loads(await request.body())
        return answer(await pool.fetchrow(_UPDATE, UUID(request.path_params["id"]), change["description"]))

    def answer(row: asyncpg.Record | None) -> Response:
        if row is None:
            return Response(status_code=404)
        return Response(orjson.dumps(dict(row), default=str), media_type="application/json")

    return Starlette(routes=[Route("/users/{id}", get), Route("/users/{id}", patch, methods=["PATCH"])])


async def work(connections: int, assignment: Assignment) -> None:
    async with (
        WorkerLink(assignment, Metrics().snapshot) as link,
        asyncpg.create_pool(os.environ[DATABASE_URL], min_size=1, max_size=connections) as pool,
    ):
        config = uvicorn.Config(
            application(pool),
            loop="none",
            http="httptools",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[assignment.listener()]))
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        await link.ready()
        await link.stopping.wait()
        server.should_exit = True
        await serving


async def serve(workers: int, connections: int) -> int:
    configure("error")
    command = [sys.executable, "-m", "tests.bench.bare", "work", str(connections)]
    supervisor = Supervisor(command, workers=workers, port=0, metrics_port=0)
    return await supervisor.run(on_ready=lambda: print(supervisor.http_address[1], flush=True))


if __name__ == "__main__":
    how, *rest = sys.argv[1:]
    if how == "serve":
        sys.exit(asyncio.run(serve(int(rest[0]), int(rest[1]))))
    uvloop.run(work(int(rest[0]), Assignment.parse(rest[1:])))
