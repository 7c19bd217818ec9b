"""``python -m tests.faulting``: rounds of faults, a table of what they did, and ``build/faults.json``.

``FAULT_ROUNDS`` is how many (200), ``FAULT_SEED`` what chooses (random, and printed), ``FAULT_KINDS`` which: names with
commas between, for who looks for something. Exit code 1 if anything is wrong.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faulting.control import control, synced
from tests.faulting.history import Kind
from tests.faulting.kinds import CLOCK, DISK, FAULTS
from tests.faulting.rounds import Done, round_of
from tests.faulting.site import Site
from tests.faulting.tree import Tree

BUILD = Path(__file__).resolve().parents[2] / "build" / "faults.json"


DUMB = ("worker suspended", "leader suspended")
"""A process that is suspended answers nobody until it goes on: how long that takes says nothing of the server."""


SLOW = 2.0
"""Seconds in which a client is to be told that it cannot be served."""


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _turns(names: list[str], choice: random.Random) -> Iterator[str]:
    """Each fault as often as any other, in an order that nobody could foresee."""
    while True:
        yield from choice.sample(names, len(names))


async def run(rounds: int, seed: int, wanted: list[str]) -> int:
    choice = random.Random(seed)
    site, tree, done = Site(), Tree(), []
    skipped = [name for name, able in ((DISK, site.disk), (CLOCK, site.clock)) if not able]
    for name in skipped:
        _say(f"SKIPPED: {name}: this machine does not let it happen")
    names = [name for name in wanted or FAULTS if name not in skipped]
    _say(f"{rounds} rounds of {len(names)} faults, FAULT_SEED={seed}")
    began = time.monotonic()
    try:
        await asyncio.to_thread(site.start)
        turns = _turns(names, choice)
        for number in range(1, rounds + 1):
            name = next(turns)
            one = await round_of(site, number, name, FAULTS[name], random.Random(choice.random()), tree)
            done.append(one)
            _say(_line(number, one))
            for slow in one.told:
                if slow.status == 503 and slow.ended - slow.begun > SLOW and name not in DUMB:
                    _say(
                        f"    slow: {slow.ended - slow.begun:.2f} s for {slow.reason} of {slow.what} {slow.request_id}"
                    )
            for wrong in one.wrong[:10]:
                _say(f"    WRONG {wrong.kind}: {wrong.what}")
        fsyncs = await synced(site)
        _say(f"{fsyncs.commits} commits one after the other: {fsyncs.syncs} fsyncs of the write-ahead log")
        found = await control(site, choice, tree)
        _say(f"control, synchronous_commit=off and a kill: {found.lost} lost, {'caught' if found.caught else 'MISSED'}")
    finally:
        await asyncio.to_thread(site.leave)
    told = summary(done, seed, skipped, time.monotonic() - began) | {
        "fsyncs": {"commits": fsyncs.commits, "syncs": fsyncs.syncs},
        "control": {"lost": found.lost, "caught": found.caught, "tries": found.tries},
    }
    BUILD.parent.mkdir(exist_ok=True)
    BUILD.write_text(json.dumps(told, indent=2) + "\n")
    _table(told)
    good = not told["wrong_rounds"] and found.caught and fsyncs.syncs >= fsyncs.commits
    _say("Nothing is wrong." if good else "SOMETHING IS WRONG.")
    return 0 if good else 1


def summary(done: list[Done], seed: int, skipped: list[str], seconds: float) -> dict[str, Any]:
    """What ``build/faults.json`` says of the rounds."""
    kinds = Counter(wrong.kind for one in done for wrong in one.wrong)
    by_fault = {}
    for name in sorted({one.fault for one in done}):
        of_it = [one for one in done if one.fault == name]
        by_fault[name] = {
            "rounds": len(of_it),
            "requests": sum(len(one.told) for one in of_it),
            "refused": sum(told.status == 503 for one in of_it for told in one.told),
            "unanswered": sum(told.status == 0 for one in of_it for told in one.told),
            "unknown": sum(one.unknown for one in of_it),
            "longest_503": round(max(one.longest_refusal for one in of_it), 2),
            "longest_recovery": round(max(one.recovery for one in of_it), 2),
        }
    return {
        "rounds": len(done),
        "seed": seed,
        "seconds": round(seconds),
        "skipped": skipped,
        "requests": sum(len(one.told) for one in done),
        "acknowledged_changes": sum(one.acknowledged for one in done),
        "records": sum(one.records for one in done),
        "unknown": sum(one.unknown for one in done),
        "longest_unknown": round(max((one.closed_within for one in done), default=0.0), 2),
        "longest_503": round(max((one.longest_refusal for one in done if one.fault not in DUMB), default=0.0), 2),
        "longest_recovery": round(max((one.recovery for one in done), default=0.0), 2),
        "wrong": {kind: kinds[kind] for kind in Kind},
        "wrong_rounds": sum(bool(one.wrong) for one in done),
        "faults": by_fault,
    }


def _line(number: int, one: Done) -> str:
    statuses = ", ".join(f"{count} {status}" for status, count in one.statuses.most_common(6))
    return (
        f"{number:4} {one.fault:22} {'WRONG' if one.wrong else 'ok':6} recovery {one.recovery:5.2f} s"
        f"  longest 503 {one.longest_refusal:5.2f} s  {one.records:5} records  {statuses}"
    )


def _table(told: dict[str, Any]) -> None:
    _say(f"\n{'fault':22} rounds requests  refused  unanswered unknown  longest 503  longest recovery")
    for name, of_it in told["faults"].items():
        _say(
            f"{name:22} {of_it['rounds']:6} {of_it['requests']:8} {of_it['refused']:8} {of_it['unanswered']:11}"
            f" {of_it['unknown']:7} {of_it['longest_503']:10.2f} s {of_it['longest_recovery']:15.2f} s"
        )
    _say(
        f"\n{told['rounds']} rounds, {told['requests']} requests, {told['acknowledged_changes']} acknowledged changes,"
        f" {told['records']} records, {told['unknown']} unknown; wrong: {told['wrong']}"
    )


def main() -> int:
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
    wanted = [name.strip() for name in os.environ.get("FAULT_KINDS", "").split(",") if name.strip()]
    return asyncio.run(run(int(os.environ.get("FAULT_ROUNDS") or 200), seed, wanted))


if __name__ == "__main__":
    sys.exit(main())
