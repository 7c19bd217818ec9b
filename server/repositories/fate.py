"""What became of a commit whose connection broke.

The backend that it ran on is made to end, which fixes the fate of its transaction either way: it aborts, or it had
committed. PostgreSQL takes a backend off its list only after that, and a server that has started anew lists none of
the old ones. Then the record is looked for, which commits with the change and so tells of it, today and always.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import bindparam, or_, select

from actions.errors import OutcomeUnknown, Unavailable
from actions.hooks import Outcome, Result
from audit.log import audit_record
from audit.record import Phase
from server.repositories.database import Connection, Database, Query, errors, is_connection_loss

_SECONDS = 2.0
"""How long a sweep waits to be told what became of a change."""
_END_BACKEND = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1"
_RECORD_EXISTS = Query(
    select(audit_record.c.result).where(
        audit_record.c.action_id == bindparam("action_id"),
        or_(audit_record.c.phase == bindparam("phase"), audit_record.c.phase == Phase.SETTLED.value),
    )
)
"""Whether an action's record is there, or the one that closed its account."""


class Closes(Protocol):
    async def close(self, outcome: Outcome, result: Result) -> None: ...


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A commit whose fate could not be asked: the backend it ran on, and the account of its action."""

    backend: str
    outcome: Outcome
    phase: Phase


class Fates:
    """Finds out, at once or later."""

    def __init__(self, database: Database, recorder: Closes) -> None:
        self._database = database
        self._recorder = recorder
        self._unsettled: deque[Unsettled] = deque(maxlen=10_000)

    def leave(self, backend: str, outcome: Outcome, phase: Phase) -> None:
        """Have ``sweep`` find out about a commit that was sent; nobody is asked now."""
        self._unsettled.append(Unsettled(backend, outcome, phase))

    async def settle(self, backend: str, outcome: Outcome, phase: Phase, until: float) -> None:
        """Returns if the commit took place; ``backend`` is the application name of the connection it was sent on.

        Raises ``Unavailable`` if nothing was done, ``OutcomeUnknown`` if the database cannot be asked until then, by
        the loop's clock, or falls silent; ``sweep`` then asks again later.
        """
        try:
            async with asyncio.timeout_at(until):
                took_place = await self._took_place(Unsettled(backend, outcome, phase))
        except (Exception, asyncio.CancelledError) as error:
            self.leave(backend, outcome, phase)
            raise OutcomeUnknown(str(outcome.action.id)) from error
        if not took_place:
            raise Unavailable("The database went away before the change was made.", reason="database-unavailable")

    async def sweep(self) -> int:
        """Ask again about the commits left open; a change that was not made gets a closing record. Returns how many
        were closed. Raises ``Unavailable`` while the database cannot be reached."""
        closed = 0
        while self._unsettled:
            case = self._unsettled[0]
            if not await self._took_place(case):
                await self._recorder.close(case.outcome, Result.FAILED)
            self._unsettled.popleft()
            closed += 1
        return closed

    async def _took_place(self, case: Unsettled) -> bool:
        with errors():
            async with asyncio.timeout(_SECONDS):
                asking = await self._reconnect()
                try:
                    while await asking.fetch(_END_BACKEND, case.backend):  # noqa: ASYNC110 - nothing tells, so it is asked
                        await asyncio.sleep(0.02)
                    values = {"action_id": case.outcome.action.id, "phase": case.phase}
                    return await asking.fetchval(_RECORD_EXISTS.sql, *_RECORD_EXISTS.arguments(values)) is not None
                finally:
                    asking.terminate()

    async def _reconnect(self) -> Connection:
        """A connection, tried for until the caller's time is up: a database that restarts is soon back."""
        while True:
            try:
                return await self._database.connect("settle")
            except Exception as error:
                if not is_connection_loss(error):
                    raise
            await asyncio.sleep(0.05)
