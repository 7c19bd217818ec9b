"""The lane for failed authentications: each is recorded, and a flood of them fills neither the log nor its queue.

Per address and minute the first few are recorded in full, before their 401 leaves; the rest are counted, and one
record tells the count when the minute is over. Across all addresses the full records of a minute are bounded too.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from actions.errors import AuditUnavailable, Unavailable
from audit.log import AuditLog, LogUnavailable
from audit.record import Columns, Draft, Phase, Record, cut, new_id
from audit.redaction import NOBODY

IN_FULL = 5
"""Records in full per address and minute."""
IN_FULL_TOGETHER = 300
ADDRESSES = 1000
"""Addresses counted apart in one minute; the rest are counted together, as ``others``."""
OTHERS = "others"
MINUTES = 60
"""Minutes whose counts wait while the log cannot be written; older ones are told together with the next."""


class Seals(Protocol):
    async def seal(self, draft: Draft) -> Record: ...


@dataclass(slots=True, eq=False)
class _Minute:
    number: int
    seen: Counter[str] = field(default_factory=Counter)
    uncounted: Counter[str] = field(default_factory=Counter)
    in_full: int = 0


class AuthenticationLog:
    def __init__(self, sealer: Seals, log: AuditLog) -> None:
        self._sealer = sealer
        self._log = log
        self._minute = _Minute(0)
        self._over: list[_Minute] = []

    async def failed(self, address: str, request_id: str, claimed: str, reason: str, status: int, at: datetime) -> None:
        """Record one failure, or count it. ``claimed`` is the access key that the request named, if any."""
        minute = self._turn(at)
        if address not in minute.seen and len(minute.seen) >= ADDRESSES:
            address = OTHERS
        minute.seen[address] += 1
        if minute.seen[address] > IN_FULL or minute.in_full >= IN_FULL_TOGETHER:
            minute.uncounted[address] += 1
            return
        minute.in_full += 1
        await self._write(address, at, request_id, {"claimed": cut(claimed), "reason": reason, "status": status})

    async def flush(self, at: datetime) -> None:
        """Record the counts of the minutes that are over. Called by a sweeper; what cannot be written stays."""
        self._turn(at)
        while self._over:
            minute = self._over[0]
            started = datetime.fromtimestamp(minute.number * 60, UTC)
            while minute.uncounted:
                address, count = minute.uncounted.popitem()
                try:
                    await self._write(address, at, "", {"count": count, "minute": started, "reason": "repeated"})
                except BaseException:
                    minute.uncounted[address] += count
                    raise
            if minute in self._over:
                self._over.remove(minute)

    def _turn(self, at: datetime) -> _Minute:
        number = int(at.timestamp()) // 60
        if number != self._minute.number:
            if self._minute.uncounted:
                self._over.append(self._minute)
            if len(self._over) > MINUTES:
                oldest = self._over.pop(0)
                self._over[0].uncounted[OTHERS] += oldest.uncounted.total()
            self._minute = _Minute(number)
        return self._minute

    async def _write(self, address: str, at: datetime, request_id: str, told: dict[str, object]) -> None:
        action_id = new_id()
        columns = Columns(action_id, Phase.DONE, at, "authenticate", "denied", "anonymous", request_id=request_id)
        public: dict[str, object] = {
            "id": str(action_id),
            "phase": Phase.DONE,
            "at": at,
            "action": "authenticate",
            "result": "denied",
            "principal": {"kind": "anonymous", "name": "anonymous", "credential": None},
            "request": {"id": request_id, "surface": "rest"},
            "error": told,
        }
        try:
            record = await self._sealer.seal(Draft(columns, public, {NOBODY: {"client_address": address}}))
            await self._log.write(record)
        except (LogUnavailable, Unavailable) as error:  # sealing asks the database too
            raise AuditUnavailable from error
