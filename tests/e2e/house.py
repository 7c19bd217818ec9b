"""Data folders and the servers on them. A house leaves nothing behind: no process, no file.

Everything here waits by looking again until a deadline; nothing relies on how long something takes.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.e2e.line import Key, Line

T = TypeVar("T")
POLICIES = Path(__file__).resolve().parents[2] / "policies"
CHAMBERLAIN = (str(Path(sys.executable).with_name("chamberlain")), "serve")
PATIENCE = 60.0
"""Seconds after which something that should happen has not."""
SHOWN_WHEN_READY = "Try, in another terminal:"


def until(happens: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The first true answer of ``happens``."""
    deadline = time.monotonic() + patience
    while not (answer := happens()):
        assert time.monotonic() < deadline, f"it did not happen: {what}"
        time.sleep(0.02)
    return answer


class House:
    """A data folder, a copy of the policy folder without its cases, and, for root, a folder for the database.

    All that stands in ``folder``, into which the database's account has to be able to walk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = self.folder / "data"
        self.policies = self.folder / "policies"
        shutil.copytree(POLICIES, self.policies, ignore=shutil.ignore_patterns("tests"))  # lest they gate every edit
        self.command: tuple[str, ...] = CHAMBERLAIN
        self._starts = 0

    @property
    def credentials(self) -> Path:
        return self.data / "credentials.json"

    def environment(self, **settings: object) -> dict[str, str]:
        """The environment of a server here. Nothing of the tests' own ``CHAMBERLAIN_`` variables gets in."""
        given = {
            "data_dir": self.data,
            "system_dir": self.folder / "system",
            "policy_dir": self.policies,
            "http_port": 0,
            "metrics_port": 0,
            "workers": 2,
        } | settings
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CHAMBERLAIN_")}
        return clean | {f"CHAMBERLAIN_{name.upper()}": str(value) for name, value in given.items()}

    def launch(self, **settings: object) -> "Server":
        """A server that is starting."""
        self._starts += 1
        out, err = (self.folder / f"{self._starts}.{name}" for name in ("out", "err"))
        with out.open("wb") as shown, err.open("wb") as logged:
            process = subprocess.Popen(
                self.command,
                env=self.environment(**settings),
                stdin=subprocess.DEVNULL,
                stdout=shown,
                stderr=logged,
                start_new_session=True,
            )
        return Server(self, process, out, err)

    def start(self, **settings: object) -> "Server":
        """A server that serves."""
        server = self.launch(**settings)
        until(lambda: SHOWN_WHEN_READY in server.shown or server.process.poll() is not None, "a start")
        assert server.process.poll() is None, server.log
        return server

    @contextmanager
    def serving(self, **settings: object) -> Iterator["Server"]:
        server = self.start(**settings)
        try:
            yield server
        finally:
            assert server.stop() == 0

    def processes(self) -> list[int]:
        """All that run here: their environment or their command line names the folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
                if os.fsencode(self.folder) in told and _alive(int(process.name)):
                    found.append(int(process.name))
        return found

    def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the running database, as the owner of its tables."""
        home = (self.data / "postgres").resolve().parent

        async def ask() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(
                host=str(home / "socket"), port=5432, user="chamberlain_migrator", database="chamberlain"
            )
            try:
                return list(await connection.fetch(statement, *arguments))
            finally:
                await connection.close()

        return asyncio.run(ask())

    def leave(self) -> None:
        """Remove everything. A process that is still here is ended, and a failure."""
        left = self.processes()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not self.processes(), "the end of what was left behind")
        shutil.rmtree(self.folder)
        assert not left, "a process was left behind"


@dataclass
class Server:
    """One ``chamberlain serve``."""

    house: House
    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    _lines: list[Line] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """What it has printed so far."""
        return self.out.read_text()

    @property
    def log(self) -> str:
        return self.err.read_text()

    def events(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of that name."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if line["event"] == event]

    @property
    def http(self) -> str:
        return _found(r"serves (http://[^,\s]+)", self.shown)

    @property
    def metrics(self) -> str:
        return _found(r"metrics at (http://\S+)", self.shown)

    @property
    def root(self) -> Key:
        told = json.loads(self.house.credentials.read_text())
        return Key(told["access_key"], told["secret_key"])

    def workers(self) -> dict[int, int]:
        """Process ids by place."""
        found = {}
        pid = self.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(OSError):
                command = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
                if "server.worker" in command:
                    place = next(word for word in command if word.startswith("--worker="))
                    found[int(place.removeprefix("--worker="))] = int(child)
        return found

    def line(self, place: int) -> Line:
        """A kept-alive connection to the worker of that place."""
        others = []
        try:
            for _ in range(500):  # the system chooses who accepts, so it takes some tries
                line = Line(self.http)
                self._lines.append(line)
                if line.reaches(self.workers()[place]):
                    return line
                others.append(line)
        finally:
            for line in others:
                line.close()
        raise AssertionError(f"no connection ever came to worker {place}")

    def ask(self, method: str, path: str, body: object = None, *, expect: int = 200, **params: object) -> Any:
        """One request of root's, over a connection of its own, to whichever worker takes it."""
        line = Line(self.http)
        try:
            return line.ask(self.root, method, path, body, expect=expect, **params)
        finally:
            line.close()

    def scrape(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        answer = httpx.get(self.metrics, timeout=PATIENCE)
        assert answer.status_code == 200
        samples = [sample for family in parse_text(answer.text) for sample in family.samples]
        return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a metric over all series with these labels."""
        return sum(v for (n, given), v in self.scrape().items() if n == name and labels.items() <= dict(given).items())

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(PATIENCE)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code. With it go all its processes."""
        for line in self._lines:
            line.close()
        if self.process.poll() is None:
            self.send(number)
        code = self.ended()
        until(lambda: not self.house.processes(), "the end of all processes")
        return code


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


def _alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"
