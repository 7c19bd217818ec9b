"""A lane for what anybody can cause: the first few failures of each address and minute are recorded in full, the rest
are counted, so that a flood of them fills neither the log nor its queue.

Counts only: writes nothing, and is told the time. One lane serves every kind of failure, so that a caller who fails
in two ways has no more of it than one who fails in one.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

IN_FULL = 5
"""Records in full per address and minute."""
IN_FULL_TOGETHER = 300
ADDRESSES = 1000
"""Addresses counted apart in one minute; the rest are counted together, as ``others``."""
OTHERS = "others"
MINUTES = 60
"""Minutes whose counts wait while the log cannot be written; older ones are told together with the next."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """How often something failed from an address in one minute beyond what was recorded in full."""

    action: str
    address: str
    count: int
    minute: datetime


@dataclass(slots=True, eq=False)
class _Minute:
    number: int
    seen: Counter[str] = field(default_factory=Counter)
    uncounted: Counter[tuple[str, str]] = field(default_factory=Counter)
    in_full: int = 0


class Lane:
    def __init__(self) -> None:
        self._minute = _Minute(0)
        self._over: list[_Minute] = []

    def admits(self, action: str, address: str, at: datetime) -> bool:
        """Whether this failure is to be recorded in full; if not, it has been counted."""
        minute = self._turn(at)
        if address not in minute.seen and len(minute.seen) >= ADDRESSES:
            address = OTHERS
        minute.seen[address] += 1
        if minute.seen[address] > IN_FULL or minute.in_full >= IN_FULL_TOGETHER:
            minute.uncounted[action, address] += 1
            return False
        minute.in_full += 1
        return True

    @property
    def waiting(self) -> int:
        """Failures that were counted and whose count nobody has told yet."""
        return sum(minute.uncounted.total() for minute in (*self._over, self._minute))

    def end(self) -> None:
        """The present minute is over, whatever the time: nobody is served here any more."""
        if self._minute.uncounted:
            self._over.append(self._minute)
        self._minute = _Minute(0)

    def due(self, at: datetime) -> bool:
        """Whether counts of a minute that is over wait to be told."""
        self._turn(at)
        return any(minute.uncounted for minute in self._over)

    @contextmanager
    def telling(self) -> Iterator[Repeated]:
        """Take one count that is due. It goes back if the block fails."""
        minute = next(minute for minute in self._over if minute.uncounted)
        (action, address), count = minute.uncounted.popitem()
        try:
            yield Repeated(action, address, count, datetime.fromtimestamp(minute.number * 60, UTC))
        except BaseException:
            minute.uncounted[action, address] += count
            raise
        if not minute.uncounted and minute in self._over:
            self._over.remove(minute)

    def _turn(self, at: datetime) -> _Minute:
        number = int(at.timestamp()) // 60
        if number != self._minute.number:
            if self._minute.uncounted:
                self._over.append(self._minute)
            if len(self._over) > MINUTES:
                for (action, _), count in self._over.pop(0).uncounted.items():
                    self._over[0].uncounted[action, OTHERS] += count
            self._minute = _Minute(number)
        return self._minute
