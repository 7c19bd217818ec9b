"""The items of a batch, one after another in its unit of work (law 9). What is the same for all is asked once.

This module knows no entity and no service: what is done to an item is handed in.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar
from uuid import UUID

from actions.action import Lineage, RoleBinding
from actions.batch import Mode
from actions.errors import ChamberlainError
from actions.processor import Given
from server.repositories.database import Row
from server.repositories.unit import HeldRoles, Unit

T = TypeVar("T")


class Items:
    """Runs the items of a batch. ``rows`` are those that it has locked; ``accounts`` the users whom they belong to."""

    def __init__(self, unit: Unit, rows: Mapping[UUID, Row]) -> None:
        self._unit = unit
        self._rows = dict(rows)
        self._directory = _Remembered(unit.directory)

    async def expect(self, accounts: Collection[UUID]) -> None:
        """Ask at once what all these users hold, as law 5 will want to know of each."""
        await self._directory.expect(accounts)

    async def do(self, place: int, work: Callable[[Unit, Given[Any]], Awaitable[T]], given: Given[Any]) -> T | None:
        """Do one item. None: it failed, which is noted, and the batch goes on. Raises what the batch fails with."""
        unit = self._unit
        part = unit.part(unit.outcome.parts[place], self._rows, self._directory)
        try:
            if unit.outcome.mode is Mode.PARTIAL:
                async with unit.attempt():
                    done = await work(part, given)
            else:
                done = await work(part, given)
        except ChamberlainError as error:
            unit.outcome.item_failed(place, error)
            return None
        unit.absorb(part)
        return done


class _Remembered:
    """The directory, with its answers kept for the length of one batch."""

    def __init__(self, directory: HeldRoles) -> None:
        self._directory = directory
        self._bindings: dict[UUID, tuple[RoleBinding, ...]] = {}
        self._places: dict[tuple[str, str], Lineage | None] = {}

    async def expect(self, accounts: Collection[UUID]) -> None:
        self._bindings |= await self._directory.bindings_of(accounts)

    async def bindings(self, principal_id: UUID) -> tuple[RoleBinding, ...]:
        return (await self.bindings_of((principal_id,)))[principal_id]

    async def bindings_of(self, principals: Collection[UUID]) -> Mapping[UUID, tuple[RoleBinding, ...]]:
        if missing := [one for one in principals if one not in self._bindings]:
            await self.expect(missing)
        return self._bindings

    async def locate(self, entity: str, key: str) -> Lineage | None:
        if (entity, key) not in self._places:
            self._places[entity, key] = await self._directory.locate(entity, key)
        return self._places[entity, key]

    def forget(self, *keys: object) -> None:
        self._directory.forget(*keys)
