"""Asking the witnesses: each new checkpoint is submitted to every witness, and what they sign is kept beside it.

It goes on beside the sequencer, in the worker whose sequencer leads, and holds up nothing: no transaction is open and
no connection held while a witness is asked. Each has one request under way at most, always with the newest checkpoint;
a witness that was away is so asked about the present alone. One that refuses because the log does not go on from what
it has seen is the alarm for which there are witnesses: somebody has rolled the log back, or forked it.
"""

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

import httpx
import structlog

from audit.merkle import consistency
from audit.note import Note, NoteBroken, Verifier
from server.repositories.audit_tree import SignedCheckpoint, latest_checkpoint, proof_hashes
from server.repositories.audit_witness import cosigned_size, keep_cosignature, waiting_since
from server.repositories.database import Database
from server.witness_address import WitnessAddress

TICK_SECONDS = 1.0
"""How often it is looked whether there is something new to submit."""
TIMEOUT_SECONDS = 5.0
REPEAT_SECONDS = 30.0
"""A log in which nothing happens is submitted again after so long: so a rollback shows, and who is not there."""
LONGEST_PAUSE_SECONDS = 60.0
SILENT_SECONDS = 60.0
"""So long a checkpoint may wait for a witness before ``/readyz`` tells of it."""
_LONGEST_ANSWER = 64 * 1024
_ATTEMPTS = 3


class Cause(StrEnum):
    """Why a witness does not vouch for the log, as the metrics have it. ``conflict``: because of what it has seen of
    this log before. ``not-asked``: something of ours went wrong before it was."""

    CONFLICT = "conflict"
    UNKNOWN_KEY = "unknown-key"
    UNKNOWN_LOG = "unknown-log"
    UNUSABLE_ANSWER = "unusable-answer"
    NOT_REACHED = "not-reached"
    NOT_ASKED = "not-asked"


class Refusal(Exception):
    """A witness did not cosign."""

    def __init__(self, told: str, cause: Cause = Cause.UNUSABLE_ANSWER) -> None:
        super().__init__(told)
        self.cause = cause

    @property
    def conflict(self) -> bool:
        return self.cause is Cause.CONFLICT


class WitnessMeter(Protocol):
    def audit_witnessed(self, witness: str, age: float) -> None: ...
    def audit_witness_conflict(self, witness: str) -> None: ...
    def audit_witness_failing(self, witness: str, cause: str, failing: bool) -> None: ...
    def audit_unwitnessed(self) -> None: ...


class Leads(Protocol):
    @property
    def leads(self) -> bool: ...


@dataclass(slots=True)
class _Standing:
    """How it stands with a witness, as far as this process knows; times are the loop's."""

    size: int | None = None
    heard: float = 0.0
    not_before: float = 0.0
    failures: int = 0
    conflict: str | None = None


