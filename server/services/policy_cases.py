"""Asks a policy version its cases, as ``policy test`` asks a folder: in a process of its own, a few at a time. What
comes of them is told, and kept nowhere."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from pydantic import BaseModel

from actions.authorization.cases import CaseResults
from actions.authorization.cases_aside import NotAsked, cases_aside
from actions.entities.policy_cases import SPECS
from actions.errors import Unavailable
from actions.processor import Given, Offer
from actions.standard import Spec
from server.repositories.unit import Unit
from server.services.chosen_policy import SECONDS, ChosenPolicy
from server.services.question_record import understood


class PolicyCaseService:
    def __init__(self, chosen: ChosenPolicy) -> None:
        self._chosen = chosen
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        return (Offer(spec, self.tell, self.ask) for spec in self.specs)

    async def ask(self, given: Given[Any]) -> BaseModel:
        asked = given.input
        index, source = await self._chosen.with_source(asked)
        async with self._chosen.aside.turn():
            try:
                return await cases_aside(
                    source, index, with_coverage=asked.coverage, with_mutation=asked.mutation, timeout_s=SECONDS
                )
            except NotAsked as error:
                raise Unavailable(f"The cases were not asked: {error}.", reason="unfinished") from error

    async def tell(self, unit: Unit, given: Given[Any]) -> BaseModel:
        results = cast(CaseResults, given.prepared)
        understood(unit, policy=results.digest)
        return results
