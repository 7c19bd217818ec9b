"""Asks a policy version its cases, as ``policy test`` asks a folder. What comes of them is told, and kept nowhere."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, cast

from pydantic import BaseModel

from actions.authorization.cases import CaseResults, run_cases
from actions.entities.policy_cases import SPECS
from actions.processor import Given, Offer
from actions.standard import Spec
from server.repositories.unit import Unit
from server.services.chosen_policy import ChosenPolicy
from server.services.question_record import note


class PolicyCaseService:
    def __init__(self, chosen: ChosenPolicy) -> None:
        self._chosen = chosen
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        return (Offer(spec, self.tell, self.ask) for spec in self.specs)

    async def ask(self, given: Given[Any]) -> BaseModel:
        asked = given.input
        index, source = await self._chosen.with_source(asked)
        return await asyncio.to_thread(
            run_cases, source, index, with_coverage=asked.coverage, with_mutation=asked.mutation
        )

    async def tell(self, unit: Unit, given: Given[Any]) -> BaseModel:
        results = cast(CaseResults, given.prepared)
        note(unit, policy=results.digest)
        return results
