"""What changes from one policy to another. The question is answered by a function of two policies; whom it touches, by
the role bindings, and only to those who may search them everywhere."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from actions.authorization.difference import difference
from actions.authorization.difference_answer import PolicyDifference, bounded
from actions.authorization.touched import Touches
from actions.entities.policy import PolicyQuestion
from actions.entities.policy_diff import SPECS
from actions.processor import Given, Offer
from actions.standard import Spec
from server.repositories.policy_diff import PolicyDiffRepository
from server.repositories.unit import Unit
from server.services import asked
from server.services.chosen_policy import ChosenPolicy
from server.services.question_record import understood
from server.services.turns import Turns

GROUPS, PARTS = 500, 10_000
"""The most that an answer shows: lines that make a difference, and roles and cells under them."""


class PolicyDiffService:
    def __init__(self, chosen: ChosenPolicy, holders: PolicyDiffRepository) -> None:
        self._chosen = chosen
        self._holders = holders
        self._turns = Turns(1)
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        return (Offer(spec, self.diff, self._compare) for spec in self.specs)

    async def _compare(self, given: Given[Any]) -> Touches:
        old = await self._chosen.of(given.input.old or PolicyQuestion(), "/old")
        new = await self._chosen.of(given.input.new, "/new")
        async with self._turns.turn():
            return await asyncio.to_thread(lambda: Touches(difference(old, new), old, new))

    async def diff(self, unit: Unit, given: Given[Any]) -> BaseModel:
        touches: Any = given.prepared
        found: PolicyDifference = touches.found
        understood(unit, old=found.old, new=found.new)
        if asked.sees_who_holds_what(unit):
            found = touches.with_users(await self._holders.holders(unit, touches.roles, datetime.now(UTC)))
        return bounded(found, groups=GROUPS, parts=PARTS)
