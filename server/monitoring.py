"""The monitoring hook: each action's end in the metrics, and one line in the log, at ``debug`` for a success.

The line names the action, what was decided by which rule of which policy version, and why a refusal was one. It never
holds an input or an output, nor what is named in an address and is not there: that may be anything.
"""

import logging
from typing import Any

import structlog

from actions.action import AnyAction, PrincipalKind
from actions.asking import ref_of, target_of
from actions.errors import AuditUnavailable, Denied, TooManyRequests, Unauthenticated, Undecided
from actions.hooks import Outcome, Result
from audit.record import Phase
from server.http.metrics import Metrics


class Monitoring:
    """A ``Hook``: the outermost, so that it sees what the audit hook did too."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = structlog.get_logger("chamberlain.action")

    def before(self, action: AnyAction) -> None:
        self._metrics.account_begun()

    async def after(self, outcome: Outcome) -> None:
        self._metrics.account_ended()
        action, decision, error = outcome.action, outcome.decision, outcome.error
        metrics = self._metrics
        effect = "none" if decision is None else "allow" if decision.allowed else "deny"
        if outcome.phase is not Phase.CLOSED:  # a stream has been counted when it opened
            metrics.action_finished(
                action.spec.name, "error" if isinstance(error, Undecided) else effect, outcome.result
            )
            if decision is not None:
                metrics.policy_decided(effect, "default" if decision.rule is None else "rule")
        for stage, seconds in outcome.stages.items():
            metrics.stage_finished(stage, seconds)
        if isinstance(error, AuditUnavailable):
            metrics.audit_rejected()
        elif outcome.recorded:
            metrics.audit_recorded(outcome.result)
            for part in outcome.parts:
                if part.recorded:
                    metrics.audit_recorded(part.result)
        if isinstance(error, TooManyRequests):
            metrics.rate_limited(error.reason)
        elif isinstance(error, Unauthenticated) and action.principal.kind is PrincipalKind.ANONYMOUS:
            metrics.authentication_failed(error.cause)
        quiet = outcome.result is Result.SUCCEEDED  # what was done stands in the audit log; this one tells what was not
        if quiet and not self._log.is_enabled_for(logging.DEBUG):
            return
        ref = ref_of(outcome)
        told: dict[str, Any] = {
            "request_id": action.context.request_id,
            "action": action.spec.name,
            "action_id": str(action.id),
            "principal": action.principal.name,
            "scope": f"{action.address.type}:{ref}" if ref else action.address.type.value,
            "target": target_of(outcome),
            "result": outcome.result.value,
            "status": error.face if error else 200,
            "rule": decision.rule if decision else None,
            "policy": decision.policy[:12] if decision else None,
            "ms": round(outcome.elapsed() * 1e3, 2),
        }
        if error is not None:
            told["reason"] = error.reason
            if isinstance(error, Unauthenticated):
                told["cause"] = error.cause
            if isinstance(error, Denied):
                told |= {"cause": error.cause, "roles": sorted(outcome.roles) if decision else None}
        if outcome.crash is not None:
            self._log.error("action", **told, exc_info=outcome.crash)
        elif quiet:
            self._log.debug("action", **told)
        else:
            self._log.info("action", **told)
