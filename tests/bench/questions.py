"""How long a security admin waits for an answer about a large policy: all of ``policy check``, and one ``explain``."""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from actions.authorization.answers import CountingRole
from actions.authorization.explain import explain
from actions.authorization.index import compile
from actions.authorization.source import parse, read_folder
from actions.entities import whole_vocabulary
from tests.bench.decisions import generated
from tests.bench.reload import POLICIES, grow
from tests.bench.rows import Row
from tests.bench.servers import BenchFailed

RULES = 10_000


def measure(place: Path, *, quick: bool) -> list[Row]:
    """``place`` is an existing folder that is thrown away. Half of what is explained is allowed."""
    rules, commands, calls = (1_000, 1, 4) if quick else (RULES, 3, 60)
    folder = place / "questioned"
    shutil.copytree(POLICIES, folder)
    grow(folder, rules)
    source, vocabulary = read_folder(folder), whole_vocabulary()
    index = compile(parse(source, vocabulary), vocabulary, source.digest)
    asked = [
        ([CountingRole(role=role) for role in sorted(roles)], permission)
        for roles, permission in generated(rules, calls).requests
    ]
    index.rules  # noqa: B018 - read once, as by the first question
    explained = [_seconds(lambda each=each: explain(index, *each, principal="somebody")) for each in asked]  # type: ignore[misc]
    checked = [_seconds(lambda: _check(folder)) for _ in range(commands)]
    return [
        Row(f"policy check of {rules:,} rules, the whole command", statistics.median(checked), "s"),
        Row(f"explain at {rules:,} rules", 1e3 * statistics.median(explained), "ms"),
        Row(f"explain at {rules:,} rules, the slowest", 1e3 * max(explained), "ms"),
    ]


def _check(folder: Path) -> None:
    command = [sys.executable, "-c", "from server.cli.main import main; main()", "policy", "check", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise BenchFailed(f"policy check ended with {ended.returncode}: {ended.stderr or ended.stdout}")


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
