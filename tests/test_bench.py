"""The benchmark itself: that it runs to its end and says what it promises. What it measures is not judged here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench import unrecorded
from tests.bench.rows import Row, table
from tests.world.world import World

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_a_quick_run_measures_everything_and_writes_its_rows(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", "--quick", "--workers", "1", "--output", str(output)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stderr
    rows: list[dict[str, Any]] = json.loads(output.read_text())
    assert all(row.keys() == {"name", "value", "unit", "floor", "met"} for row in rows)
    signed = "over a bare yes or no"  # a difference, which chance can turn round
    assert all(isinstance(row["value"], float) and (row["value"] > 0 or signed in row["name"]) for row in rows)
    assert all((row["floor"] is None) == (row["met"] is None) for row in rows)
    floors = {row["name"]: (row["floor"], row["unit"]) for row in rows if row["floor"] is not None}
    assert floors == {
        "decision, slowest p99 at any size": (50.0, "us"),
        "decision, growth from 10 to 1,000 rules": (2.0, "x"),
        "decision with its rule at 1,000 rules, over a bare yes or no": (20.0, "%"),
        "p99 during reloads of 1,000 rules, against without": (2.0, "x"),
        "GET of one user, share of the bare server's requests/s": (40.0, "%"),
        "GET of one user with a bearer token, share of the bare server's requests/s": (45.0, "%"),
        "PATCH of one user, share of the bare server's requests/s": (35.0, "%"),
        "get of one user by GraphQL, share of REST's requests/s": (40.0, "%"),
        "batch of 8 updates, share of the cost of as many single ones": (25.0, "%"),
        "memory of one worker after load": (130.0, "MiB"),
        "audited reads, share of the same with recording off": (85.0, "%"),
        "audited mutations, share of the same with recording off": (80.0, "%"),
        "durable records/s with 64 callers, share of COPY of the same rows": (20.0, "%"),
        "verifying a record of 2,000, against one of 200": (1.5, "x"),
        "memory to verify 2,000 records": (100.0, "MiB"),
    }
    for row in rows:
        assert row["name"] in ran.stdout


async def test_what_records_nothing_runs_on_no_database_but_the_benchs_own(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        await unrecorded.refuse_others(world.urls.application)
    assert ended.value.code == 2
    assert "a database of the bench's alone" in capsys.readouterr().err


def test_a_floor_is_met_on_the_side_that_it_says() -> None:
    assert Row("share", 40.0, "%", 40.0).met is True
    assert Row("share", 39.9, "%", 40.0).met is False
    assert Row("memory", 130.0, "MiB", 130.0, "at most").met is True
    assert Row("memory", 130.1, "MiB", 130.0, "at most").met is False
    assert Row("first start", 6.0, "s").met is None


def test_the_table_names_what_was_missed() -> None:
    shown = table([Row("share", 39.9, "%", 40.0), Row("first start", 6.0, "s")])
    assert "at least 40 %" in shown
    assert shown.count("MISSED") == 1
