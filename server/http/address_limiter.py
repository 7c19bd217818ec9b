"""How often one client address may try. Knows no request, no clock and no other worker."""

from server.buckets import Buckets, network_of


class AddressLimiter:
    """A bucket for each address, or rather for whom it stands for (``network_of``)."""

    def __init__(self, rate_per_minute: float, burst: int, capacity: int = 10_000) -> None:
        self._buckets = Buckets(rate_per_minute, burst, capacity)

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._buckets)

    def charge(self, address: str, now: float) -> float:
        """Counts one try. 0.0 means admitted; else the seconds until a try will be, and nothing was counted."""
        return self._buckets.charge(network_of(address), now)

    def peek(self, address: str, now: float) -> float:
        """What ``charge`` would answer, without counting."""
        return self._buckets.peek(network_of(address), now) if len(self._buckets) else 0.0
