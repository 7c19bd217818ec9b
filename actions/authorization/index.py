"""Rules compiled for deciding: one look-up per cell and one per role, however many rules there are.

Inheritance and wildcards are spelled out when a policy is compiled, so a decision walks neither. An index never
changes; a new policy is a new index. This module knows no principal, no scope that exists, and no cache.
"""

from array import array
from collections.abc import Iterable, Mapping
from typing import final

from actions.action import Decision
from actions.authorization.rules import Cells, Parsed, Role, RoleLink, Rule, ancestors
from actions.vocabulary import Permission, ScopeType, Vocabulary

_NO_CELLS: frozenset[Permission] = frozenset()


@final
class PolicyIndex:
    """One policy, ready to decide. Made by ``compile`` alone; nothing in it may be changed."""

    __slots__ = (
        "_allows",
        "_columns",
        "_denies",
        "_places",
        "_verdicts",
        "digest",
        "links",
        "roles",
        "rules",
        "vocabulary",
    )

    def __init__(self, parsed: Parsed, vocabulary: Vocabulary, digest: str) -> None:
        self.digest = digest
        self.vocabulary = vocabulary
        self.roles: Mapping[str, Role] = parsed.roles
        self.rules: tuple[Rule, ...] = parsed.rules
        self.links: tuple[RoleLink, ...] = parsed.links
        self._places = tuple(rule.place for rule in parsed.rules)
        # A verdict is the number of the deciding rule: as it stands for an allow, counted from the end (negative) for
        # a deny, and one past the last rule for neither. So the least of several decides: denies before allows, and
        # within each the first rule. Arrays, with a column for each role, are ten times smaller than dictionaries: with
        # many roles a decision costs what it costs to fetch them from memory.
        undecided = array("i", [len(parsed.rules)]) * len(parsed.roles)
        self._columns = {role: column for column, role in enumerate(parsed.roles)}
        self._verdicts = {cell: array("i", undecided) for cell in vocabulary}
        self._allows: dict[str, dict[str, frozenset[Permission]]] = {}
        self._denies: dict[str, dict[str, frozenset[Permission]]] = {}
        own = _own_verdicts(parsed.rules, Cells(vocabulary))
        for role, line in ancestors(parsed.roles, parsed.links).items():
            self._add(role, [own[ancestor] for ancestor in line if ancestor in own])

    def _add(self, role: str, sources: list[tuple[dict[Permission, int], dict[Permission, int]]]) -> None:
        allows: dict[Permission, int] = {}
        denies: dict[Permission, int] = {}
        for own_allows, own_denies in sources:
            for cell, rule in own_allows.items():
                allows[cell] = min(rule, allows.get(cell, rule))
            for cell, rule in own_denies.items():
                denies[cell] = min(rule, denies.get(cell, rule))
        for cell, rule in (allows | denies).items():
            self._verdicts[cell][self._columns[role]] = rule
        self._allows[role] = _by_scope(allows)
        self._denies[role] = _by_scope(denies)

    def decide(self, roles: frozenset[str], permission: Permission) -> Decision:
        """One decision over a set of roles: an explicit deny of any beats every allow, and no rule at all is a deny.

        The rule named is the first that decides, in the order superadmin, domain, project, user, then line.
        """
        deciding = self._deciding(roles, permission)
        counted = tuple(sorted(roles))
        if deciding == len(self._places):
            return Decision(False, None, self.digest, counted)
        return Decision(deciding >= 0, self._places[deciding], self.digest, counted)

    def rule_for(self, roles: frozenset[str], permission: Permission) -> Rule | None:
        """The rule that ``decide`` names: an allow, a deny, or None where no rule speaks of it."""
        deciding = self._deciding(roles, permission)
        return None if deciding == len(self.rules) else self.rules[deciding]

    def _deciding(self, roles: frozenset[str], permission: Permission) -> int:
        verdicts, columns = self._verdicts.get(permission), self._columns
        deciding = len(self._places)
        if verdicts is not None:
            for role in roles:
                column = columns.get(role)
                if column is not None:
                    deciding = min(deciding, verdicts[column])
        return deciding

    def allowed_cells(self, roles: frozenset[str], scope_type: str) -> frozenset[Permission]:
        """Every cell of a scope type that a set of roles is allowed there, denies applied."""
        return self.reach(scope_type, roles, roles)

    def reach(self, scope_type: str, allowing: frozenset[str], denying: frozenset[str]) -> frozenset[Permission]:
        """What the allows of some roles leave under the denies of others, among the cells of a scope type (law 5)."""
        allowed = [self._allows[role].get(scope_type, _NO_CELLS) for role in allowing if role in self._allows]
        denied = [self._denies[role].get(scope_type, _NO_CELLS) for role in denying if role in self._denies]
        return _NO_CELLS.union(*allowed).difference(*denied)

    def denies_anything(self, roles: frozenset[str]) -> bool:
        """Whether any of these roles carries a deny, its own or inherited."""
        return any(self._denies.get(role) for role in roles)

    def may_anything(self, roles: frozenset[str], scope_types: Iterable[ScopeType]) -> bool:
        """Whether a set of roles is allowed any cell at all of these scope types."""
        return any(self.allowed_cells(roles, scope_type) for scope_type in scope_types)

    def bindable(self, role: str, scope_type: ScopeType) -> bool:
        """Whether the role is declared and may be bound in scopes of this type."""
        return role in self.roles and scope_type in self.roles[role].bindable


def compile(parsed: Parsed, vocabulary: Vocabulary, digest: str) -> PolicyIndex:
    """The index of a policy that was parsed with this vocabulary. Raises ``ValueError`` when the policy has errors."""
    if parsed.errors:
        raise ValueError(f"a policy with errors is never compiled; the first is {parsed.errors[0]}")
    return PolicyIndex(parsed, vocabulary, digest)


def _own_verdicts(
    rules: tuple[Rule, ...], cells: Cells
) -> dict[str, tuple[dict[Permission, int], dict[Permission, int]]]:
    """Per role, the first of its own rules to allow each cell and the first to deny it, before inheritance."""
    own: dict[str, tuple[dict[Permission, int], dict[Permission, int]]] = {}
    for number, rule in enumerate(rules):
        allows, denies = own.setdefault(rule.role, ({}, {}))
        for cell in cells.of_rule(rule):
            if rule.allows:
                allows.setdefault(cell, number)
            else:
                denies.setdefault(cell, number - len(rules))
    return own


def _by_scope(cells: Iterable[Permission]) -> dict[str, frozenset[Permission]]:
    found: dict[str, set[Permission]] = {}
    for cell in cells:
        found.setdefault(cell.scope, set()).add(cell)
    return {scope: frozenset(members) for scope, members in found.items()}
