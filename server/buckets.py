"""How often something may be tried: a leaky bucket (GCRA) per key, in bounded memory.

Pure: knows no request, no clock and no other worker. ``now`` is given in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

_SLACK: Final = 1e-6  # seconds; who waits as long as told is admitted, whatever the rounding of floats did
_ELSEWHERE: Final = "-"  # all that is no address (a Unix socket, say) shares one bucket


class Buckets:
    """Admits ``burst`` charges at once to a key, and ``rate_per_minute`` over time.

    At most ``capacity`` keys are remembered, the least recently seen is forgotten first: a flood of more keys than
    that makes room by forgiving old debts, never by growing.
    """

    def __init__(self, rate_per_minute: float, burst: int, capacity: int = 10_000) -> None:
        if rate_per_minute <= 0 or burst < 1 or capacity < 1:
            raise ValueError("rate_per_minute must be above 0, burst and capacity at least 1")
        self._interval = 60.0 / rate_per_minute
        self._tolerance = self._interval * (burst - 1)
        self._capacity = capacity
        self._due: OrderedDict[Hashable, float] = OrderedDict()  # when the key will owe nothing

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._due)

    def charge(self, key: Hashable, now: float) -> float:
        """Counts one try. 0.0 means admitted; else the seconds until a try will be, and nothing was counted."""
        wait = self.peek(key, now)
        if wait == 0.0:
            self.owe(key, now)
        elif key in self._due:
            self._due.move_to_end(key)
        return wait

    def owe(self, key: Hashable, now: float) -> None:
        """Counts one try that has taken place, admitted or not: who had many under way at once waits the longer."""
        self._due[key] = max(self._due.get(key, now), now) + self._interval
        self._due.move_to_end(key)
        if len(self._due) > self._capacity:
            self._due.popitem(last=False)

    def peek(self, key: Hashable, now: float) -> float:
        """What ``charge`` would answer, without counting."""
        if not self._due:
            return 0.0
        return self._wait(max(self._due.get(key, now), now), now)

    def _wait(self, due: float, now: float) -> float:
        wait = due - now - self._tolerance
        return wait if wait > _SLACK else 0.0


def network_of(address: str) -> str | int:
    """Whom an address stands for. An IPv6 client commands a whole /64, so that is what counts; an IPv4 address in
    IPv6 clothing counts as IPv4."""
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return _ELSEWHERE
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return f"{int(parsed) >> 64:x}"
        parsed = parsed.ipv4_mapped
    return int(parsed)
