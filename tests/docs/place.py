"""Where the documentation's commands run: a real server on its own database, in a folder that looks like a checkout.

The server is started as a reader would start it, on the test run's PostgreSQL; then the personas that the pages speak
of are made, by requests like any other: dana, an admin of the domain *research*, and mia, a member.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from server.cli.signing_client import Credentials, SignedClient
from server.embedded import DatabaseUrls
from tests.docs.blocks import ROOT, Command
from tests.docs.likeness import Drift, Likeness
from tests.world.stage import PASSWORD, Stage

SHOWN_HOME = "/home/ada"
"""How the pages spell the reader's home; the checkout lies in it."""
_PATIENCE = 240.0
"""Seconds after which something that should end has not: generous, since some of the commands compute."""
_LAST = "chamberlain audit tail\n"
"""The end of what a start prints; what follows is said only to those who brought a PostgreSQL of their own."""


@dataclass
class Place:
    """``home`` holds the checkout, and the data folder where it is by default. ``keys`` are the personas'.

    ``in_time`` is the number of seconds that the server may take for what it does by itself.
    """

    home: Path
    environment: Mapping[str, str]
    welcome: str = ""
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
        if command.text == "make run":
            return self._spelled(self.welcome)
        done = subprocess.run(
            ["/bin/sh", "-c", likeness.command(command.text)],
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
            for name in ("dana", "mia"):
                new = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
                user = post("/domains/research/users", new)
                issued = post(f"/users/{user['id']}/keypairs", {})
                self.keys[name] = (issued["access_key"], issued["secret_key"])
                if name == "dana":
                    post("/domains/research/role-bindings", {"user_id": user["id"], "role": "domain_admin"})

    def _as(self, who: str) -> dict[str, str]:
        """The environment of a persona's terminal. Root's credentials are in the data folder."""
        if who == "root":
            return dict(self.environment)
        access, secret = self.keys[who]
        signing = {"CHAMBERLAIN_ENDPOINT": Credentials.from_file(self._kept).endpoint}
        signing |= {"CHAMBERLAIN_ACCESS_KEY": access, "CHAMBERLAIN_SECRET_KEY": secret}
        return {**self.environment, **signing}

    @property
    def _kept(self) -> Path:
        return self.home / ".local" / "share" / "chamberlain" / "credentials.json"

    def _spelled(self, output: str) -> str:
        return output.replace(str(self.home), SHOWN_HOME)


@contextmanager
def standing(stage: Stage, home: Path) -> Iterator[Place]:
    """A server of its own for as long as the block runs."""
    name = "documentation"
    urls = asyncio.run(stage.postgres.create_database(name))
    try:
        place = Place(home, _environment(home, urls))
        place.checkout.mkdir()
        (place.checkout / ".venv").symlink_to(sys.prefix)
        shutil.copytree(ROOT / "policies", place.checkout / "policies")
        with _serving(place):
            place.populate()
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


@contextmanager
def _serving(place: Place) -> Iterator[None]:
    """``chamberlain serve`` from the moment it says so until the end; its log goes to ``server.log``."""
    printed, log = place.checkout / "printed", place.checkout / "server.log"
    with printed.open("wb") as out, log.open("wb") as err:
        server = subprocess.Popen(
            [".venv/bin/chamberlain", "serve"], cwd=place.checkout, env=dict(place.environment), stdout=out, stderr=err
        )
    try:
        deadline = time.monotonic() + _PATIENCE
        while _LAST not in printed.read_text():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        place.welcome = printed.read_text().partition(_LAST)[0] + _LAST
        yield
    finally:
        server.terminate()
        assert server.wait(_PATIENCE) == 0
