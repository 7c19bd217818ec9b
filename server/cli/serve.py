"""``chamberlain serve``: the supervisor with its workers, on the embedded PostgreSQL or one of the user's own."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from rich.console import Console

from server.embedded import EmbeddedPostgres
from server.embedded_account import EmbeddedPostgresError
from server.logging import configure
from server.settings import Settings
from server.supervisor import StartFailed, Supervisor


async def serve(settings: Settings) -> int:
    """Run until told to stop; returns the exit code."""
    configure(settings.log_level)
    supervisor = Supervisor(
        [sys.executable, "-m", "server.worker"],
        workers=settings.workers,
        host=settings.http_host,
        port=settings.http_port,
        metrics_host=settings.metrics_host,
        metrics_port=settings.metrics_port,
        grace=settings.grace_seconds,
        drain_delay=settings.drain_seconds,
    )
    first: list[bool] = []
    return await supervisor.run(
        _standing(settings, supervisor, first), on_ready=lambda: _welcome(settings, supervisor, first=any(first))
    )


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[tuple[str, str]]:
    """The database's addresses, as migrator and as application. The embedded one runs for as long as this is open."""
    if settings.database_url is not None:
        own = settings.database_url.get_secret_value()
        migrator = settings.migrator_database_url
        yield (migrator.get_secret_value() if migrator else own), own
        return
    embedded = EmbeddedPostgres(settings.data_dir, system_dir=settings.system_dir)
    try:
        urls = await embedded.start()
    except EmbeddedPostgresError as error:
        raise StartFailed(str(error)) from error
    try:
        yield urls.migrator, urls.application
    finally:
        await embedded.stop()


@asynccontextmanager
async def _standing(settings: Settings, supervisor: Supervisor, first: list[bool]) -> AsyncIterator[Mapping[str, str]]:
    """What the workers stand on: a database with its schema, a policy in force, somebody who may do something."""
    await asyncio.to_thread(settings.data_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
    async with database(settings) as (migrator, application):
        first.append(await _set_up(supervisor, migrator, application))
        yield {"CHAMBERLAIN_WORKER_DATABASE_URL": application}


async def _set_up(supervisor: Supervisor, migrator: str, application: str) -> bool:
    environment = {
        **os.environ,
        "CHAMBERLAIN_HTTP_PORT": str(supervisor.http_address[1]),
        "CHAMBERLAIN_SETUP_MIGRATOR_URL": migrator,
        "CHAMBERLAIN_SETUP_DATABASE_URL": application,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.setup", env=environment, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        answer, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise StartFailed("the set-up failed; its reason stands above")
    return bool(json.loads(answer)["first"])


def _welcome(settings: Settings, supervisor: Supervisor, *, first: bool) -> None:
    host, port = supervisor.http_address
    metrics_host, metrics_port = supervisor.metrics_address
    out = Console(highlight=False, soft_wrap=True)
    out.print(
        f"[bold]Chamberlain[/] serves http://{host}:{port}, metrics at http://{metrics_host}:{metrics_port}/metrics"
    )
    path = settings.credentials_path
    if first:
        told = json.loads(path.read_text())
        out.print(f"\nThe first superadmin, shown this once and kept in {path}:")
        for name in ("username", "password", "access_key", "secret_key"):
            out.print(f"  {name:<11} {told[name]}", markup=False)
    out.print("\nTry, in another terminal:")
    for command in (
        "chamberlain api GET /auth/whoami",
        """chamberlain api GET /admin/users --filter '{"username": {"equals": "root"}}'""",
        "chamberlain audit tail",
    ):
        out.print(f"  .venv/bin/{command}", markup=False)
