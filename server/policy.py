"""The policy in force: which version every worker decides by, and how a folder becomes one.

A worker holds one immutable index and swaps the reference when the active pointer moves. The housekeeper watches the
folder: a settled candidate is checked in a subprocess, and published by an audited action. A folder that does not pass
changes nothing but a metric, a log line and ``/readyz``.

Other servers may stand on the same database with folders of their own. A folder speaks by changing: one that merely
stands, however often its server starts, brings nothing back that others have followed (docs/decisions/0029).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from actions.authorization.cases import case_findings
from actions.authorization.check import check_in_subprocess
from actions.authorization.elsewhere import NotCompiled, compile_elsewhere, compile_here, is_large
from actions.authorization.index import PolicyIndex
from actions.authorization.signing import TrustedKeys, read_signed
from actions.authorization.source import PolicySource
from actions.authorization.watch import candidates
from actions.entities import whole_vocabulary
from actions.errors import ChamberlainError, Conflict
from server.folder_memory import FolderMemory
from server.http.metrics import Metrics
from server.repositories.channel import Channel
from server.repositories.database import Database
from server.repositories.policies import active_digest, active_files, digest_before, earlier_digests, stored_files

Publish = Callable[[PolicySource, str, str | None], Awaitable[None]]
"""Makes a checked folder active: what it holds, why, and the digest that it held when it was last in force."""
_COMPILE_SECONDS = 30.0


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
        self._moved = asyncio.Event()
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
        channel.listen(self._hear)
        self._moved.set()  # it may have moved since it was loaded
        while True:
            await self._moved.wait()
            self._moved.clear()
            try:
                await self.load()
            except ChamberlainError:
                await asyncio.sleep(0.1)
                self._moved.set()
            except ValueError as error:  # stored by a program of another vocabulary: decide on by the one in force
                self._unusable(error)

    def _unusable(self, error: ValueError) -> None:
        self._metrics.policy_refused()
        self._log.error("active policy cannot be used", findings=str(error).splitlines())

    def _hear(self, word: str) -> None:
        if word == "*" or word.startswith("policy:"):
            self._moved.set()


async def compiled(source: PolicySource) -> PolicyIndex:
    """The index of stored or read files, made without holding up this worker. Raises ``ValueError`` with a line
    for each of their first errors.

    Should the other process fail, it is made here after all: late answers are better than an old policy.
    """
    if is_large(source):
        try:
            return await compile_elsewhere(source, whole_vocabulary(), timeout_s=_COMPILE_SECONDS)
        except NotCompiled as error:
            structlog.get_logger("chamberlain.policy").warning("policy compiled in the worker", reason=str(error))
    return await asyncio.to_thread(compile_here, source, whole_vocabulary())


async def checked(source: PolicySource, active: PolicySource | None) -> None:
    """Check a candidate in a subprocess, stock Casbin included. Raises ``ValueError`` with a line for each finding."""
    result = await check_in_subprocess(source, whole_vocabulary(), timeout_s=60, changed_from=active)
    if not result.ok:
        findings = [result.failure] if result.failure else [*map(str, result.errors), *result.differences]
        raise ValueError("\n".join(finding for finding in findings if finding))


class FolderWatch:
    """Brings what stands in the policy folder into force, once it has settled and passed every check."""

    def __init__(
        self, folder: Path, policy: ActivePolicy, publish: Publish, metrics: Metrics, poll: float, memory: FolderMemory
    ) -> None:
        self._folder = folder
        self._policy = policy
        self._publish = publish
        self._metrics = metrics
        self._poll = poll
        self._memory = memory
        self._log = structlog.get_logger("chamberlain.policy")

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                async for source in candidates(self._folder, poll=self._poll):
                    await self.consider(source)
            except Exception as error:  # not the folder's fault: begin anew, lest its change be forgotten
                self._metrics.policy_refused()
                self._log.error("policy folder not considered", exc_info=error)
                await asyncio.sleep(1)

    async def consider(self, source: PolicySource) -> None:
        """Check one candidate and publish it, unless it is in force."""
        if source.digest != self._policy.current().digest and not await self._brought_into_force(source):
            return
        await asyncio.to_thread(self._memory.keep, source.digest)

    async def _brought_into_force(self, source: PolicySource) -> bool:
        try:
            await self._policy.check_folder(source)
        except ValueError as error:
            self._metrics.policy_refused()
            self._log.error("policy candidate refused", policy=source.digest, findings=str(error).splitlines())
            return False
        try:
            before = await asyncio.to_thread(self._memory.recall)
            await self._publish(source, f"the folder changed to {source.digest[:12]}", before)
        except Conflict as error:
            self._log.warning("policy candidate refused", policy=source.digest, findings=[error.detail])
            return False
        return True


class FolderNote:
    """How the folder, what this process decides by and the active digest stand to one another, for ``/readyz``.

    What is found of a folder's contents is remembered: a probe may come every second.
    """

    def __init__(self, folder: Path, trusted: TrustedKeys) -> None:
        self._folder = folder
        self._trusted = trusted
        self._looking = asyncio.Lock()
        self._looked_at = ""
        self._error: str | None = None

    async def tell(self, deciding: PolicyIndex, active: str | None) -> str:
        """Raises ``ValueError`` with what is wrong."""
        if active != deciding.digest:
            pointed = active[:12] if active else "none"
            raise ValueError(
                f"active is {pointed}, but {deciding.digest[:12]} decides: the active one is not in use here"
            )
        async with self._looking:
            source = await asyncio.to_thread(read_signed, self._folder)
            if source.digest == active:
                self._error = None
            elif source.digest != self._looked_at:
                self._error = await _first_error(source)
            self._looked_at = source.digest
        if self._error:
            raise ValueError(f"the folder cannot be used: {self._error}")
        try:
            self._trusted.signer(source.digest, source.signature)
        except ValueError as error:
            raise ValueError(f"the folder cannot be used: {error}") from None
        if source.digest != active:
            raise ValueError(f"the folder is at {source.digest[:12]}, active is {active[:12]}")
        return f"the folder is the active version {active[:12]}"


async def _first_error(source: PolicySource) -> str | None:
    """The first mistake of a folder, its cases' included."""
    try:
        index = await compiled(source)
    except ValueError as error:
        return str(error)
    failing = await asyncio.to_thread(case_findings, source, index)
    return str(failing[0]) if failing else None
