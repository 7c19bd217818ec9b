"""What changes from one policy to another. The question is answered by a function of two policies; whom it touches, by
the role bindings, and only to those who may search them everywhere."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from actions.authorization.difference import difference
from actions.authorization.difference_answer import PolicyDifference, bounded
from actions.authorization.touched import Touches
from actions.entities.policy import PolicyQuestion
from actions.entities.policy_diff import SPECS
from actions.entities.role_binding import ROLE_BINDING
from actions.processor import Given, Offer
from actions.standard import Spec
from actions.vocabulary import SEARCH, Permission, ScopeType
from server.repositories.policy_diff import PolicyDiffRepository
from server.repositories.unit import Unit
from server.services.chosen_policy import ChosenPolicy
from server.services.turns import Turns

GROUPS, PARTS = 500, 10_000
"""The most that an answer shows: lines that make a difference, and roles and cells under them."""
_SEE_BINDINGS = Permission(ScopeType.ADMIN.value, ROLE_BINDING.name, SEARCH.word)


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
        if _SEE_BINDINGS in unit.permit.authority.allowed(unit.permit.lineage):
            found = touches.with_users(await self._holders.holders(unit, touches.roles))
        return bounded(found, groups=GROUPS, parts=PARTS)
