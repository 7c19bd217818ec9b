"""The policy in force: which version every worker decides by.

A worker holds one immutable index and swaps the reference when the active pointer moves. How a folder becomes a version
is said in ``policy_folder``.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from actions.authorization.check import check_in_subprocess
from actions.authorization.elsewhere import NotCompiled, compile_elsewhere, compile_here, is_large
from actions.authorization.index import PolicyIndex
from actions.authorization.signing import TrustedKeys, read_signed
from actions.authorization.source import PolicySource
from actions.entities import whole_vocabulary
from actions.errors import ChamberlainError
from server.http.metrics import Metrics
from server.repositories.channel import Channel
from server.repositories.database import Database
from server.repositories.policies import active_digest, active_files, digest_before, earlier_digests, stored_files

COMPILE_SECONDS = 30.0


class NoPolicy(RuntimeError):
    """There is no policy to decide by, and the folder holds none that can be used."""


class ActivePolicy:
    """The index that decides. ``current`` is read for each request; ``follow`` swaps it when the pointer moves."""

    def __init__(self, database: Database, metrics: Metrics, trusted: TrustedKeys) -> None:
        self._database = database
        self._metrics = metrics
        self.trusted = trusted
        self._index: PolicyIndex | None = None
        self.source = PolicySource({})
        self._log = structlog.get_logger("chamberlain.policy")

    def current(self) -> PolicyIndex:
        if self._index is None:
            raise NoPolicy("no policy is loaded")
        return self._index

    async def load(self) -> bool:
        """Load the active version from the database, unless it is the one in force. False: there is none."""
        if self._index is not None and await active_digest(self._database) == self._index.digest:
            return True  # its files may be many, and are not read for nothing
        stored = await active_files(self._database)
        if stored is None:
            return False
        digest, files = stored
        if self._index is None or self._index.digest != digest:
            await self.use(PolicySource(files))
        return True

    async def start(self, folder: Path) -> bool:
        """``load`` for a process that has nothing in force yet: it stands in for a version that cannot be used.

        Raises ``NoPolicy`` when nothing can.
        """
        try:
            return await self.load()
        except ValueError as error:
            self._unusable(error)
            await self.stand_in(folder)
            return True

    async def stand_in(self, folder: Path) -> None:
        """Decide by the version that was active last among those this program can use, else by the folder.

        The pointer stays: which version is active remains for a person to say. Raises ``NoPolicy``.
        """
        for digest in await earlier_digests(self._database):
            if await self._stands_in(await self.stored(digest)):
                return
        if not await self._folder_stands_in(await asyncio.to_thread(read_signed, folder)):
            raise NoPolicy(
                "neither the active policy version, nor an earlier one, nor the policy folder can be used by this "
                f"program: correct the files in {folder} (chamberlain policy check tells what is wrong) and start again"
            )

    async def _folder_stands_in(self, source: PolicySource) -> bool:
        try:
            self.trusted.signer(source.digest, source.signature)
        except ValueError:
            return False
        return await self._stands_in(source)

    async def _stands_in(self, source: PolicySource) -> bool:
        try:
            await self.use(source)
        except ValueError:
            return False
        self._log.error(
            "another policy version stands in for the active one",
            policy=source.digest,
            remedy="activate a version that this program can use, or correct the policy folder",
        )
        return True

    async def check_stored(self, digest: str) -> None:
        """Check a stored version as a candidate is. Raises ``NotFound``, or ``ValueError`` with the findings."""
        await self.check(await self.stored(digest))

    async def check(self, source: PolicySource) -> None:
        """Check files in a subprocess, what they change first. Raises ``ValueError`` with a line for each finding."""
        await checked(source, self.source if self._index else None)

    async def check_folder(self, source: PolicySource) -> None:
        """The same for what stands in a folder, which may have to be signed."""
        self.trusted.signer(source.digest, source.signature)
        await self.check(source)

    async def stored(self, digest: str) -> PolicySource:
        """The files of a stored version, with its signature. Raises ``NotFound``."""
        return PolicySource(*await stored_files(self._database, digest))

    async def before(self) -> str | None:
        """The version that a rollback leads to."""
        return await digest_before(self._database)

    async def use(self, source: PolicySource) -> None:
        """Decide by this version from now on. Raises ``ValueError`` when its files have errors."""
        index = await compiled(source)
        self._index, self.source = index, source
        self._metrics.policy_loaded(index.digest, time.time())
        self._log.info("policy in force", policy=index.digest)

    async def follow(self, channel: Channel) -> None:
        """Swap whenever the channel says that the pointer moved. Runs until cancelled."""
        await following(channel, "policy:", self._keep_up)

    async def _keep_up(self) -> None:
        try:
            await self.load()
        except ValueError as error:  # stored by a program of another vocabulary: decide on by the one in force
            self._unusable(error)

    def _unusable(self, error: ValueError) -> None:
        self._metrics.policy_refused()
        self._log.error("active policy cannot be used", findings=str(error).splitlines())


async def following(channel: Channel, word: str, load: Callable[[], Awaitable[None]]) -> None:
    """Load at once, and again whenever the channel says a word that begins so, or that it may have missed some. What
    the database cannot tell now is asked again. Runs until cancelled."""
    moved = asyncio.Event()
    moved.set()  # it may have moved since it was loaded

    def hear(told: str) -> None:
        if told == "*" or told.startswith(word):
            moved.set()

    channel.listen(hear)
    while True:
        await moved.wait()
        moved.clear()
        try:
            await load()
        except ChamberlainError:
            await asyncio.sleep(0.1)
            moved.set()


async def compiled(source: PolicySource) -> PolicyIndex:
    """The index of stored or read files, made without holding up this worker. Raises ``ValueError`` with a line
    for each of their first errors.

    Should the other process fail, it is made here after all: late answers are better than an old policy.
    """
    if is_large(source):
        try:
            return await compile_elsewhere(source, whole_vocabulary(), timeout_s=COMPILE_SECONDS)
        except NotCompiled as error:
            told_late(error)
    return await asyncio.to_thread(compile_here, source, whole_vocabulary())


def told_late(error: NotCompiled) -> None:
    structlog.get_logger("chamberlain.policy").warning("policy compiled in the worker", reason=str(error))


async def checked(source: PolicySource, active: PolicySource | None) -> None:
    """Check a candidate in a subprocess, stock Casbin included. Raises ``ValueError`` with a line for each finding."""
    result = await check_in_subprocess(source, whole_vocabulary(), timeout_s=60, changed_from=active)
    if not result.ok:
        findings = [result.failure] if result.failure else [*map(str, result.errors), *result.differences]
        raise ValueError("\n".join(finding for finding in findings if finding))
