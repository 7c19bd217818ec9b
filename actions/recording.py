"""From an outcome to its audit record, and the hook that writes the records no transaction carried.

One place tells every story: mutations, reads, denials and crashes all become records here. The unit of work asks for
the record of a mutation and commits it with the change; this hook writes all others before the answer leaves.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from actions.action import AnyAction, Lineage, PrincipalKind
from actions.errors import AuditUnavailable, Denied, Unauthenticated, Unavailable
from actions.hooks import Outcome, Result, UsedThing
from actions.vocabulary import ScopeType
from audit.lane import Lane
from audit.log import AuditLog, LogUnavailable
from audit.pulse import Pulse
from audit.record import LONGEST, Columns, Draft, Phase, Record, cut
from audit.redaction import NOBODY


class Seals(Protocol):
    async def seal(self, draft: Draft) -> Record: ...
    async def seal_all(self, drafts: Sequence[Draft]) -> list[Record]: ...


class Recorder:
    """Makes records of outcomes, and as a hook writes those that are not yet recorded.

    The failures of anonymous callers go through the lane that failed authentications go through too.
    """

    def __init__(self, sealer: Seals, log: AuditLog, lane: Lane, pulse: Pulse) -> None:
        self._sealer = sealer
        self._log = log
        self._lane = lane
        self._pulse = pulse

    async def record(self, outcome: Outcome, phase: Phase = Phase.DONE, result: Result | None = None) -> Record:
        """The sealed record of an outcome as it stands. ``result`` foretells it, for a record inside a transaction."""
        return await self._sealer.seal(draft(outcome, phase, result or outcome.result, datetime.now(UTC)))

    async def records(self, outcomes: Sequence[Outcome], phase: Phase, foretold: Result) -> list[Record]:
        """The records of a transaction: a batch's and its items'. Those that have not ended end as ``foretold``."""
        at = datetime.now(UTC)
        ended = ((outcome, outcome.result) for outcome in outcomes)
        drafts = [draft(one, phase, foretold if result is Result.PENDING else result, at) for one, result in ended]
        return await self._sealer.seal_all(drafts)

    async def after(self, outcome: Outcome) -> None:
        """Write what no transaction recorded. Raises ``AuditUnavailable``: the answer is withheld (law 7)."""
        if outcome.recorded or outcome.result is Result.UNKNOWN:
            return  # what became of an unknown one is found out, and closed, by the sweeper
        if outcome.phase is Phase.OUTCOME and outcome.crash is not None:
            return  # an effect that was cut short is unknown too: its intent stays open
        if _is_anonymous_failure(outcome) and not self._lane.admits(
            outcome.action.spec.name, outcome.action.context.client_address or "", datetime.now(UTC)
        ):
            return  # it is counted, and the count is recorded
        try:
            opened = Result.PENDING if outcome.phase is Phase.OPENED else None  # it has succeeded in beginning
            with self._pulse.watched():
                await self._log.write(await self.record(outcome, outcome.phase, opened))
        except (LogUnavailable, Unavailable) as error:  # sealing asks the database too
            raise AuditUnavailable from error
        outcome.recorded = True

    async def close(self, outcome: Outcome, result: Result) -> None:
        """Write the closing record of an action that was left open. Raises ``AuditUnavailable``."""
        try:
            await self._log.write(await self.record(outcome, Phase.SETTLED, result))
        except (LogUnavailable, Unavailable) as error:
            raise AuditUnavailable from error


def _is_anonymous_failure(outcome: Outcome) -> bool:
    return outcome.action.principal.kind is PrincipalKind.ANONYMOUS and outcome.result is not Result.SUCCEEDED


def draft(outcome: Outcome, phase: Phase, result: Result, at: datetime) -> Draft:
    """What the record of an outcome says, and which of it is personal and whose."""
    action, decision, error = outcome.action, outcome.decision, outcome.error
    lineage, target = outcome.lineage, outcome.target_lineage
    named = outcome.target or action.target
    target_id = cut(named) if named else None
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
        scope_domain_id=_id(lineage, ScopeType.DOMAIN),
        scope_project_id=_id(lineage, ScopeType.PROJECT),
        scope_user_id=_id(lineage, ScopeType.USER),
        target_id=target_id,
        target_domain_id=_id(target, ScopeType.DOMAIN),
        target_project_id=_id(target, ScopeType.PROJECT),
        target_user_id=_id(target, ScopeType.USER),
        rule=decision.rule if decision else None,
        policy=decision.policy if decision else None,
    )
    public: dict[str, object] = {
        "id": str(action.id),
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
        else {"type": action.address.type, "asked_for": cut(action.address.ref)},
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
        "changes": [
            {"field": change.name, "old": _bounded(change.old), "new": _bounded(change.new)}
            if not change.confidentiality
            else {"field": change.name, "confidential": change.confidentiality}
            for change in outcome.changes
        ],
        "request": {"id": action.context.request_id, "surface": action.context.surface},
        "duration_us": round(outcome.elapsed() * 1e6),
    }
    if error is not None:
        cause = error.cause if isinstance(error, Denied | Unauthenticated) else None
        public["error"] = {"status": error.face, "reason": error.reason, "cause": cause}
    if outcome.mode is not None:
        public["batch"] = {"mode": outcome.mode, "items": len(outcome.parts)}
    elif outcome.part_of is not None:
        public["batch"] = {"id": str(outcome.part_of.batch), "place": outcome.part_of.place}
    if outcome.sent is not None:
        public["stream"] = {"parts": outcome.sent}
    return Draft(columns, public, _personal(action, outcome))


def _uses(outcome: Outcome, result: Result) -> Iterator[tuple[str, UsedThing]]:
    """What was used, with the field that named it. A batch that failed has one record, and so tells its items' too."""
    yield from ((used.field, used) for used in outcome.uses)
    if result is not Result.SUCCEEDED:
        for place, part in enumerate(outcome.parts):
            yield from ((f"items/{place}/change/{used.field}", used) for used in part.uses)


def _bounded(value: object) -> object:
    return cut(value) if isinstance(value, str) and len(value.encode(errors="replace")) > LONGEST else value


def _personal(action: AnyAction, outcome: Outcome) -> dict[UUID, dict[str, object]]:
    personal: dict[UUID, dict[str, object]] = {}
    if action.context.client_address:
        about = action.principal.id or _id(outcome.target_lineage, ScopeType.USER)
        personal[about or NOBODY] = {"client_address": action.context.client_address}
    sealed = {
        change.name: [change.old, change.new] for change in outcome.changes if change.confidentiality == "personal"
    }
    if sealed:
        personal.setdefault(outcome.subject or NOBODY, {})["changes"] = sealed
    if outcome.claimed:
        personal.setdefault(NOBODY, {})["claimed"] = cut(outcome.claimed)
    return personal


def _id(lineage: Lineage | None, scope_type: ScopeType) -> UUID | None:
    return lineage.id_of(scope_type) if lineage else None


def _ids(lineage: Lineage | None) -> list[dict[str, str]] | None:
    return [{"type": scope.type, "id": str(scope.id)} for scope in lineage.scopes if scope.id] if lineage else None
