"""What a run of faults must have done: all kinds of them unless somebody left one out, and all rounds for the page."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.docs import faults_table
from tests.faulting.__main__ import Run, summary, unasked
from tests.faulting.control import Control, Synced
from tests.faulting.counts import Counts
from tests.faulting.history import Told
from tests.faulting.promises import NOTHING, Promised, Waited
from tests.faulting.rounds import Done

PAGE = "# Faults\n\n<!-- faults -->\n\nthe last one\n<!-- end -->\n\nThe end.\n"


def ran(rounds: int, *, ended: bool = True) -> dict[str, Any]:
    times = Promised(Waited(1.75, 0.25), Waited(0.5, 0.0), NOTHING, ())
    done = [Done("log locked", [Told("q", "get", 0, 503)], 3, 2, 0, 0.0, 4, times) for _ in range(rounds)]
    run = Run(7, [], done)
    if ended:
        run.synced, run.control = Synced(100, 120), Control(9, caught=True, tries=1)
        run.counts = [Counts(800, 640, []), Counts(190, 190, [])]
    told: dict[str, Any] = json.loads(json.dumps(summary(run, 1500.0)))
    assert told["good"] == ended
    return told


def write(told: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    page, results = folder / "faults.md", folder / "faults.json"
    page.write_text(PAGE)
    results.write_text(json.dumps(told))
    monkeypatch.setattr(faults_table, "PAGE", page)
    monkeypatch.setattr(faults_table, "RESULTS", results)
    return faults_table.main(), page.read_text()


def test_the_page_tells_of_a_full_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, page = write(ran(200), tmp_path, monkeypatch)
    assert code == 0
    assert "| log locked | 200 | 200 | 200 | 0 | 0 | 1.75 s - 0.25 s | 0.5 s | 0.0 s |\n" in page
    assert "the last one" not in page
    assert page.endswith("<!-- end -->\n\nThe end.\n")


@pytest.mark.parametrize(("rounds", "ended"), [(199, True), (200, False)])
def test_the_page_is_left_alone_by_less_than_that(
    rounds: int, ended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write(ran(rounds, ended=ended), tmp_path, monkeypatch) == (2, PAGE)


def test_a_fault_that_cannot_happen_is_missed_unless_somebody_leaves_it_out() -> None:
    assert unasked(["disk full"], [], []) == ["disk full"]
    assert unasked(["disk full"], ["disk full", "log locked"], []) == ["disk full"]
    assert unasked(["disk full"], [], ["disk full"]) == []
    assert unasked(["disk full"], ["log locked"], []) == []
