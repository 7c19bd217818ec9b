"""Passwords: hashed with argon2id (19 MiB, two passes), one at a time in each worker, never on the event loop.

The cost is the floor that OWASP's ASVS 5.0 approves; memory times one is what a flood of logins can cost a worker.
"""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from actions.errors import Unavailable

T = TypeVar("T")


class Passwords:
    """Hashes and checks passwords in one thread of its own."""

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._waiting = 0
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._decoy = _decoy(self._hasher)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="argon2")

    async def hash(self, password: str) -> str:
        return await self._in_turn(lambda: self._hasher.hash(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether it is the password. None, for somebody who is not there, costs what a wrong password costs."""
        return await self._in_turn(lambda: self._verify(stored or self._decoy, password))

    def is_outdated(self, stored: str) -> bool:
        """Whether a hash was made at another cost than that of today, and should be made anew."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _in_turn(self, work: Callable[[], T]) -> T:
        """Wait for a turn in the thread. Raises ``Unavailable`` when ``limit`` others wait already."""
        if self._waiting >= self._limit:
            raise Unavailable("Too many passwords are being checked just now.", reason="too-many-passwords")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._waiting -= 1

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def _decoy(hasher: PasswordHasher) -> str:
    """A hash of today's cost that belongs to no password."""
    salt, digest = (b64encode(bytes(size)).decode().rstrip("=") for size in (hasher.salt_len, hasher.hash_len))
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${digest}"
