"""From an outcome to its audit record, and the hook that writes the records no transaction carried.

One place tells every story: mutations, reads, denials and crashes all become records here. The unit of work asks for
the record of a mutation and commits it with the change; this hook writes all others before the answer leaves.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from actions.action import AnyAction, Lineage, PrincipalKind
from actions.asking import asked_of, ref_of, target_of
from actions.auditing import Level
from actions.errors import AuditUnavailable, Denied, Unauthenticated, Unavailable
from actions.hooks import Outcome, Result, UsedThing
from actions.redacting import NOTHING, changes_of
from actions.vocabulary import ScopeType
from audit.accounts import Settled
from audit.keyed import KeyedHashes
from audit.lane import Lane
from audit.log import AuditLog, LogUnavailable
from audit.pulse import Pulse
from audit.record import Columns, Draft, Phase, Record, cut
from audit.redaction import NOBODY


class Books(Protocol):
    """Where it is counted that a record is owed, and what became of it."""

    def owed(self, count: int = 1) -> None: ...
    def settled(self, how: Settled, count: int = 1) -> None: ...


class Seals(Protocol):
    async def seal(self, draft: Draft) -> Record: ...
    async def seal_all(self, drafts: Sequence[Draft]) -> list[Record]: ...


class Recorder:
    """Makes records of outcomes, and as a hook writes those that are not yet recorded.

    The failures of anonymous callers go through the lane that failed authentications go through too.
    """

    def __init__(
        self, sealer: Seals, log: AuditLog, lane: Lane, pulse: Pulse, hashes: KeyedHashes, books: Books
    ) -> None:
        self._sealer = sealer
        self._log = log
        self._lane = lane
        self._pulse = pulse
        self._hashes = hashes
        self._books = books

    async def record(self, outcome: Outcome, phase: Phase = Phase.DONE, result: Result | None = None) -> Record:
        """The sealed record of an outcome as it stands. ``result`` foretells it, for a record inside a transaction."""
        made = draft(outcome, phase, result or outcome.result, datetime.now(UTC), self._hashes)
        return await self._sealer.seal(made)

    async def records(self, outcomes: Sequence[Outcome], phase: Phase, foretold: Result) -> list[Record]:
        """The records of a transaction: a batch's and its items'. Those that have not ended end as ``foretold``."""
        at = datetime.now(UTC)
        ended = ((outcome, foretold if outcome.result is Result.PENDING else outcome.result) for outcome in outcomes)
        drafts = [draft(one, phase, result, at, self._hashes) for one, result in ended]
        return await self._sealer.seal_all(drafts)

    def before(self, action: AnyAction) -> None:
        self._books.owed()

    async def after(self, outcome: Outcome) -> None:
        """Write what no transaction recorded. Raises ``AuditUnavailable``: the answer is withheld (law 7)."""
        try:
            how = await self._settle(outcome)
        except Exception:
            self._settled(outcome, Settled.REFUSAL)
            raise
        self._settled(outcome, how)

    def _settled(self, outcome: Outcome, how: Settled) -> None:
        self._books.settled(how)
        beside = sum(part.recorded for part in outcome.parts) + (outcome.phase is Phase.OUTCOME)
        self._books.owed(beside)  # a batch has a record for each of its items, too, and an effect its intent's
        self._books.settled(Settled.RECORD, beside)

    async def _settle(self, outcome: Outcome) -> Settled:
        if outcome.recorded:
            return Settled.RECORD
        if outcome.result is Result.UNKNOWN:
            return Settled.UNKNOWN  # what became of it is found out, and closed, by the sweeper
        if outcome.phase is Phase.OUTCOME and outcome.crash is not None:
            return Settled.UNKNOWN  # an effect that was cut short is that too: its intent stays open
        if _level(outcome, outcome.phase, outcome.result) is Level.NONE:
            return Settled.EXCLUDED
        if _is_anonymous_failure(outcome) and not self._lane.admits(
            outcome.action.spec.name, outcome.action.context.client_address or "", datetime.now(UTC)
        ):
            return Settled.COUNTED  # and the count is recorded
        try:
            opened = Result.PENDING if outcome.phase is Phase.OPENED else None  # it has succeeded in beginning
            with self._pulse.watched():
                record = await self.record(outcome, outcome.phase, opened)
                try:
                    await self._log.write(record)
                except asyncio.CancelledError:
                    outcome.recorded = True  # that is heard of only then
                    raise
        except (LogUnavailable, Unavailable) as error:  # sealing asks the database too
            raise AuditUnavailable from error
        outcome.recorded = True
        return Settled.RECORD

    async def close(self, outcome: Outcome, result: Result) -> None:
        """Write the closing record of an action that was left open. Raises ``AuditUnavailable``."""
        try:
            await self._log.write(await self.record(outcome, Phase.SETTLED, result))
        except (LogUnavailable, Unavailable) as error:
            raise AuditUnavailable from error
        self._books.owed()
        self._books.settled(Settled.RECORD)


def _is_anonymous_failure(outcome: Outcome) -> bool:
    return outcome.action.principal.kind is PrincipalKind.ANONYMOUS and outcome.result is not Result.SUCCEEDED


def _level(outcome: Outcome, phase: Phase, result: Result) -> Level:
    """How much of it is recorded. Of what opens and closes, both records or the tale would have one end."""
    action = outcome.action
    if outcome.audit is None:
        return Level.FULL
    level = outcome.audit.level(action.spec.permission, result, action.context.surface)
    return Level.METADATA if level is Level.NONE and phase is not Phase.DONE else level


def draft(outcome: Outcome, phase: Phase, result: Result, at: datetime, hashes: KeyedHashes) -> Draft:
    """What the record of an outcome says, and which of it is personal and whose."""
    action, decision, error = outcome.action, outcome.decision, outcome.error
    level = _level(outcome, phase, result)
    changes = changes_of(outcome, level, hashes)
    asked = asked_of(outcome, result, hashes) if level is Level.FULL else NOTHING
    lineage, target = outcome.lineage, outcome.target_lineage
    scope_ids, target_ids = _ids_by_type(lineage), _ids_by_type(target)
    target_id = target_of(outcome)
    columns = Columns(
        action_id=action.id,
        phase=phase,
        at=at,
        action=action.spec.name,
        result=result,
        principal=action.principal.name,
        principal_id=action.principal.id,
        request_id=action.context.request_id,
        scope_type=action.address.type,
        scope_domain_id=scope_ids.get(ScopeType.DOMAIN),
        scope_project_id=scope_ids.get(ScopeType.PROJECT),
        scope_user_id=scope_ids.get(ScopeType.USER),
        target_id=target_id,
        target_domain_id=target_ids.get(ScopeType.DOMAIN),
        target_project_id=target_ids.get(ScopeType.PROJECT),
        target_user_id=target_ids.get(ScopeType.USER),
        rule=decision.rule if decision else None,
        policy=decision.policy if decision else None,
    )
    public: dict[str, object] = {
        "id": action.id,
        "phase": phase,
        "at": at,
        "action": action.spec.name,
        "entity": action.spec.entity.name,
        "operation": action.spec.operation.word,
        "result": result,
        "principal": {
            "kind": action.principal.kind,
            "name": action.principal.name,
            "credential": action.principal.credential,
        },
        "scope": {"type": action.address.type, "lineage": _ids(lineage)}
        if lineage
        else {"type": action.address.type, "asked_for": ref_of(outcome)},
        "target": {"id": target_id, "lineage": _ids(target)} if target_id else None,
        "decision": {
            "allowed": decision.allowed,
            "rule": decision.rule,
            "policy": decision.policy,
            "roles": sorted(outcome.roles),
        }
        if decision
        else None,
        "uses": [
            {
                "field": field,
                "entity": used.entity,
                "id": cut(used.key),
                "operation": used.operation,
                "held": None
                if used.held is None
                else [{"scope": scope, "roles": sorted(roles)} for scope, roles in used.held],
                "allowed": used.decision.allowed if used.decision else False,
                "rule": used.decision.rule if used.decision else None,
            }
            for field, used in _uses(outcome, result)
        ],
        "changes": changes.public,
        "request": {"id": action.context.request_id, "surface": action.context.surface},
        "duration_us": round(outcome.elapsed() * 1e6),
    }
    if asked.public:
        public["asked"] = asked.public
    if error is not None:
        cause = error.cause if isinstance(error, Denied | Unauthenticated) else None
        public["error"] = {"status": error.face, "reason": error.reason, "cause": cause}
    if outcome.mode is not None:
        public["batch"] = {"mode": outcome.mode, "items": len(outcome.parts)}
    elif outcome.part_of is not None:
        public["batch"] = {"id": outcome.part_of.batch, "place": outcome.part_of.place}
    if outcome.sent is not None:
        public["stream"] = {"parts": outcome.sent}
    if level is Level.METADATA:
        public["level"] = level
    claimed = outcome.claimed if level is Level.FULL else ""
    personal = _personal(action, outcome, changes.personal, asked.personal, claimed)
    return Draft(columns, public, personal, changes.hashes + asked.hashes)


def _uses(outcome: Outcome, result: Result) -> Iterator[tuple[str, UsedThing]]:
    """What was used, with the field that named it. A batch that failed has one record, and so tells its items' too."""
    yield from ((used.field, used) for used in outcome.uses)
    if result is not Result.SUCCEEDED:
        for place, part in enumerate(outcome.parts):
            yield from ((f"items/{place}/change/{used.field}", used) for used in part.uses)


def _personal(
    action: AnyAction, outcome: Outcome, changed: Mapping[str, object], asked: Mapping[str, object], claimed: str
) -> dict[UUID, dict[str, object]]:
    personal: dict[UUID, dict[str, object]] = {}
    if action.context.client_address:
        about = action.principal.id or _ids_by_type(outcome.target_lineage).get(ScopeType.USER)
        personal[about or NOBODY] = {"client_address": action.context.client_address}
    if changed:
        personal.setdefault(outcome.subject or NOBODY, {})["changes"] = changed
    if asked:
        personal.setdefault(action.principal.id or NOBODY, {})["asked"] = asked
    if claimed:
        personal.setdefault(NOBODY, {})["claimed"] = cut(claimed)
    return personal


def _ids_by_type(lineage: Lineage | None) -> dict[ScopeType, UUID | None]:
    return {scope.type: scope.id for scope in lineage.scopes} if lineage else {}


def _ids(lineage: Lineage | None) -> list[dict[str, object]] | None:
    return [{"type": scope.type, "id": scope.id} for scope in lineage.scopes if scope.id] if lineage else None
