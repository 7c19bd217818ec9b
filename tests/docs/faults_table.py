"""The table of what the last full run of faults has done, as ``docs/faults.md`` shows it."""

import json
from pathlib import Path
from typing import Any

_RESULTS = Path(__file__).resolve().parents[2] / "build" / "faults.json"


def main() -> None:
    """Write the results of ``build/faults.json`` into the page."""
    page = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
    before, _, rest = page.read_text().partition("<!-- faults -->")
    after = rest.partition("<!-- end -->")[2]
    page.write_text(f"{before}<!-- faults -->\n\n{faults_table(json.loads(_RESULTS.read_text()))}\n<!-- end -->{after}")


def faults_table(told: dict[str, Any]) -> str:
    """The totals as sentences, and a line for each fault."""
    wrong = ", ".join(f"{count} {kind}" for kind, count in told["wrong"].items())
    skipped = f" Not done here: {', '.join(told['skipped'])}." if told["skipped"] else ""
    caught = "caught" if told["control"]["caught"] else "MISSED"
    lines = [
        f"{told['rounds']} rounds (seed {told['seed']}), {told['requests']:,} requests,"
        f" {told['acknowledged_changes']:,} acknowledged changes, {told['records']:,} records;"
        f" wrong: {wrong}.{skipped}",
        "",
        f"{told['unknown']} changes were unknown to their clients; the last of a round was found out"
        f" {told['longest_unknown']} s after the fault, at most. The longest wait for a 503 was"
        f" {told['longest_503']} s, the longest recovery {told['longest_recovery']} s."
        f" {told['fsyncs']['commits']} commits brought about {told['fsyncs']['syncs']} fsyncs."
        f" The control lost {told['control']['lost']} and was {caught}.",
        "",
        "| fault | rounds | requests | refused | unanswered | unknown | longest 503 | longest recovery |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, of_it in told["faults"].items():
        numbers = (of_it[key] for key in ("rounds", "requests", "refused", "unanswered", "unknown"))
        counts = " | ".join(f"{number:,}" for number in numbers)
        lines.append(f"| {name} | {counts} | {of_it['longest_503']} s | {of_it['longest_recovery']} s |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
