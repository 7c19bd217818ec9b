"""A heart that notes when it could not beat: the time in which the machine ran others, or the harness was busy."""

import asyncio
import time
from bisect import bisect_left

from tests.faulting.promises import Span

EVERY = 0.05
"""Seconds between two beats, if all goes well."""


class Heartbeat:
    def __init__(self) -> None:
        self._late: list[Span] = []
        """From when each beat was due until it came."""

    def late_since(self, begun: float) -> list[Span]:
        return self._late[bisect_left(self._late, (begun, begun)) :]

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            due = time.monotonic() + EVERY
            await asyncio.sleep(EVERY)
            self._late.append((due, time.monotonic()))
