"""What a reload costs those who are being served meanwhile: the p99 of a steady load while policies of 10,000 rules
follow one another in the folder, against the p99 of the same load while nothing changes.

A reload is the whole of it, from the edit of the folder to the last worker's swap: settling, the check in its own
process with stock Casbin beside it, the publication, and compiling in each worker.
"""

import asyncio
import shutil
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from server.cli.signing_client import Credentials
from tests.bench import servers
from tests.bench.decisions import generated
from tests.bench.load import Job, Load
from tests.bench.rows import Row
from tests.bench.servers import BenchFailed, Generator, Served

POLICIES = Path(__file__).resolve().parents[2] / "policies"
CEILING = 2.0
_SECONDS = 60.0
_POLL = 0.1


@dataclass(frozen=True)
class Plan:
    """``pairs`` of turns of ``seconds``, one with reloads and one without, at ``rate`` requests a second."""

    rules: int = 10_000
    pairs: int = 7
    seconds: float = 4.0
    rate: float = 250.0
    connections: int = 8


QUICK = Plan(rules=1_000, pairs=1, seconds=0.2)
"""The pair before them is not counted: caches are cold in it."""


async def measure(place: Path, plan: Plan) -> list[Row]:
    folder = place / "policies"
    shutil.copytree(POLICIES, folder)
    grow(folder, plan.rules)
    data = place / "reload"
    settings = {"CHAMBERLAIN_SYSTEM_DIR": str(place / "starts"), "CHAMBERLAIN_POLICY_DIR": str(folder)}
    async with servers.generator() as generator, servers.chamberlain(data, settings, workers=1) as ours:
        credentials = Credentials.from_file(data / "credentials.json")
        job = Job("steady", ours.port, "GET", ["/users/me"], int(plan.rate * plan.seconds), plan.connections)
        signed = replace(job, access_key=credentials.access_key, secret_key=credentials.secret_key, rate=plan.rate)
        signed = replace(signed, paths=["/users/me"] * plan.connections)
        editor = _Editor(folder, ours)
        pairs = [await _pair(generator, signed, editor, number) for number in range(plan.pairs + 1)][1:]
    ratio = statistics.median(reloading.p99 / quiet.p99 for quiet, reloading in pairs)
    quiet = statistics.median(quiet.p99 for quiet, _ in pairs)
    return [
        Row(f"p99 during reloads of {plan.rules:,} rules, against without", ratio, "x", CEILING, "at most"),
        Row(f"p99 of {plan.rate:.0f} requests/s without a reload", quiet, "ms"),
        Row("from the edit of the folder until it decides", statistics.median(editor.taken), "s"),
    ]


async def _pair(generator: Generator, job: Job, editor: "_Editor", number: int) -> tuple[Load, Load]:
    """A quiet turn and one with reloads; which goes first alternates. The worker is looked at in both."""
    turns = {edits: await _turn(generator, job, editor, edits) for edits in (number % 2 == 1, number % 2 == 0)}
    return turns[False], turns[True]


async def _turn(generator: Generator, job: Job, editor: "_Editor", edits: bool) -> Load:
    editing = asyncio.create_task(editor.run(edits))
    try:
        return await generator.run(job)
    finally:
        editor.stop()
        await editing


class _Editor:
    """Edits the folder, waits until the worker decides by the edit, and edits it again, until it is told to stop; or
    only looks at what the worker decides by, as often."""

    def __init__(self, folder: Path, ours: Served) -> None:
        self._edited = folder / "user.csv"
        self._whole = self._edited.read_text()
        self._url = f"http://127.0.0.1:{ours.port}/readyz?verbose"
        self._edits = 0
        self._stopped = False
        self.taken: list[float] = []

    def stop(self) -> None:
        self._stopped = True

    async def run(self, edits: bool) -> None:
        self._stopped = False
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient() as client, asyncio.timeout(_SECONDS):
            before = await self._deciding(client)
            while not self._stopped:
                if not edits:
                    await asyncio.sleep(_POLL)
                    await self._deciding(client)
                    continue
                self._edits += 1
                self._edited.write_text(f"{self._whole}# edit {self._edits}\n")
                started = loop.time()
                while (now := await self._deciding(client)) == before:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL)
                self.taken.append(loop.time() - started)
                before = now

    async def _deciding(self, client: httpx.AsyncClient) -> str:
        """The version that the worker decides by."""
        checks = (await client.get(self._url)).json()["checks"]
        if "errors" in checks["policy_folder"]["detail"]:
            raise BenchFailed(checks["policy_folder"]["detail"])
        return str(checks["policy"]["detail"])


def grow(folder: Path, rules: int) -> None:
    """Add so many generated rules, and the roles that they speak of."""
    policy = generated(rules, 0)
    roles = "".join(
        f"\n{name}:\n  bindable: [admin, domain, project]\n  sentence: A role of the benchmark.\n"
        for name in policy.parsed.roles
    )
    added = {"roles.yaml": roles}
    for rule in policy.rules:
        line = f"p, {rule.role}, {rule.scope}, {rule.entity}, {rule.operation}, {rule.effect}\n"
        added[rule.file] = added.get(rule.file, "") + line
    for name, text in added.items():
        with (folder / name).open("a") as file:
            file.write(text)
