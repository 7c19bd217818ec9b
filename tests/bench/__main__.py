"""Measure, print a table, write build/bench.json. Exit code 1: a floor was missed.

``--quick`` goes the whole way with a handful of requests: it shows that the benchmark works, not what it measures.
"""

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

import uvloop

from tests.bench import decisions, questions, recording, reload, servers, starts, throughput, verifying
from tests.bench.rows import Row, table, write

BUILD = Path(__file__).resolve().parents[2] / "build" / "bench.json"


async def _served(plan: throughput.Plan, reloads: reload.Plan) -> list[Row]:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # ends every server that was started
    with servers.folder() as place:
        return [
            *await throughput.measure(place, plan),
            *await reload.measure(place, reloads),
            *await starts.measure(place),
        ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few requests of everything, to see that it works")
    parser.add_argument("--output", type=Path, default=BUILD, help="where the rows are written")
    parser.add_argument("--workers", type=int, default=throughput.Plan.workers, help="workers of each server")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    plan = throughput.QUICK if chosen.quick else throughput.Plan(workers=chosen.workers)
    try:
        rows = asyncio.run(_served(plan, reload.QUICK if chosen.quick else reload.Plan()))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    with servers.folder() as place, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rows += runner.run(recording.measure(place, recording.QUICK if chosen.quick else recording.Plan()))
    with servers.folder() as place:
        rows += questions.measure(place, quick=chosen.quick)
    with servers.folder() as place:
        rows += verifying.measure(place, verifying.QUICK if chosen.quick else verifying.Plan())
    rows += decisions.measure((10, 1_000) if chosen.quick else decisions.SIZES, quick=chosen.quick)
    write(rows, chosen.output)
    print(table(rows))
    print(f"\nwritten to {chosen.output} after {time.monotonic() - started:.0f} s")
    return 0 if chosen.quick or all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
