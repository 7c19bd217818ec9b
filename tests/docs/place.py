"""Where the documentation's commands run: a real server on its own database, in a folder that looks like a checkout.

The server is started as a reader would start it, on the test run's PostgreSQL; then the personas that the pages speak
of are made, by requests like any other: dana, an admin of the domain *research*, mia, a member, and olga, who audits
everything. Beside the server runs a witness of its log.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from server.cli.signing_client import Credentials, SignedClient
from server.embedded import DatabaseUrls
from server.witness import make_key
from tests.docs.blocks import ROOT, Command
from tests.docs.likeness import Drift, Likeness
from tests.retention.support import FEBRUARY, OLD, make_room, write
from tests.world.stage import PASSWORD, Stage

SHOWN_HOME = "/home/ada"
"""How the pages spell the reader's home; the checkout lies in it."""
_PATIENCE = 240.0
"""Seconds after which something that should end has not: generous, since some of the commands compute."""
WITNESS = "witness.example.org/1"
_WITNESS_KEY = "witness.key"
_CHAMBERLAIN = ".venv/bin/chamberlain"
_LAST = "chamberlain audit tail\n"
"""The end of what a start prints; what follows is said only to those who brought a PostgreSQL of their own."""


@dataclass
class Place:
    """``home`` holds the checkout, and the data folder where it is by default. ``keys`` are the personas'.

    ``begun`` is what the commands printed that go on for as long as the place stands, or came before it.
    ``in_time`` is the number of seconds that the server may take for what it does by itself.
    """

    home: Path
    environment: Mapping[str, str]
    begun: dict[str, str] = field(default_factory=dict)
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)
    in_time: float = 30.0

    @property
    def checkout(self) -> Path:
        return self.home / "chamberlain"

    def check(self, command: Command, likeness: Likeness) -> None:
        """Run a command and compare what it prints with what the page shows. Raises ``Drift``."""
        deadline = time.monotonic() + self.in_time
        while True:
            output = self._run(command, likeness)
            try:
                return likeness.compare(command.output, output)
            except Drift as drift:
                drift.output = output
                if not command.patient or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def _run(self, command: Command, likeness: Likeness) -> str:
        """What the command prints, its errors included, with this machine's folders spelled as in the pages."""
        text = likeness.command(command.text)
        if text in self.begun:
            return self._spelled(self.begun[text])
        done = subprocess.run(
            ["/bin/sh", "-c", text],
            cwd=self.checkout,
            env=self._as(command.who),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        return self._spelled(done.stdout)

    def populate(self) -> None:
        """Make the personas."""
        with SignedClient.of(Credentials.from_file(self._kept)) as client:

            def post(path: str, body: dict[str, str]) -> dict[str, str]:
                answer = client.request("POST", path, json=body)
                assert answer.status_code == 201, answer.text
                made: dict[str, str] = answer.json()
                return made

            post("/admin/domains", {"name": "research"})

            def person(name: str, domain: str) -> str:
                new = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
                user = post(f"/domains/{domain}/users", new)
                issued = post(f"/users/{user['id']}/keypairs", {})
                self.keys[name] = (issued["access_key"], issued["secret_key"])
                return user["id"]

            dana = person("dana", "research")
            post("/domains/research/role-bindings", {"user_id": dana, "role": "domain_admin"})
            person("mia", "research")
            post("/admin/role-bindings", {"user_id": person("olga", "default"), "role": "auditor"})

    def _as(self, who: str) -> dict[str, str]:
        """The environment of a persona's terminal. Root's credentials are in the data folder."""
        if who == "root":
            return dict(self.environment)
        access, secret = self.keys[who]
        signing = {"CHAMBERLAIN_ENDPOINT": self.address}
        signing |= {"CHAMBERLAIN_ACCESS_KEY": access, "CHAMBERLAIN_SECRET_KEY": secret}
        return {**self.environment, **signing}

    @property
    def _kept(self) -> Path:
        return self.home / ".local" / "share" / "chamberlain" / "credentials.json"

    def _spelled(self, output: str) -> str:
        return output.replace(str(self.home), SHOWN_HOME)

    @property
    def address(self) -> str:
        """Where the server answers."""
        return Credentials.from_file(self._kept).endpoint

    @property
    def metrics_address(self) -> str:
        return self.begun["make run"].partition("metrics at ")[2].splitlines()[0]

    def log_key(self) -> str:
        """The public key of the server's log."""
        with SignedClient.of(Credentials.from_file(self._kept)) as client:
            answer = client.request("GET", "/admin/audit-keys")
            assert answer.status_code == 200, answer.text
            [key] = answer.json()["items"]
            return str(key["public_key"])


AGED = ("retention.md",)
"""The pages that want a log that is years old."""


@contextmanager
def standing(stage: Stage, home: Path, *, aged: bool = False) -> Iterator[Place]:
    """A server of its own for as long as the block runs. If ``aged``, its log has been kept since 2020."""
    name = "documentation_aged" if aged else "documentation"
    urls = asyncio.run(stage.postgres.create_database(name))
    try:
        place = Place(home, _environment(home, urls))
        place.checkout.mkdir()
        (place.checkout / ".venv").symlink_to(sys.prefix)
        shutil.copytree(ROOT / "policies", place.checkout / "policies")
        (place.checkout / "audit").mkdir()
        shutil.copy(ROOT / "audit" / "verify.py", place.checkout / "audit")
        with _reserved_port() as port, _serving(place, port), _witnessing(place, port):
            place.populate()
            if aged:
                asyncio.run(_age(urls))
            yield place
    finally:
        asyncio.run(stage.postgres.drop_database(name))


def _environment(home: Path, urls: DatabaseUrls) -> dict[str, str]:
    foreign = ("CHAMBERLAIN_", "XDG_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
        "HOME": str(home),
        "CHAMBERLAIN_POLICY_DIR": str(home / "chamberlain" / "policies"),
        "CHAMBERLAIN_DATABASE_URL": urls.application,
        "CHAMBERLAIN_MIGRATOR_DATABASE_URL": urls.migrator,
        "CHAMBERLAIN_DATABASE_POOL": "4",
        "CHAMBERLAIN_HTTP_PORT": "0",
        "CHAMBERLAIN_METRICS_PORT": "0",
        "CHAMBERLAIN_WORKERS": "1",
        "CHAMBERLAIN_POLICY_POLL_SECONDS": "0.1",
    }


async def _age(urls: DatabaseUrls) -> None:
    """Give the log records of February 2020, in a part of their own, with their indexes."""
    numbered = f"SELECT count(*) FROM {OLD} JOIN audit_leaf USING (action_id, phase)"
    connection = await asyncpg.connect(urls.migrator)
    try:
        await make_room(connection)
        await write(connection, *FEBRUARY)
        async with asyncio.timeout(_PATIENCE):
            while await connection.fetchval(numbered) < len(FEBRUARY):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


@contextmanager
def _reserved_port() -> Iterator[int]:
    """A port that nobody else is given: the server has to know where its witness is before that one runs."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def _serving(place: Place, witness_port: int) -> Iterator[None]:
    """``chamberlain serve`` from the moment it says so until the end, with a witness that is yet to come."""
    key = str(make_key(WITNESS, place.checkout / _WITNESS_KEY))
    place.begun[f"{_CHAMBERLAIN} witness keygen {WITNESS} {_WITNESS_KEY}"] = f"{key}\n"
    asked = {"CHAMBERLAIN_AUDIT_WITNESSES": f"{key}@http://127.0.0.1:{witness_port}"}
    place.environment = {**place.environment, **asked}
    with _running(place, "server", ["serve"], _LAST) as printed:
        place.begun["make run"] = printed.partition(_LAST)[0] + _LAST
        yield


@contextmanager
def _witnessing(place: Place, port: int) -> Iterator[None]:
    """``chamberlain witness serve``, told of the server's log."""
    arguments = ["witness", "serve", _WITNESS_KEY, "--log", place.log_key()]
    with _running(place, "witness", [*arguments, "--port", str(port)], "listens on") as printed:
        place.begun[" ".join([_CHAMBERLAIN, *arguments])] = printed
        yield


@contextmanager
def _running(place: Place, name: str, arguments: Sequence[str], last: str) -> Iterator[str]:
    """A command from the moment it has printed ``last`` until the end, and what it printed; its log lies beside."""
    out, log = place.checkout / f"{name}.printed", place.checkout / f"{name}.log"
    with out.open("wb") as printed, log.open("wb") as said:
        process = subprocess.Popen(
            [_CHAMBERLAIN, *arguments], cwd=place.checkout, env=dict(place.environment), stdout=printed, stderr=said
        )
    try:
        deadline = time.monotonic() + _PATIENCE
        while last not in out.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield out.read_text()
    finally:
        process.terminate()
        assert process.wait(_PATIENCE) in (0, -signal.SIGTERM)
