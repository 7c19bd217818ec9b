"""How often one may fail to log in: at one account from one address, from one address at all accounts, and at one
account from all addresses that are strange to it.

An address from which the account has logged in before is no stranger. It has the first of these buckets to itself
and is held back by no other, so nobody can shut somebody out from where they usually are. The bucket of an account's
strangers is ten times the first, so no single address can fill it. What was right costs nothing. A crowd of failures
that were under way at once is charged in full, and waits the longer: it gets no further than one that queues.

In memory, for one worker. Whom somebody claims to be is kept as a keyed digest: people type passwords there.
"""

import hashlib
import math
import os
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from actions.errors import TooManyRequests
from server.buckets import Buckets, network_of

OF_AN_ADDRESS = 4
OF_STRANGERS = 10
"""How much more an address may fail at all accounts, and an account's strangers together, than one address at one."""

Clock = Callable[[], float]
"""Seconds of a monotonic clock."""


@dataclass(frozen=True, slots=True)
class Try:
    """One try, and what it costs if it fails."""

    charges: tuple[tuple[Buckets, Hashable], ...]
    clock: Clock

    def failed(self) -> None:
        now = self.clock()
        for buckets, key in self.charges:
            buckets.owe(key, now)


class LoginThrottle:
    """``rate_per_minute`` and ``burst`` of failures at one account from one address."""

    def __init__(self, rate_per_minute: float, burst: int, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._pairs = Buckets(rate_per_minute, burst, 50_000)
        self._addresses = Buckets(rate_per_minute * OF_AN_ADDRESS, burst * OF_AN_ADDRESS)
        self._strangers = Buckets(rate_per_minute * OF_STRANGERS, burst * OF_STRANGERS)
        self._key = os.urandom(32)

    def password(self, domain: str, name: str, address: str, *, familiar: bool) -> Try:
        """Before a password is looked at. Raises ``TooManyRequests``."""
        account = hashlib.blake2b(f"{domain}\0{name}".encode(), key=self._key, digest_size=16).digest()
        network = network_of(address)
        pair, other = (self._pairs, (account, network)), (self._addresses, network)
        return self._admit((pair,), (other,)) if familiar else self._admit((pair, other, (self._strangers, account)))

    def refresh(self, address: str) -> Try:
        """Before a refresh token is looked at. Raises ``TooManyRequests``."""
        return self._admit(((self._addresses, network_of(address)),))

    def _admit(
        self, binding: tuple[tuple[Buckets, Hashable], ...], noted: tuple[tuple[Buckets, Hashable], ...] = ()
    ) -> Try:
        """Let a try through, unless one of the ``binding`` buckets is full."""
        now = self._clock()
        wait = max(buckets.peek(key, now) for buckets, key in binding)
        if wait > 0:
            raise TooManyRequests(
                "There were too many failed logins. Wait before the next.",
                reason="too-many-logins",
                retry_after=math.ceil(wait),
            )
        return Try((*binding, *noted), self._clock)
