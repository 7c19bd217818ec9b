"""The table of what the last full run of faults has done, as ``docs/faults.md`` shows it."""

import json
import sys
from pathlib import Path
from typing import Any

ENOUGH = 200
"""Rounds. The page tells of a full run, and of no other."""
RESULTS = Path(__file__).resolve().parents[2] / "build" / "faults.json"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"


def main() -> int:
    """Write the results of ``build/faults.json`` into the page. Returns 2, and writes nothing, if it is no full run."""
    told = json.loads(RESULTS.read_text())
    if (why := why_not(told)) is not None:
        sys.stderr.write(f"{why}\n")
        return 2
    before, _, rest = PAGE.read_text().partition("<!-- faults -->")
    after = rest.partition("<!-- end -->")[2]
    PAGE.write_text(f"{before}<!-- faults -->\n\n{faults_table(told)}\n<!-- end -->{after}")
    return 0


def why_not(told: dict[str, Any]) -> str | None:
    """Why the page may not tell of these results; None if it may. That they are good is not asked of them."""
    if told["rounds"] < ENOUGH:
        return f"The page tells of {ENOUGH} rounds or more; these are {told['rounds']}."
    if told["control"] is None:
        return "The run was not brought to its end."
    return None


def faults_table(told: dict[str, Any]) -> str:
    """The totals as sentences, and a line for each fault."""
    wrong = ", ".join(f"{count} {kind}" for kind, count in told["wrong"].items())
    skipped = f" Not done here: {', '.join(told['skipped'])}." if told["skipped"] else ""
    caught = "caught" if told["control"]["caught"] else "MISSED"
    longest = {name: _waited(times) for name, times in told["longest"].items()}
    rounds, crowd = told["counts"]
    lines = [
        f"{told['rounds']} rounds (seed {told['seed']}) in {told['seconds'] // 60} minutes,"
        f" {told['requests']:,} requests, {told['acknowledged_changes']:,} acknowledged changes,"
        f" {told['records']:,} records; wrong: {wrong}.{skipped}",
        "",
        f"{told['unknown']} changes were unknown to their clients; the last of a round was found out"
        f" {told['longest_unknown']} s after the fault, at most. The longest wait for a 503 was"
        f" {longest['503']}, the longest recovery {longest['recovery']}, the longest time without a leader"
        f" {longest['failover']}. Of {crowd['unrecorded']} failures to sign that had no record of their own"
        f" {crowd['counted']} stand in the log as a number; of the {rounds['unrecorded']:,} of the rounds,"
        f" {rounds['counted']:,}."
        f" {told['fsyncs']['commits']} commits brought about {told['fsyncs']['syncs']} fsyncs."
        f" The control lost {told['control']['lost']} and was {caught}.",
        "",
        "| fault | rounds | requests | refused | unanswered | unknown | longest 503 | longest recovery | no leader |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, of_it in told["faults"].items():
        numbers = (of_it[key] for key in ("rounds", "requests", "refused", "unanswered", "unknown"))
        counts = " | ".join(f"{number:,}" for number in numbers)
        lines.append(f"| {name} | {counts} | {' | '.join(_waited(times) for times in of_it['longest'].values())} |")
    return "\n".join(lines) + "\n"


def _waited(times: dict[str, float]) -> str:
    """How long, and what of it was taken off."""
    return f"{times['whole']} s" + (f" - {times['granted']} s" if times["granted"] else "")


if __name__ == "__main__":
    sys.exit(main())
