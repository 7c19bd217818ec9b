"""Checking a policy that is not in force: in a process of its own, Casbin's opinion included, a few at a time."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from actions.authorization.check import check_in_subprocess
from actions.authorization.check_answer import PolicyCheck, answer_of
from actions.entities import whole_vocabulary
from actions.entities.policy_checks import CHECK, SPECS
from actions.processor import Given, Offer
from actions.standard import Spec
from server.repositories.unit import Unit
from server.services.chosen_policy import SECONDS, ChosenPolicy
from server.services.question_record import understood


class PolicyCheckService:
    def __init__(self, chosen: ChosenPolicy) -> None:
        self._chosen = chosen
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers = {CHECK: self.answer}
        prepares = {CHECK: self._check}
        return (Offer(spec, handlers[spec.operation], prepares[spec.operation]) for spec in self.specs)

    async def _check(self, given: Given[Any]) -> PolicyCheck:
        source = await self._chosen.unread(given.input)
        async with self._chosen.aside.turn():
            result = await check_in_subprocess(source, whole_vocabulary(), timeout_s=SECONDS, budget_s=None)
        return await asyncio.to_thread(answer_of, result, source)

    async def answer(self, unit: Unit, given: Given[Any]) -> BaseModel:
        checked = PolicyCheck.model_validate(given.prepared)
        understood(unit, policy=checked.digest)
        return checked
