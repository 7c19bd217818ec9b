"""``python -m tests.faulting``: rounds of faults, a table of what they did, and ``build/faults.json``.

``FAULT_ROUNDS`` is how many (200), ``FAULT_SEED`` what chooses (random, and printed), ``FAULT_KINDS`` which: names with
commas between, for who looks for something. ``FAULT_SKIP`` names what a machine cannot let happen: whatever cannot
happen and is not named there is a failure. Exit code 1 if anything is wrong, or not done by the time it should be.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faulting.control import Control, Synced, control, synced
from tests.faulting.counts import Counts, counts_of_a_crowd, counts_of_rounds
from tests.faulting.heartbeat import Heartbeat
from tests.faulting.history import Kind
from tests.faulting.kinds import CLOCK, DISK, FAULTS, KILLS_WORKERS
from tests.faulting.promises import Waited
from tests.faulting.rounds import Done, round_of
from tests.faulting.site import Site
from tests.faulting.tree import Tree
from tests.faulting.unsynced import COMMAND as UNSYNCED

BUILD = Path(__file__).resolve().parents[2] / "build" / "faults.json"
SECONDS, SECONDS_EACH = 300.0, 20.0
"""What all rounds together may take, less and for each of them: twice what they take on a machine of two cores."""


@dataclass
class Run:
    """What came of it so far."""

    seed: int
    skipped: list[str]
    done: list[Done] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)
    synced: Synced | None = None
    control: Control | None = None

    @property
    def good(self) -> bool:
        """All was done, and nothing is wrong."""
        return (
            not any(one.wrong for one in self.done)
            and len(self.counts) == 2
            and not any(counts.wrong for counts in self.counts)
            and self.synced is not None
            and self.synced.syncs >= self.synced.commits
            and self.control is not None
            and self.control.caught
        )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def unasked(unable: list[str], wanted: list[str], skip: list[str]) -> list[str]:
    """The faults that a machine cannot let happen though nobody has left them out."""
    return [name for name in unable if name not in skip and (not wanted or name in wanted)]


def _turns(names: list[str], choice: random.Random) -> Iterator[str]:
    """Each fault as often as any other, in an order that nobody could foresee."""
    while True:
        yield from choice.sample(names, len(names))


async def run(rounds: int, seed: int, wanted: list[str], skip: list[str]) -> int:
    site = Site()
    try:
        unable = [name for name, able in ((DISK, site.disk), (CLOCK, site.clock)) if not able]
        if left := unasked(unable, wanted, skip):
            _say(f"This machine does not let it happen: {', '.join(left)}.")
            _say(f'FAULT_SKIP="{",".join(left)}" leaves it out.')
            return 1
        told = Run(seed, sorted({*unable, *skip}))
        names = [name for name in wanted or FAULTS if name not in told.skipped]
        _say(f"{rounds} rounds of {len(names)} faults, FAULT_SEED={seed}" + "".join(f", no {n}" for n in told.skipped))
        began, in_time = time.monotonic(), True
        try:
            async with asyncio.timeout(SECONDS + SECONDS_EACH * rounds):
                await _all(site, told, rounds, names)
        except TimeoutError:
            in_time = False
            _say(f"OUT OF TIME after {len(told.done)} rounds")
    finally:
        await asyncio.to_thread(site.leave)
    summed = summary(told, time.monotonic() - began)
    BUILD.parent.mkdir(exist_ok=True)
    BUILD.write_text(json.dumps(summed, indent=2) + "\n")
    _table(summed)
    good = told.good and in_time
    _say("Nothing is wrong." if good else "SOMETHING IS WRONG.")
    return 0 if good else 1


async def _all(site: Site, told: Run, rounds: int, names: list[str]) -> None:
    choice = random.Random(told.seed)
    await asyncio.to_thread(site.start)
    tree, heart = Tree(await site.keys()), Heartbeat()
    beating = asyncio.create_task(heart.run())
    try:
        turns = _turns(names, choice)
        for number in range(1, rounds + 1):
            name = next(turns)
            one = await round_of(site, number, name, FAULTS[name], random.Random(choice.random()), tree, heart)
            told.done.append(one)
            _say(_line(number, one))
            for wrong in one.wrong[:10]:
                _say(f"    WRONG {wrong.kind}: {wrong.what}")
        told.synced = await synced(site)
        _say(f"{told.synced.commits} commits one after the other: {told.synced.syncs} fsyncs of the write-ahead log")
        killed = any(one.fault in KILLS_WORKERS for one in told.done)
        told.counts.append(await counts_of_rounds(site, sum(one.unrecorded for one in told.done), killed=killed))
        told.counts.append(await counts_of_a_crowd(site, *UNSYNCED))
        for counts in told.counts:
            _say(f"{counts.unrecorded} failures have no record of their own; the log counts {counts.counted}")
            for wrong in counts.wrong:
                _say(f"    WRONG {wrong.kind}: {wrong.what}")
        told.control = found = await control(site, choice, tree, heart)
        _say(f"control, synchronous_commit=off and a kill: {found.lost} lost, {'caught' if found.caught else 'MISSED'}")
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


def _longest(waits: Iterator[Waited]) -> dict[str, float]:
    """The one that counts for most, and what was taken off it."""
    longest = max(waits, key=lambda waited: waited.counts)
    return {"whole": round(longest.whole, 2), "granted": round(longest.granted, 2)}


def _times(done: list[Done]) -> dict[str, dict[str, float]]:
    return {
        "503": _longest(one.times.refusal for one in done),
        "recovery": _longest(one.times.recovery for one in done),
        "failover": _longest(one.times.failover for one in done),
    }


def summary(run: Run, seconds: float) -> dict[str, Any]:
    """What ``build/faults.json`` says of the rounds."""
    done = run.done
    kinds = Counter(wrong.kind for one in done for wrong in one.wrong)
    kinds.update(wrong.kind for counts in run.counts for wrong in counts.wrong)
    by_fault = {}
    for name in sorted({one.fault for one in done}):
        of_it = [one for one in done if one.fault == name]
        by_fault[name] = {
            "rounds": len(of_it),
            "requests": sum(len(one.told) for one in of_it),
            "refused": sum(told.status == 503 for one in of_it for told in one.told),
            "unanswered": sum(told.status == 0 for one in of_it for told in one.told),
            "unknown": sum(one.unknown for one in of_it),
            "longest": _times(of_it),
        }
    return {
        "rounds": len(done),
        "good": run.good,
        "seed": run.seed,
        "seconds": round(seconds),
        "skipped": run.skipped,
        "requests": sum(len(one.told) for one in done),
        "acknowledged_changes": sum(one.acknowledged for one in done),
        "records": sum(one.records for one in done),
        "unknown": sum(one.unknown for one in done),
        "longest_unknown": round(max((one.closed_within for one in done), default=0.0), 2),
        "longest": _times(done) if done else {},
        "wrong": {kind.value: kinds[kind] for kind in Kind},
        "counts": [{"unrecorded": one.unrecorded, "counted": one.counted} for one in run.counts],
        "fsyncs": asdict(run.synced) if run.synced else None,
        "control": asdict(run.control) if run.control else None,
        "faults": by_fault,
    }


def _line(number: int, one: Done) -> str:
    statuses = ", ".join(f"{count} {status}" for status, count in one.statuses.most_common(6))
    times = one.times
    return (
        f"{number:4} {one.fault:22} {'WRONG' if one.wrong else 'ok':6} recovery {times.recovery}"
        f"  longest 503 {times.refusal}  leader {times.failover}  {one.records:5} records  {statuses}"
    )


def _table(told: dict[str, Any]) -> None:
    _say(
        f"\n{'fault':22} rounds requests  refused  unanswered unknown  longest 503     recovery     failover (granted)"
    )
    for name, of_it in told["faults"].items():
        times = "  ".join(f"{one['whole']:5.2f} s ({one['granted']:.2f})" for one in of_it["longest"].values())
        _say(
            f"{name:22} {of_it['rounds']:6} {of_it['requests']:8} {of_it['refused']:8} {of_it['unanswered']:11}"
            f" {of_it['unknown']:7}  {times}"
        )
    _say(
        f"\n{told['rounds']} rounds in {told['seconds']} s, {told['requests']} requests, {told['acknowledged_changes']}"
        f" acknowledged changes, {told['records']} records, {told['unknown']} unknown; wrong: {told['wrong']}"
    )


def _names(variable: str) -> list[str]:
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]


def main() -> int:
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
    wanted, skip = _names("FAULT_KINDS"), _names("FAULT_SKIP")
    if strange := [name for name in (*wanted, *skip) if name not in FAULTS]:
        _say(f"There is no such fault: {', '.join(strange)}. There are: {', '.join(FAULTS)}.")
        return 2
    return asyncio.run(run(int(os.environ.get("FAULT_ROUNDS") or 200), seed, wanted, skip))


if __name__ == "__main__":
    sys.exit(main())