@dataclass(slots=True)
class Witnessing:
    database: Database
    leader: Leads
    witnesses: Sequence[WitnessAddress]
    meter: WitnessMeter
    transport: httpx.AsyncBaseTransport | None = None
    """In place of the network, for tests."""
    _standings: dict[str, _Standing] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled. Whatever goes wrong is tried again."""
        await asyncio.gather(*(self._follow(witness) for witness in self.witnesses))

    async def _follow(self, witness: WitnessAddress) -> None:
        loop, log = asyncio.get_running_loop(), structlog.get_logger("chamberlain.witnessing")
        standing = self._standings[str(witness.key)] = _Standing(heard=loop.time())
        led = False
        while True:
            if led and not self.leader.leads:
                self.meter.audit_unwitnessed()
            if self.leader.leads and not led:
                standing = self._standings[str(witness.key)] = _Standing(heard=loop.time())
            led = self.leader.leads
            if led and loop.time() >= standing.not_before:
                try:
                    await self.submit(witness)
                    standing.failures = 0
                except Exception as error:
                    standing.failures += 1
                    pause = min(TICK_SECONDS * 2**standing.failures, LONGEST_PAUSE_SECONDS)
                    standing.not_before = loop.time() + pause
                    refused = isinstance(error, Refusal)
                    told = log.error if refused and standing.conflict else log.warning
                    told("witness refuses" if refused else "witness not reached", **_reason(witness, error))
            if led:
                self.meter.audit_witnessed(witness.key.name, loop.time() - standing.heard)
            await asyncio.sleep(TICK_SECONDS)

    async def submit(self, witness: WitnessAddress) -> None:
        """Ask a witness about the newest checkpoint, unless it was just asked. Raises ``Refusal``, or what else goes
        wrong; the metrics tell why, which every worker's scrape shows, and not only the leader's ``/readyz``."""
        try:
            await self._submit(witness)
        except Exception as error:
            self._tell(witness, _cause(error))
            raise
        self._tell(witness, None)

    def _tell(self, witness: WitnessAddress, why: Cause | None) -> None:
        for cause in Cause:
            self.meter.audit_witness_failing(witness.key.name, cause, cause is why)

    async def _submit(self, witness: WitnessAddress) -> None:
        now = asyncio.get_running_loop().time()
        standing = self._standings.setdefault(str(witness.key), _Standing())
        newest = await latest_checkpoint(self.database.fetch)
        if newest is None or (newest.size == standing.size and now - standing.heard < REPEAT_SECONDS):
            return
        try:
            line = await self._cosigned(witness, standing, newest)
        except Refusal as refusal:
            if refusal.conflict and standing.conflict is None:
                self.meter.audit_witness_conflict(witness.key.name)
            standing.conflict = str(refusal) if refusal.conflict else standing.conflict
            raise
        standing.conflict, standing.heard = None, asyncio.get_running_loop().time()
        await keep_cosignature(self.database, standing.size or 0, str(witness.key), line)

    async def _cosigned(self, witness: WitnessAddress, standing: _Standing, newest: SignedCheckpoint) -> str:
        """The line by which the witness vouches for the newest checkpoint, whose size becomes the standing's."""
        old = standing.size if standing.size is not None else await cosigned_size(self.database, str(witness.key))
        for _ in range(_ATTEMPTS):
            way = consistency(old, newest.size) if 0 < old <= newest.size else []
            hashes = await proof_hashes(self.database.fetch, way)
            lines = "".join(f"{b64encode(hashed).decode()}\n" for hashed in hashes)
            status, told = await self._asked(witness, f"old {old}\n{lines}\n{newest.note}")
            if status == 200:
                line = _line(witness.key, newest, told)
                standing.size = newest.size
                return line
            if status != 409:
                raise _refusal(status, old, told)
            seen = int(told) if told.strip().isdecimal() and len(told) < 20 else -1
            newest = await latest_checkpoint(self.database.fetch) or newest
            if seen > newest.size:
                raise Refusal(f"it has seen {seen} records, and this log has {newest.size}", Cause.CONFLICT)
            if seen in (-1, old):
                raise Refusal(f"it has seen another log of {old} records", Cause.CONFLICT)
            old = seen  # it has forgotten nothing: we did not know, or somebody else asked it meanwhile
        raise Refusal("it says each time that it has seen another size")

    async def _asked(self, witness: WitnessAddress, request: str) -> tuple[int, str]:
        # A proxy that the environment names is for other machines than this one.
        here: dict[str, None] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            httpx.AsyncClient(timeout=TIMEOUT_SECONDS, transport=self.transport, mounts=here) as client,
            client.stream("POST", f"{witness.url}/add-checkpoint", content=request.encode()) as response,
        ):
            told = b""
            async for part in response.aiter_bytes():
                told += part
                if len(told) > _LONGEST_ANSWER:
                    raise Refusal("its answer is too long")
            return response.status_code, told.decode(errors="replace")

    async def told(self) -> str:
        """How it stands, for ``/readyz``. Raises ``ValueError`` with what is wrong."""
        faults = []
        for witness in self.witnesses:
            standing = self._standings.get(str(witness.key))
            since = await waiting_since(self.database, str(witness.key))
            waits = 0.0 if since is None else (datetime.now(UTC) - since).total_seconds()
            if standing is not None and standing.conflict is not None:
                faults.append(f"{witness.key.name} refuses: {standing.conflict}. The log was rolled back, or forked")
            elif waits > SILENT_SECONDS:
                faults.append(
                    f"{witness.key.name} has not vouched for what was signed {waits:.0f} s ago: the metric "
                    "chamberlain_audit_witness_failing says why"
                )
        if faults:
            raise ValueError("; ".join(faults))
        return f"{len(self.witnesses)} vouch for the log"


def _cause(error: Exception) -> Cause:
    if isinstance(error, Refusal):
        return error.cause
    return Cause.NOT_REACHED if isinstance(error, httpx.HTTPError | TimeoutError) else Cause.NOT_ASKED


def _refusal(status: int, old: int, told: str) -> Refusal:
    match status:
        case 403:
            return Refusal("it does not know the key that signs the log", Cause.UNKNOWN_KEY)
        case 404:
            return Refusal("it does not know the log", Cause.UNKNOWN_LOG)
        case 422:
            return Refusal(f"this log does not go on from the {old} records that it has seen", Cause.CONFLICT)
        case _:
            return Refusal(f"it answers {status}")


def _line(key: Verifier, newest: SignedCheckpoint, told: str) -> str:
    """The witness's own signature of those in an answer, checked."""
    text = Note.read(newest.note).text
    with suppress(NoteBroken):
        for line in told.splitlines(keepends=True):
            if Note.read(f"{text}\n{line}").vouched([key]):
                return line
    raise Refusal("it answers with a signature that is not its own")


def _reason(witness: WitnessAddress, error: Exception) -> dict[str, str]:
    told = str(error) if isinstance(error, Refusal) else type(error).__name__
    return {"witness": witness.key.name, "reason": told}
