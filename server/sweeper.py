"""What is done at intervals: commits whose fate was unknown, intents that never closed, counts of use and of
what a shadow saw, what is left over, signing keys that have grown old.

Each worker sweeps what it knows of; the housekeeper sweeps what lies in the database. What writes does so as a named
system principal, through the pipeline.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import orjson
import structlog

from actions.entities.audit_key import RENEW as RENEW_AUDIT_KEY
from actions.entities.audit_key import SPECS as AUDIT_KEY_SPECS
from actions.entities.installation import SPECS as INSTALLATION_SPECS
from actions.entities.installation import SWEEP
from actions.entities.keypair import SPECS as KEYPAIR_SPECS
from actions.entities.keypair import TALLY
from actions.entities.signing_key import RENEW
from actions.entities.signing_key import SPECS as SIGNING_KEY_SPECS
from actions.errors import ChamberlainError, OutcomeUnknown
from audit.accounts import Settled
from audit.log import AuditLog, LogUnavailable
from audit.record import VERSION, Columns, Phase, Record, canonical
from server.http.authentication_log import AuthenticationLog, Books
from server.repositories.audit_keys import has_key_work
from server.repositories.database import Database, Row
from server.repositories.installation import has_leftovers
from server.repositories.intents import AT_ONCE, open_intents
from server.repositories.signing_keys import has_key_made_since
from server.repositories.unit import Units
from server.shadow import TALLYING, Shadow

Internally = Callable[..., Awaitable[object]]
_SWEEP = next(spec for spec in INSTALLATION_SPECS if spec.operation == SWEEP)
RENEWING = next(spec for spec in SIGNING_KEY_SPECS if spec.operation == RENEW)
RENEWING_AUDIT_KEY = next(spec for spec in AUDIT_KEY_SPECS if spec.operation == RENEW_AUDIT_KEY)
_TALLY = next(spec for spec in KEYPAIR_SPECS if spec.operation == TALLY)
SWEEPER = "system:sweeper"
SECONDS = 5.0
INTENT_SECONDS = 30
"""An intent without an outcome for so long is closed as unknown: it shows within a minute."""


class Uses:
    """How often each key pair was used since the last tally."""

    def __init__(self) -> None:
        self._counts: dict[uuid.UUID, tuple[int, datetime]] = {}

    def note(self, keypair: uuid.UUID, at: datetime) -> None:
        count, _ = self._counts.get(keypair, (0, at))
        self._counts[keypair] = (count + 1, at)

    def take(self) -> dict[uuid.UUID, tuple[int, datetime]]:
        taken, self._counts = self._counts, {}
        return taken

    def give_back(self, taken: dict[uuid.UUID, tuple[int, datetime]]) -> None:
        """They could not be written down; they count with the next."""
        for key, (count, at) in taken.items():
            more, last = self._counts.get(key, (0, at))
            self._counts[key] = (count + more, last)


class Sweeper:
    def __init__(
        self,
        database: Database,
        units: Units,
        log: AuditLog,
        failures: AuthenticationLog,
        uses: Uses,
        shadow: Shadow,
        internally: Internally,
        books: Books,
        *,
        housekeeper: bool,
        signing_key_life: timedelta,
    ) -> None:
        self._database = database
        self._units = units
        self._audit = log
        self._failures = failures
        self._uses = uses
        self._shadow = shadow
        self._internally = internally
        self._books = books
        self._housekeeper = housekeeper
        self._signing_key_life = signing_key_life
        self._log = structlog.get_logger("chamberlain.sweeper")

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(SECONDS)
            await self.once()

    async def last(self) -> None:
        """The last round of this process, when it serves nobody any more: it leaves nothing uncounted."""
        await self.once()
        try:
            await self._failures.flush(datetime.now(UTC), last=True)
        except (ChamberlainError, LogUnavailable) as error:
            self._log.error("failures not counted", count=self._failures.untold, reason=type(error).__name__)

    async def once(self) -> None:
        """One round. What fails is tried again in the next."""
        works = [self._settle, self._count_failures, self.tally, self.tally_shadow]
        if self._housekeeper:
            works += [self._close_intents, self._clear_leftovers, self._renew_signing_key, self._renew_audit_key]
        for work in works:
            try:
                await work()
            except (ChamberlainError, LogUnavailable) as error:
                self._log.warning("sweep put off", work=work.__name__.strip("_"), reason=type(error).__name__)
            except Exception as error:
                self._log.error("sweep failed", work=work.__name__.strip("_"), exc_info=error)

    async def tally(self) -> None:
        taken = self._uses.take()
        if not taken:
            return
        uses = [{"keypair_id": str(key), "queries": count, "last_used": at} for key, (count, at) in taken.items()]
        try:
            await self._internally(_TALLY, SWEEPER, {"uses": uses})
        except OutcomeUnknown:
            raise  # they may have been counted; rather too few than twice
        except ChamberlainError:
            self._uses.give_back(taken)
            raise

    async def tally_shadow(self) -> None:
        for shadow, counts in self._shadow.take().items():
            try:
                await self._internally(TALLYING, SWEEPER, counts.told(shadow))
            except OutcomeUnknown:
                raise
            except ChamberlainError:
                self._shadow.give_back(shadow, counts)
                raise

    async def _settle(self) -> None:
        await self._units.fates.sweep()

    async def _count_failures(self) -> None:
        await self._failures.flush(datetime.now(UTC))

    async def _clear_leftovers(self) -> None:
        if await has_leftovers(self._database):
            await self._internally(_SWEEP, SWEEPER, {})

    async def _renew_signing_key(self) -> None:
        if not await has_key_made_since(self._database, datetime.now(UTC) - self._signing_key_life):
            await self._internally(RENEWING, SWEEPER, {})

    async def _renew_audit_key(self) -> None:
        if await has_key_work(self._database):
            await self._internally(RENEWING_AUDIT_KEY, SWEEPER, {})

    async def _close_intents(self) -> None:
        """Law 8: an intent whose outcome never came shows as *unknown*. All that are due, the oldest first."""
        last: Row | None = None
        while found := await open_intents(self._database, INTENT_SECONDS, last):
            closed = await asyncio.gather(*(self._close(intent) for intent in found), return_exceptions=True)
            errors = [error for error in closed if error is not None]
            if errors:
                self._log.error("intents not closed", count=len(errors), exc_info=errors[0])
            refused = any(isinstance(error, LogUnavailable) for error in errors)
            if len(found) < AT_ONCE or (refused and len(errors) == len(found)):
                return  # a log that takes none of a hundred is not asked to take thousands
            last = found[-1]

    async def _close(self, intent: Row) -> None:
        told = orjson.loads(intent["leaf"])
        now = datetime.now(UTC)
        closing = {
            "v": VERSION,
            "id": told["id"],
            "phase": Phase.SETTLED,
            "at": now,
            "action": told["action"],
            "result": "unknown",
            "principal": {"kind": "system", "name": SWEEPER, "credential": None},
            "closes": {"phase": Phase.INTENT, "principal": told["principal"]},
            "salt": uuid.uuid4().hex,
            "sealed": [],
        }
        columns = Columns(
            action_id=intent["action_id"],
            phase=Phase.SETTLED,
            at=now,
            action=intent["action"],
            result="unknown",
            principal=SWEEPER,
            request_id=intent["request_id"],
            scope_type=intent["scope_type"],
            scope_domain_id=intent["scope_domain_id"],
            scope_project_id=intent["scope_project_id"],
            scope_user_id=intent["scope_user_id"],
            target_id=intent["target_id"],
            target_domain_id=intent["target_domain_id"],
            target_project_id=intent["target_project_id"],
            target_user_id=intent["target_user_id"],
        )
        await self._audit.write(Record(columns, canonical(closing), None))
        self._books.owed()
        self._books.settled(Settled.RECORD)
