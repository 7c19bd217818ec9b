"""What is promised in seconds, and what of it was not kept. Pure.

Machines are shared, and what a client waits for is not only the server. So the time in which nobody could have done
anything is taken off: in which the machine did not run the harness itself, though it was due, or a process that
answers was suspended. Exactly that, and nothing for good measure.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.faulting.history import Kind, Told, Wrong

ANSWERED_WITHIN = 2.0
"""Seconds in which a client is answered, if only by being told that it cannot be served."""
RECOVERED_WITHIN = 5.0
"""Seconds after the end of a cause, in which its last effect is seen."""
LED_WITHIN = 5.0
"""Seconds in which another leads, where the one who led is gone."""

Span: TypeAlias = tuple[float, float]
"""From when to when, by the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Struck:
    """What a fault tells of itself: when its cause ended; while a process that answers was suspended; while one was
    that a few had asked already; and, if it struck the leader, from when until when nobody else led."""

    ended: float = field(default_factory=time.monotonic)
    muted: tuple[Span, ...] = ()
    held: tuple[Span, ...] = ()
    leaderless: Span | None = None


@dataclass(frozen=True, slots=True)
class Waited:
    """How long somebody waited, and how much of it is taken off. Both in seconds."""

    whole: float
    granted: float

    @property
    def counts(self) -> float:
        return self.whole - self.granted

    @classmethod
    def through(cls, begun: float, ended: float, excused: Iterable[Span]) -> "Waited":
        return cls(max(0.0, ended - begun), overlap(excused, begun, ended))

    def __str__(self) -> str:
        return f"{self.whole:.2f} s" + (f", less {self.granted:.2f} s" if self.granted >= 0.005 else "")


NOTHING = Waited(0.0, 0.0)


def overlap(spans: Iterable[Span], begun: float, ended: float) -> float:
    """How much of a time lies in any of the spans."""
    total = 0.0
    for start, end in sorted(spans):
        begun = max(begun, start)
        if (covered := min(end, ended) - begun) > 0:
            total += covered
            begun += covered
    return total


@dataclass(frozen=True, slots=True)
class Promised:
    """How well a round kept what is promised: the longest of each, and all that took too long."""

    refusal: Waited
    recovery: Waited
    failover: Waited
    wrong: tuple[Wrong, ...]


def promised(told: Sequence[Told], struck: Struck, led: float, late: Sequence[Span]) -> Promised:
    """``led``: when somebody led, after the cause had ended; ``late``: when nobody could have done anything.

    That a process was suspended excuses who cannot have answered, and no one who was to lead in its place. Where it
    serves a few alone they may be well once it goes on; whoever is refused is refused in time.
    """
    waits = []
    for one in told:
        if one.status or one.silent:
            held = () if one.status == 503 else struck.held
            waits.append((one, Waited.through(one.begun, one.ended, [*late, *struck.muted, *held])))
    slow = [(one, waited) for one, waited in waits if waited.counts > ANSWERED_WITHIN]
    troubled = [one.ended for one in told if one.status == 0 or one.status >= 500] + [one.ended for one, _ in slow]
    recovery = Waited.through(struck.ended, max([struck.ended, *troubled]), late)
    failover = Waited.through(*(struck.leaderless or (struck.ended, led)), late)
    refusals = (waited for one, waited in waits if one.status == 503)
    return Promised(
        max(refusals, key=lambda waited: waited.counts, default=NOTHING),
        recovery,
        failover,
        tuple(_broken(slow, recovery, failover)),
    )


def _broken(slow: Iterable[tuple[Told, Waited]], recovery: Waited, failover: Waited) -> Iterator[Wrong]:
    for one, waited in slow:
        told = f"{one.status} {one.reason}".strip() if one.status else "no answer"
        yield Wrong(Kind.SLOW, f"{one.what} {one.request_id}: {told} after {waited}")
    if recovery.counts > RECOVERED_WITHIN:
        yield Wrong(Kind.RECOVERY, f"the last trouble was {recovery} after the cause had ended")
    if failover.counts > LED_WITHIN:
        yield Wrong(Kind.FAILOVER, f"nobody else led for {failover}")
