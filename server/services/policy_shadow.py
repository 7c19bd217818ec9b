"""The rules of shadows: there is at most one, it is never what decides anyway, and it ends when it comes to decide."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from actions.action import ADMIN_LINEAGE
from actions.entities.policy import POLICY
from actions.entities.policy_shadow import (
    SHADOW,
    SHADOW_REPORT,
    SPECS,
    TALLY,
    UNSHADOW,
    PolicyShadow,
    ShadowDifference,
    ShadowReport,
    ShadowTallied,
)
from actions.entities.policy_usage import REPLAY
from actions.errors import Conflict
from actions.hooks import FieldChange
from actions.processor import Given, Offer
from actions.standard import Spec
from actions.vocabulary import Permission, ScopeType
from audit.record import new_id
from server.repositories.database import Row
from server.repositories.policies import PolicyRepository
from server.repositories.policy_shadow import PolicyShadowRepository
from server.repositories.unit import Unit
from server.services.asked import may
from server.services.chosen_policy import ChosenPolicy
from server.services.question_record import understood

_READS_THE_LOG = Permission(ScopeType.ADMIN.value, POLICY.name, REPLAY.word)
"""Who may read a policy may not therefore learn who did what."""


class PolicyShadowService:
    def __init__(self, shadows: PolicyShadowRepository, policies: PolicyRepository, chosen: ChosenPolicy) -> None:
        self._shadows = shadows
        self._policies = policies
        self._chosen = chosen
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers = {SHADOW: self.start, UNSHADOW: self.stop, SHADOW_REPORT: self.report, TALLY: self.tally}
        prepares = {SHADOW: self._usable}
        return (Offer(spec, handlers[spec.operation], prepares.get(spec.operation)) for spec in self.specs)

    async def _usable(self, given: Given[Any]) -> None:
        """What could not be made active has nothing to say either."""
        try:
            await self._chosen.check(given.target or "")
        except ValueError as error:
            finding = str(error).partition("\n")[0]
            raise Conflict(f"This program cannot use that version: {finding}", reason="unusable-policy") from error

    async def start(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await unit.begin()
        active = await self._policies.lock(unit)
        candidate: str = (await self._policies.get(unit, given.target or ""))["id"]
        if candidate == active:
            raise Conflict("This version decides already, so there is nothing to compare it with.", reason="is-active")
        by, reason = unit.permit.action.principal.name, given.input.reason
        before = await self._shadows.end(unit, by, f"another shadow began: {reason}")
        self._tell(unit, candidate, before, candidate, reason)
        await self._shadows.start(unit, new_id(), candidate, by, reason)
        return await self._latest(unit)

    async def stop(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await unit.begin()
        await self._policies.lock(unit)
        reason = given.input.reason
        candidate = await self._shadows.end(unit, unit.permit.action.principal.name, reason)
        if candidate is None:
            raise Conflict("No policy version is shadowed.", reason="no-shadow")
        self._tell(unit, candidate, candidate, None, reason)
        return await self._latest(unit)

    async def report(self, unit: Unit, given: Given[Any]) -> BaseModel:
        latest = await self._shadows.latest(unit)
        if latest is None:
            return ShadowReport(shadow=None, kinds=0, differences=[])
        understood(unit, policy=latest["digest"])
        told = [_difference(row) for row in await self._shadows.differences(unit, latest["id"], given.input.limit)]
        if not may(unit, _READS_THE_LOG):
            told = [each.model_copy(update={"last_principal": None}) for each in told]
        return ShadowReport(
            shadow=_shadow(latest), kinds=await self._shadows.kinds(unit, latest["id"]), differences=told
        )

    async def tally(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await unit.begin()
        await self._shadows.tally(unit, given.input)
        return ShadowTallied(kept=len(given.input.differences))

    async def _latest(self, unit: Unit) -> BaseModel:
        latest = await self._shadows.latest(unit)
        assert latest is not None  # the transaction has just written it  # noqa: S101
        return _shadow(latest)

    def _tell(self, unit: Unit, target: str, before: str | None, after: str | None, reason: str) -> None:
        unit.targets(target, ADMIN_LINEAGE)
        unit.changes((FieldChange("shadow", before, after), FieldChange("reason", None, reason)), None)


def _shadow(row: Row) -> PolicyShadow:
    return PolicyShadow.model_validate(
        {**row, "candidate": row["digest"], "started_at": row["at"], "started_by": row["by"]}
    )


def _difference(row: Row) -> ShadowDifference:
    cell = {name: row[name] for name in ("scope", "entity", "operation")}
    return ShadowDifference.model_validate({**row, "roles": [*filter(None, row["roles"].split("+"))], "cell": cell})
