"""The processes of a benchmark: PostgreSQL, Chamberlain as ``chamberlain serve`` runs it, the bare server, the load.

Everything lives in one temporary folder and ends with the block that started it.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg

from server.embedded import DatabaseUrls, EmbeddedPostgres
from tests.bench import bare
from tests.bench.load import Job, Load

START_SECONDS = 120.0
MARK = "made for a benchmark, and thrown away after it"
"""Stands as a comment on the bench's own database, and on no other."""
CONNECTIONS = 10
"""Database connections of each worker, Chamberlain's and the bare server's alike."""


class BenchFailed(Exception):
    """Something that was to be measured did not work."""


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder that an unprivileged PostgreSQL can reach."""
    made = Path(tempfile.mkdtemp(prefix="chamberlain-bench-", dir="/tmp"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@asynccontextmanager
async def postgres(place: Path) -> AsyncIterator[DatabaseUrls]:
    data = place / "postgres"
    data.mkdir(mode=0o700)
    server = EmbeddedPostgres(data, system_dir=place / "system")
    try:
        urls = await server.start()
        await _mark(urls.migrator)
        yield urls
    finally:
        await server.stop()


async def _mark(url: str) -> None:
    """Without it no program of the bench takes the database for one on which nothing has to be recorded."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"COMMENT ON DATABASE chamberlain IS '{MARK}'")
    finally:
        await connection.close()


@dataclass(frozen=True)
class Served:
    """A running server: the port it answers on, and its process."""

    port: int
    process: asyncio.subprocess.Process

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"server.worker" in _command(int(pid))]


def resident_mib(pid: int) -> float:
    """The memory of a process, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _command(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


@asynccontextmanager
async def chamberlain(data: Path, settings: Mapping[str, str], workers: int) -> AsyncIterator[Served]:
    """``chamberlain serve``, ready to answer; its log goes to a file, at the level that is the default."""
    data.mkdir(mode=0o700, exist_ok=True)  # noqa: ASYNC240 - nothing else runs yet
    environment = _environment(data, settings, workers)
    command = [sys.executable, "-c", "from server.cli.main import main; main()", "serve"]
    async with _running(command, environment, rb"serves http://[^ :]+:(\d+)", log=data / "server.log") as served:
        yield served


@asynccontextmanager
async def unrecorded(data: Path, settings: Mapping[str, str], workers: int) -> AsyncIterator[Served]:
    """The same server on the same database, but that it records nothing; ``chamberlain`` has set the database up."""
    command = [sys.executable, "-m", "tests.bench.unrecorded", "serve"]
    async with _running(command, _environment(data, settings, workers), rb"^(\d+)$", data / "unrecorded.log") as served:
        yield served


@asynccontextmanager
async def bare_server(place: Path, database_url: str, workers: int) -> AsyncIterator[Served]:
    command = [sys.executable, "-m", "tests.bench.bare", "serve", str(workers), str(CONNECTIONS)]
    environment = {**os.environ, bare.DATABASE_URL: database_url}
    async with _running(command, environment, rb"^(\d+)$", log=place / "bare.log") as served:
        yield served


def _environment(data: Path, settings: Mapping[str, str], workers: int) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CHAMBERLAIN_")} | {
        "CHAMBERLAIN_DATA_DIR": str(data),
        "CHAMBERLAIN_HTTP_PORT": "0",
        "CHAMBERLAIN_METRICS_PORT": "0",
        "CHAMBERLAIN_WORKERS": str(workers),
        "CHAMBERLAIN_DATABASE_POOL": str(CONNECTIONS),
        **settings,
    }


@asynccontextmanager
async def _running(
    command: list[str], environment: Mapping[str, str], announces: bytes, log: Path
) -> AsyncIterator[Served]:
    """A server process, once it has printed its port; stopped with SIGTERM."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=errors, start_new_session=True
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while line := await process.stdout.readline():
                if found := re.search(announces, line.strip()):
                    break
            else:
                raise BenchFailed(f"a server did not start: {_end_of(log)}")
        draining = asyncio.create_task(process.stdout.read())
        yield Served(int(found[1]), process)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(START_SECONDS):
            code = await process.wait()
            await draining
        if code != 0:
            raise BenchFailed(f"a server ended with {code}: {_end_of(log)}")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _end_of(log: Path) -> str:
    return log.read_text()[-2000:]


class Generator:
    """The load generator's process; carries out one job at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.answered: Counter[tuple[int, str]] = Counter()
        """How many requests were answered, by port and the job's name."""

    async def run(self, job: Job) -> Load:
        """Raises ``BenchFailed`` if not every answer was a success."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        told: dict[str, Any] = json.loads(await self._process.stdout.readline())
        if "error" in told:
            raise BenchFailed(f"{job.method} {job.paths[0]}: {told['error']}")
        load = Load(**told)
        if load.statuses.keys() != {"200"}:
            raise BenchFailed(f"{job.method} {job.paths[0]} was answered {load.statuses}")
        self.answered[job.port, job.name] += load.answered
        return load


@asynccontextmanager
async def generator() -> AsyncIterator[Generator]:
    async with _piped() as process:
        yield Generator(process)


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that does nothing; its port."""
    async with _piped("--echo") as process:
        assert process.stdout is not None
        yield int(await process.stdout.readline())


@asynccontextmanager
async def _piped(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.load",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
