"""Passwords: hashed with argon2id (19 MiB, two passes), one at a time in each worker, never on the event loop.

The cost is the floor that OWASP's ASVS 5.0 approves; memory times one is what a flood of logins can cost a worker.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError


class Passwords:
    """Hashes and checks passwords in one thread of its own."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="argon2")

    async def hash(self, password: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._hasher.hash, password)

    async def verify(self, stored: str, password: str) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._verify, stored, password)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False
