"""``chamberlain serve``: the supervisor with its workers, on the embedded PostgreSQL or one of the user's own."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from server.cli.welcome import welcome
from server.embedded import EmbeddedPostgres
from server.embedded_account import EmbeddedPostgresError
from server.logging import configure
from server.settings import Settings, shown_address
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
    keeping = asyncio.create_task(embedded.keep())
    try:
        yield urls.migrator, urls.application
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await embedded.stop()


@asynccontextmanager
async def _standing(settings: Settings, supervisor: Supervisor, first: list[bool]) -> AsyncIterator[Mapping[str, str]]:
    """What the workers stand on: a database with its schema, a policy in force, somebody who may do something."""
    try:
        await asyncio.to_thread(settings.data_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartFailed(f"cannot use the data folder {settings.data_dir}: {error.strerror}") from error
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
    if not answer:
        raise StartFailed(f"the set-up ended with {process.returncode}; the reason stands above")
    told = json.loads(answer)
    if process.returncode != 0:
        raise StartFailed(told["failed"])
    return bool(told["first"])


def _welcome(settings: Settings, supervisor: Supervisor, *, first: bool) -> None:
    http, metrics = shown_address(*supervisor.http_address), shown_address(*supervisor.metrics_address)
    welcome(settings, http, metrics, first=first)
