"""What one principal may do where, at one moment: its bindings, and the policy, together (laws 3 to 6).

A standing is made for one request and dropped with it. It asks nobody: bindings and lineages come with the call.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from actions.action import Decision, Lineage, RoleBinding, Scope
from actions.authorization.index import PolicyIndex
from actions.directory import OWNER
from actions.vocabulary import Permission

RolesAlong = tuple[tuple[str, frozenset[str]], ...]
"""For each scope of a lineage, narrowest first: its type, and the roles that count there."""


def decide_along(index: PolicyIndex, held: RolesAlong, entity: str, operation: str) -> Decision:
    """Whether an operation is allowed in some scope of a lineage, and denied by name in none (law 4).

    The rule named is the deny, else the narrowest scope's allow.
    """
    decisions = []
    for scope, roles in held:
        permission = Permission(scope, entity, operation)
        if permission in index.vocabulary:
            decisions.append(index.decide(roles, permission))
    for decision in decisions:
        if decision.rule and not decision.allowed:
            return decision
    for decision in decisions:
        if decision.allowed:
            return decision
    return Decision(False, None, index.digest)


@dataclass(frozen=True)
class Standing:
    """A principal's authority. ``now`` is aware; ``home`` is the lineage of its own user scope, if it has one."""

    index: PolicyIndex
    bindings: tuple[RoleBinding, ...]
    now: datetime
    home: Lineage | None = None

    @cached_property
    def live(self) -> tuple[RoleBinding, ...]:
        """The bindings that have not expired."""
        return tuple(binding for binding in self.bindings if binding.holds_at(self.now))

    def roles_in(self, lineage: Lineage) -> frozenset[str]:
        """The roles that count in a scope: held there or in a scope that contains it, and ``owner`` in one's own."""
        return self._with_owner(_roles_over(lineage, self.live), lineage)

    def decide(self, lineage: Lineage, permission: Permission) -> Decision:
        """One decision over every role that counts there."""
        return self.index.decide(self.roles_in(lineage), permission)

    def allowed(self, lineage: Lineage) -> frozenset[Permission]:
        """Every cell that is allowed in a scope."""
        return self.index.allowed_cells(self.roles_in(lineage), lineage.scope.type)

    def decide_anywhere(self, lineage: Lineage, entity: str, operation: str) -> Decision:
        """Whether the operation is allowed in some scope of a thing's lineage, and denied by name in none (law 4)."""
        return decide_along(self.index, self.roles_along(lineage), entity, operation)

    def roles_along(self, lineage: Lineage) -> RolesAlong:
        """The roles that count in a scope and in each that contains it: all that ``decide_along`` needs to know."""
        return tuple(
            (scope.type.value, self.roles_in(Lineage(lineage.scopes[depth:], lineage.deleted)))
            for depth, scope in enumerate(lineage.scopes)
        )

    def may_do_anything(self, lineage: Lineage) -> bool:
        """Whether anything at all is allowed at the scope, or in a scope under it (law 6)."""
        return any(
            self.index.may_anything(self.roles_in(point), point.scope.type.at_or_under)
            for point in self._points(lineage, self.live)
        )

    def grants(self, role: str, lineage: Lineage, until: datetime | None) -> bool:
        """Whether binding ``role`` there gives away no more than the principal holds, for no longer than it holds it.

        ``until`` None is without end. Raises ``ValueError`` for a role that is not bindable in that type of scope.
        """
        if not self.index.bindable(role, lineage.scope.type):
            raise ValueError(f"the role '{role}' cannot be bound in a scope of type {lineage.scope.type}")
        lasting = tuple(binding for binding in self.live if _lasts(binding, until))
        return all(self._covers(point, frozenset((role,)), lasting) for point in self._points(lineage, self.live))

    def grows_without(self, role: str, lineage: Lineage) -> bool:
        """Whether losing one's own binding of a role there would let the principal do more than it may now."""
        rest = tuple(held for held in self.live if (held.role, held.lineage.scope) != (role, lineage.scope))
        return any(
            not self.index.allowed_cells(self._with_owner(_roles_over(point, rest), point), scope_type)
            <= self.index.allowed_cells(self.roles_in(point), scope_type)
            for point in self._points(lineage, self.live)
            for scope_type in point.scope.type.at_or_under
        )

    def covers(self, others: tuple[RoleBinding, ...]) -> bool:
        """Whether the principal may do everything that the holder of these bindings may, wherever they count, and for
        as long: what it holds itself for a while is no measure for what somebody holds without an end."""
        live = tuple(binding for binding in others if binding.holds_at(self.now))
        return all(self._plainly_covers(binding) for binding in live) or self._covers_everywhere(live)

    def _plainly_covers(self, other: RoleBinding) -> bool:
        """Whether what is held without end over the whole of a binding's scope, less all that is denied anywhere,
        is enough for it. If so no point under the scope need be looked at, and mostly it is so."""
        endless = _roles_over(other.lineage, (binding for binding in self.live if binding.expires_at is None))
        theirs, mine = frozenset((other.role,)), frozenset(binding.role for binding in self.live)
        return all(
            self.index.allowed_cells(theirs, scope_type) <= self.index.reach(scope_type, endless, mine)
            for scope_type in other.lineage.scope.type.at_or_under
        )

    def _covers_everywhere(self, live: tuple[RoleBinding, ...]) -> bool:
        points = {point.scope: point for binding in live for point in self._points(binding.lineage, self.live)}
        for point in points.values():
            for until in {binding.expires_at for binding in live}:
                theirs = _roles_over(point, (binding for binding in live if _lasts(binding, until)))
                lasting = tuple(binding for binding in self.live if _lasts(binding, until))
                if not self._covers(point, theirs, lasting):
                    return False
        return True

    def _covers(self, point: Lineage, theirs: frozenset[str], lasting: tuple[RoleBinding, ...]) -> bool:
        """Whether the reach of ``theirs`` at a point lies within the principal's, of which only some allows last.

        Compared for the point and for every type of scope under it, as if there were one in which nobody holds more.
        """
        allowing = self._with_owner(_roles_over(point, lasting), point)
        denying = self.roles_in(point)
        if theirs <= allowing and not self.index.denies_anything(denying):
            return True
        return all(
            self.index.allowed_cells(theirs, scope_type) <= self.index.reach(scope_type, allowing, denying)
            for scope_type in point.scope.type.at_or_under
        )

    def _points(self, lineage: Lineage, bindings: Iterable[RoleBinding]) -> Iterator[Lineage]:
        """The scope, and each scope under it where these bindings or the principal's ownership add a role.

        Between two such points the roles do not change, so what holds at all points holds everywhere under the scope.
        """
        points: dict[Scope, Lineage] = {lineage.scope: lineage}
        for binding in bindings:
            if lineage.contains(binding.lineage):
                points.setdefault(binding.lineage.scope, binding.lineage)
        if self.home is not None and lineage.contains(self.home):
            points.setdefault(self.home.scope, self.home)
        return iter(points.values())

    def _with_owner(self, roles: frozenset[str], lineage: Lineage) -> frozenset[str]:
        return roles | {OWNER} if self.home is not None and lineage.scope == self.home.scope else roles


def _roles_over(lineage: Lineage, bindings: Iterable[RoleBinding]) -> frozenset[str]:
    """The roles bound in a scope or in one that contains it."""
    return frozenset(binding.role for binding in bindings if binding.lineage.scope in lineage.scopes)


def _lasts(binding: RoleBinding, until: datetime | None) -> bool:
    return binding.expires_at is None or (until is not None and binding.expires_at >= until)
