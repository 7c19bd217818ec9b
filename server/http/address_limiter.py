"""How often one client address may try. Knows no request, no clock and no other worker."""

from server.buckets import Buckets, network_of


class AddressLimiter(Buckets):
    """A bucket for each address, or rather for whom it stands for (``network_of``)."""

    def charge(self, address: str, now: float) -> float:  # type: ignore[override]
        return super().charge(network_of(address), now)

    def peek(self, address: str, now: float) -> float:  # type: ignore[override]
        return super().peek(network_of(address), now) if len(self) else 0.0
