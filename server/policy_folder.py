"""How a policy folder becomes the version in force, and what ``/readyz`` says of it.

The housekeeper watches the folder: a settled candidate is checked in a subprocess, and published by an audited action.
A folder that does not pass changes nothing but a metric, a log line and ``/readyz``.

Other servers may stand on the same database with folders of their own. A folder speaks by changing: one that merely
stands, however often its server starts, brings nothing back that others have followed (docs/decisions/0029).
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from actions.authorization.cases import case_findings
from actions.authorization.elsewhere import NotCompiled, compile_elsewhere, compile_here
from actions.authorization.index import PolicyIndex
from actions.authorization.signing import TrustedKeys, read_signed
from actions.authorization.source import PolicySource
from actions.authorization.watch import candidates
from actions.entities import whole_vocabulary
from actions.errors import Conflict
from server.folder_memory import FolderMemory
from server.http.metrics import Metrics
from server.policy import COMPILE_SECONDS, ActivePolicy, told_late

Publish = Callable[[PolicySource, str, str | None], Awaitable[None]]
"""Makes a checked folder active: what it holds, why, and the digest that it held when it was last in force."""
_PROBE_SECONDS = 0.5
"""How long a probe waits for what is found of a folder."""


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

    What is found of a folder's contents is remembered: a probe may come every second. Nor does a probe wait long for
    it: the process that looks for mistakes stands back, and whoever is late to answer is not sent any requests.
    """

    def __init__(self, folder: Path, trusted: TrustedKeys) -> None:
        self._folder = folder
        self._trusted = trusted
        self._looked_at = ""
        self._looking: asyncio.Task[str | None] | None = None

    async def tell(self, deciding: PolicyIndex, active: str | None) -> str:
        """Raises ``ValueError`` with what is wrong."""
        if active != deciding.digest:
            pointed = active[:12] if active else "none"
            raise ValueError(
                f"active is {pointed}, but {deciding.digest[:12]} decides: the active one is not in use here"
            )
        source = await asyncio.to_thread(read_signed, self._folder)
        if source.digest != active and (error := await self._known_error(source)):
            raise ValueError(f"the folder cannot be used: {error}")
        try:
            self._trusted.signer(source.digest, source.signature)
        except ValueError as error:
            raise ValueError(f"the folder cannot be used: {error}") from None
        if source.digest != active:
            raise ValueError(f"the folder is at {source.digest[:12]}, active is {active[:12]}")
        return f"the folder is the active version {active[:12]}"

    async def _known_error(self, source: PolicySource) -> str | None:
        """The first mistake, as far as it is known by now."""
        if self._looking is None or self._looked_at != source.digest:
            if self._looking is not None:
                self._looking.cancel()
            self._looked_at, self._looking = source.digest, asyncio.create_task(_first_error(source))
        looking = self._looking
        await asyncio.wait({looking}, timeout=_PROBE_SECONDS)
        return looking.result() if looking.done() and not looking.cancelled() else None


async def _first_error(source: PolicySource) -> str | None:
    """The first mistake of a folder, its cases' included.

    Nobody waits for it, so it is looked for in another process however small the folder is: while a thread reads the
    cases of the shipped policy, a worker waits for that thread each time it is to do something.
    """
    try:
        await compile_elsewhere(source, whole_vocabulary(), timeout_s=COMPILE_SECONDS, with_cases=True)
    except NotCompiled as error:
        told_late(error)
        return await asyncio.to_thread(_first_error_here, source)
    except ValueError as error:
        return str(error).partition("\n")[0]
    return None


def _first_error_here(source: PolicySource) -> str | None:
    try:
        failing = case_findings(source, compile_here(source, whole_vocabulary()))
    except ValueError as error:
        return str(error).partition("\n")[0]
    return str(failing[0]) if failing else None
