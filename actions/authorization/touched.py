"""Which users a difference touches: whoever may do something, somewhere, that they might not before, or no longer may.

Users come as classes: all who hold the same roles at the same kinds of place are decided once. The roles that count in
a place are decided together, so whoever keeps by one role what another loses is not touched. As law 5 does, it looks at
each place where somebody holds something, and at every type of scope under it, as if there were one in which nobody
holds more. This module knows no database: the classes come with the call.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import nsmallest
from uuid import UUID

from actions.authorization.answers import Cell
from actions.authorization.difference_answer import DifferenceGroup, DifferenceUsers, PolicyDifference, TouchedUsers
from actions.authorization.index import PolicyIndex
from actions.vocabulary import Permission, ScopeType

FIRST = 10
"""How many users are named."""


@dataclass(frozen=True, slots=True)
class Point:
    """A kind of place: the type of scope, and the roles that count there, those held above it included."""

    scope_type: ScopeType
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Holders:
    """All the users who hold something at the same points. ``first`` are the least of their ids: ``FIRST`` of them, or
    all if there are fewer."""

    points: frozenset[Point]
    count: int
    first: tuple[UUID, ...]


@dataclass(slots=True)
class _Count:
    count: int = 0
    first: list[UUID] = field(default_factory=list)

    def add(self, holders: Holders) -> None:
        self.count += holders.count
        self.first = nsmallest(FIRST, [*self.first, *holders.first])

    def told(self) -> TouchedUsers:
        return TouchedUsers(count=self.count, first=self.first)


@dataclass(frozen=True, slots=True)
class _Touch:
    """What changes for whoever stands at a point: whether they gain or lose anything, and by which effects."""

    gains: bool
    loses: bool
    effects: frozenset[int]


class Touches:
    """A difference, ready to be asked whom it touches. Making one takes as long as the difference is large; asking it
    decides under both policies, once for each point."""

    def __init__(self, found: PolicyDifference, old: PolicyIndex, new: PolicyIndex) -> None:
        self.found = found
        self._old, self._new = old, new
        self._effects = [effect for group in found.groups for effect in group.effects]
        self._cells = [frozenset(_permission(cell) for cell in effect.cells) for effect in self._effects]
        self._by_role: dict[str, list[int]] = {}
        for number, effect in enumerate(self._effects):
            for role in effect.roles:
                self._by_role.setdefault(role, []).append(number)
        self._known: dict[Point, _Touch] = {}

    @property
    def roles(self) -> frozenset[str]:
        """The roles of which somebody must hold one to be touched at all."""
        return frozenset(self._by_role)

    def with_users(self, holders: Iterable[Holders]) -> PolicyDifference:
        """The whole difference, with the users that each effect touches. ``holders`` are every user who holds one of
        ``roles``, each in one class."""
        gaining, losing = _Count(), _Count()
        counts = [_Count() for _ in self._effects]
        for each in holders:
            seen = [self._at(point) for point in each.points]
            if any(touch.gains for touch in seen):
                gaining.add(each)
            if any(touch.loses for touch in seen):
                losing.add(each)
            for number in frozenset().union(*(touch.effects for touch in seen)):
                counts[number].add(each)
        told = iter(counts)
        groups = [
            DifferenceGroup(
                cause=group.cause,
                effects=[effect.model_copy(update={"users": next(told).told()}) for effect in group.effects],
            )
            for group in self.found.groups
        ]
        users = DifferenceUsers(gain=gaining.told(), lose=losing.told())
        return self.found.model_copy(update={"groups": groups, "users": users})

    def _at(self, point: Point) -> _Touch:
        if point not in self._known:
            self._known[point] = self._decided(point)
        return self._known[point]

    def _decided(self, point: Point) -> _Touch:
        before, after = _allowed(self._old, point), _allowed(self._new, point)
        gained, lost = after - before, before - after
        concerned = {number for role in point.roles for number in self._by_role.get(role, ())}
        effects = frozenset(
            number
            for number in concerned
            if not self._cells[number].isdisjoint(gained if self._effects[number].kind.widens else lost)
        )
        return _Touch(bool(gained), bool(lost), effects)


def _allowed(index: PolicyIndex, point: Point) -> frozenset[Permission]:
    under = point.scope_type.at_or_under
    return frozenset().union(*(index.allowed_cells(point.roles, scope_type) for scope_type in under))


def _permission(cell: Cell) -> Permission:
    return Permission(cell.scope, cell.entity, cell.operation)
