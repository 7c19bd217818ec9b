"""The records of failed authentications: each goes through the lane, before its 401 leaves; and the counts of what the
lane did not let through, of failed logins too, once their minute is over or the process ends.
"""

from datetime import datetime
from typing import Protocol

from actions.errors import AuditUnavailable, Unavailable
from audit.accounts import Settled
from audit.lane import Lane
from audit.log import AuditLog, LogUnavailable
from audit.pulse import Pulse
from audit.record import Columns, Draft, Phase, Record, cut, new_id
from audit.redaction import NOBODY

ACTION = "authenticate"


class Seals(Protocol):
    async def seal(self, draft: Draft) -> Record: ...


class Books(Protocol):
    def owed(self, count: int = 1) -> None: ...
    def settled(self, how: Settled, count: int = 1) -> None: ...
    def counted(self, count: int) -> None: ...


class AuthenticationLog:
    def __init__(self, sealer: Seals, log: AuditLog, lane: Lane, pulse: Pulse, books: Books) -> None:
        self._sealer = sealer
        self._log = log
        self._lane = lane
        self._pulse = pulse
        self._books = books

    async def failed(self, address: str, request_id: str, claimed: str, reason: str, status: int, at: datetime) -> None:
        """Record one failure, or count it. ``claimed`` is the access key that the request named, if any."""
        if not self._lane.admits(ACTION, address, at):
            self._books.owed()
            self._books.settled(Settled.COUNTED)
        else:
            told: dict[str, object] = {"claimed": cut(claimed), "reason": reason, "status": status}
            await self._write(ACTION, address, at, request_id, told)

    async def flush(self, at: datetime, *, last: bool = False) -> None:
        """Record the counts of the minutes that are over, and where it is the ``last`` time, of the present one, too.

        Called by a sweeper. Raises ``AuditUnavailable``; what cannot be written stays.
        """
        if last:
            self._lane.end()
        while self._lane.due(at):
            with self._lane.telling() as repeated:
                told: dict[str, object] = {"count": repeated.count, "minute": repeated.minute, "reason": "repeated"}
                await self._write(repeated.action, repeated.address, at, "", told)
            self._books.counted(repeated.count)

    @property
    def untold(self) -> int:
        """Failures that were counted and whose count is not in the log."""
        return self._lane.waiting

    async def _write(self, action: str, address: str, at: datetime, request_id: str, told: dict[str, object]) -> None:
        action_id = new_id()
        columns = Columns(action_id, Phase.DONE, at, action, "denied", "anonymous", request_id=request_id)
        public: dict[str, object] = {
            "id": str(action_id),
            "phase": Phase.DONE,
            "at": at,
            "action": action,
            "result": "denied",
            "principal": {"kind": "anonymous", "name": "anonymous", "credential": None},
            "request": {"id": request_id, "surface": "rest"},
            "error": told,
        }
        self._books.owed()
        how = Settled.REFUSAL
        try:
            with self._pulse.watched():
                record = await self._sealer.seal(Draft(columns, public, {NOBODY: {"client_address": address}}))
                how = Settled.RECORD  # also for who is cancelled from here on: that is heard of once it is durable
                await self._log.write(record)
        except (LogUnavailable, Unavailable) as error:  # sealing asks the database too
            how = Settled.REFUSAL
            raise AuditUnavailable from error
        finally:
            self._books.settled(how)
