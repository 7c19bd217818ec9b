"""A candidate policy asked about whatever the active one decides, in the live server, and never obeyed.

It is asked after the fact, of what the pipeline has written into an action's account: whatever goes wrong here, the
answer is out already, and stays as it is. What differs is counted by kind, in bounded memory, until the sweeper takes
it. Who the kinds are of is told by roles: of the people only the last one of each kind.
"""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from actions.action import AnyAction, Decision
from actions.authorization.index import PolicyIndex
from actions.authorization.standing import decide_along
from actions.entities.policy_shadow import SPECS, TALLY
from actions.errors import ChamberlainError
from actions.hooks import Outcome, UsedThing
from actions.vocabulary import Permission
from audit.record import Phase
from server.http.metrics import Metrics
from server.policy import compiled, following
from server.repositories.channel import Channel
from server.repositories.database import Database
from server.repositories.policy_shadow import running_shadow
from server.services.chosen_policy import ReadStored

TALLYING = next(spec for spec in SPECS if spec.operation == TALLY)
KINDS_AT_MOST = 1_000
"""Kinds of differences that a worker tells apart between two tallies. Further ones are counted, and no more."""


class Kind(NamedTuple):
    """What makes two differences the same. ``roles`` are joined by ``+``, in the order of their names."""

    active: str
    roles: str
    cell: Permission
    gain: bool


@dataclass(slots=True)
class Seen:
    """How often, by which rules, and by whom last."""

    active_rule: str | None
    candidate_rule: str | None
    first_at: datetime
    last_at: datetime
    last_principal: str
    count: int = 0


@dataclass(slots=True)
class Counts:
    """What one shadow has seen in this worker since the last tally."""

    compared: int = 0
    gained: int = 0
    lost: int = 0
    failed: int = 0
    kinds: dict[Kind, Seen] = field(default_factory=dict)

    def add(self, kind: Kind, seen: Seen) -> None:
        known = self.kinds.get(kind)
        if known is not None:
            known.count += seen.count
            known.first_at, known.last_at = min(known.first_at, seen.first_at), max(known.last_at, seen.last_at)
            known.last_principal = seen.last_principal
        elif len(self.kinds) < KINDS_AT_MOST:
            self.kinds[kind] = seen

    def told(self, shadow: UUID) -> dict[str, Any]:
        """As the tally of a policy takes it."""
        differences = [
            {"active": kind.active, "roles": kind.roles, "gain": kind.gain, **_words(kind.cell), **asdict(seen)}
            for kind, seen in self.kinds.items()
        ]
        numbers = {name: getattr(self, name) for name in ("compared", "gained", "lost", "failed")}
        return {"shadow": str(shadow), **numbers, "differences": differences}


@dataclass(frozen=True, slots=True)
class _Running:
    id: UUID
    candidate: PolicyIndex


class Shadow:
    """A ``Hook``. ``follow`` finds out what is shadowed; ``take`` hands over what was seen."""

    def __init__(self, database: Database, stored: ReadStored, metrics: Metrics) -> None:
        self._database = database
        self._stored = stored
        self._metrics = metrics
        self._running: _Running | None = None
        self._seen: dict[UUID, Counts] = {}
        self._log = structlog.get_logger("chamberlain.policy")

    @property
    def candidate(self) -> PolicyIndex | None:
        """What is asked beside the active policy."""
        return self._running.candidate if self._running else None

    def before(self, action: AnyAction) -> None:
        """Nothing: it is asked after the fact."""

    async def after(self, outcome: Outcome) -> None:
        running = self._running
        if running is None or outcome.phase is Phase.CLOSED:  # a stream has been compared when it opened
            return
        if outcome.action.spec is TALLYING:  # to tell of what was seen is nothing to tell of
            return
        counts = self._seen.setdefault(running.id, Counts())
        try:
            self._compare(running.candidate, outcome, counts)
        except Exception as error:  # nothing that a candidate does may reach an answer
            counts.failed += 1
            self._metrics.shadow_compared("error")
            if counts.failed == 1:
                self._log.error("shadow could not be asked", policy=running.candidate.digest, exc_info=error)

    def take(self) -> dict[UUID, Counts]:
        """What was seen since the last time, by shadow."""
        taken, self._seen = self._seen, {}
        return {shadow: counts for shadow, counts in taken.items() if counts.compared or counts.failed}

    def give_back(self, shadow: UUID, counts: Counts) -> None:
        """It could not be written down; it counts with the next."""
        here = self._seen.setdefault(shadow, Counts())
        for name in ("compared", "gained", "lost", "failed"):
            setattr(here, name, getattr(here, name) + getattr(counts, name))
        for kind, seen in counts.kinds.items():
            here.add(kind, seen)

    async def load(self) -> None:
        """Shadow what the database says. Raises ``ValueError`` if this program cannot use it; then there is none."""
        wanted = await running_shadow(self._database)
        if wanted is not None and self._running is not None and wanted[0] == self._running.id:
            return
        if self._running is not None:
            self._log.info("shadow ended", policy=self._running.candidate.digest)
        self._running = None
        self._metrics.shadowed(None)
        if wanted is not None:
            shadow, digest = wanted
            candidate = await compiled(await self._stored(digest))
            self._running = _Running(shadow, candidate)
            self._metrics.shadowed(digest)
            self._log.info("shadow begun", policy=digest)

    async def follow(self, channel: Channel) -> None:
        """Load whenever the channel says that a shadow began or ended. Runs until cancelled."""
        await following(channel, "shadow:", self._keep_up)

    async def _keep_up(self) -> None:
        try:
            await self.load()
        except ChamberlainError:
            raise
        except Exception as error:  # the server decides on without it
            self._log.error("shadow cannot be used", exc_info=error)

    def _compare(self, candidate: PolicyIndex, outcome: Outcome, counts: Counts) -> None:
        decision = outcome.decision
        if decision is None or decision.policy == candidate.digest:
            return
        permission = outcome.action.spec.permission
        answer = candidate.decide(outcome.roles, permission)
        self._count(outcome, outcome.roles, permission, decision, answer, counts)
        for account in (outcome, *outcome.parts):
            for used in account.uses:
                self._compare_use(candidate, outcome, used, counts)

    def _compare_use(self, candidate: PolicyIndex, outcome: Outcome, used: UsedThing, counts: Counts) -> None:
        """Law 4: what the body names is decided too, in any scope of its lineage."""
        if used.decision is None or not used.held:
            return
        answer = decide_along(candidate, used.held, used.entity, used.operation)
        scope, roles = used.held[0]
        self._count(outcome, roles, Permission(scope, used.entity, used.operation), used.decision, answer, counts)

    def _count(
        self,
        outcome: Outcome,
        roles: frozenset[str],
        cell: Permission,
        decision: Decision,
        answer: Decision,
        counts: Counts,
    ) -> None:
        counts.compared += 1
        if answer.allowed == decision.allowed:
            self._metrics.shadow_compared("same")
            return
        gain = answer.allowed
        counts.gained, counts.lost = counts.gained + gain, counts.lost + (not gain)
        self._metrics.shadow_compared("gain" if gain else "loss")
        now = datetime.now(UTC)
        kind = Kind(decision.policy, "+".join(sorted(roles)), cell, gain)
        counts.add(kind, Seen(decision.rule, answer.rule, now, now, outcome.action.principal.name, 1))


def _words(cell: Permission) -> dict[str, str]:
    return {"scope": cell.scope, "entity": cell.entity, "operation": cell.operation}
