"""Running the command line in tests: in this process where it can be, and a real server for it to talk to."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from typer.testing import CliRunner, Result

from server.cli.main import app
from server.embedded import urls_of_running
from server.repositories.database import Connection
from tests.world.ground import ground

ROOT = Path(__file__).resolve().parent.parent
POLICIES = ROOT / "policies"
PROGRAM = Path(sys.executable).parent / "chamberlain"
PATIENCE = 60.0  # seconds after which something that should happen has not
T = TypeVar("T")


@dataclass
class Installation:
    """A data folder and what a server needs to run on it; ``said`` is what the server printed."""

    folder: Path
    said: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def credentials_path(self) -> Path:
        return self.folder / "data" / "credentials.json"

    @property
    def credentials(self) -> dict[str, str]:
        told: dict[str, str] = json.loads(self.credentials_path.read_text())
        return told

    def api(self, *arguments: str, input: str | None = None, **environment: str) -> Result:
        return invoke("api", *arguments, input=input, **self.environment, **environment)

    def run(self, *arguments: str) -> Result:
        return invoke(*arguments, **self.environment)

    def tail(self, count: int = 1000) -> list[dict[str, Any]]:
        """The latest records, less what the sweeper writes when it likes."""
        done = self.run("audit", "tail", "-n", str(count), "--format", "json")
        assert done.exit_code == 0, done.stderr
        records = [json.loads(line) for line in done.stdout.splitlines()]
        return [record for record in records if record["principal"]["name"] != "system:sweeper"]


def bare(**environment: str) -> dict[str, str]:
    """The environment of a fresh terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHAMBERLAIN_")}
    return {**kept, "COLUMNS": "300", **environment}


def invoke(*arguments: str, input: str | None = None, **environment: str) -> Result:
    cleared: Mapping[str, str | None] = {name: None for name in os.environ if name.startswith("CHAMBERLAIN_")}
    environment = {"COLUMNS": "300", **environment}
    return CliRunner().invoke(app, arguments, input=input, env={**cleared, **environment}, catch_exceptions=False)


def in_one_line(result: Result) -> str:
    """The complaint of a command that could not run."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("chamberlain: ")
    return result.stderr


def in_database(server: Installation, work: Callable[[Connection], Awaitable[T]]) -> T:
    """As the owner of the database, whom no trigger stops."""

    async def run() -> T:
        urls = await urls_of_running(server.folder / "data")
        assert urls is not None
        connection = await asyncpg.connect(urls.migrator)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@contextmanager
def installed() -> Iterator[Installation]:
    folder = ground("chamberlain-test-")
    shutil.copytree(POLICIES, folder / "policies", ignore=shutil.ignore_patterns("tests"))  # its lines come and go
    environment = {
        "CHAMBERLAIN_DATA_DIR": str(folder / "data"),
        "CHAMBERLAIN_SYSTEM_DIR": str(folder / "system"),
        "CHAMBERLAIN_POLICY_DIR": str(folder / "policies"),
        "CHAMBERLAIN_HTTP_PORT": "0",
        "CHAMBERLAIN_METRICS_PORT": "0",
        "CHAMBERLAIN_WORKERS": "1",
        "CHAMBERLAIN_POLICY_POLL_SECONDS": "0.1",
    }
    try:
        yield Installation(folder, environment=environment)
    finally:
        shutil.rmtree(folder)


@contextmanager
def serving(installation: Installation) -> Iterator[Installation]:
    said, log = installation.folder / "said", installation.folder / "log"
    with said.open("w") as out, log.open("w") as err:
        process = subprocess.Popen(
            [PROGRAM, "serve"], env=bare(**installation.environment), stdout=out, stderr=err, cwd=ROOT
        )
    try:
        until(lambda: "audit tail" in said.read_text() or process.poll() is not None)
        installation.said = said.read_text()
        assert process.poll() is None, log.read_text()
        yield installation
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def amend(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
