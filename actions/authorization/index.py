"""Rules compiled for deciding: one look-up per cell and one per role, however many rules there are.

Inheritance and wildcards are spelled out when a policy is compiled, so a decision walks neither. An index never
changes; a new policy is a new index. This module knows no principal, no scope that exists, and no cache.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import final

from actions.action import Decision
from actions.auditing import AuditPolicy
from actions.authorization.rules import RULE_FILES, Cells, Parsed, Role, RoleLink, Rule, ancestors
from actions.vocabulary import Permission, ScopeType, Vocabulary

_FILES = tuple(RULE_FILES)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What deciding takes, in numbers: roles, rules and cells go by their places, and cells are in the order of their
    words. It is flat, so that one process can compile it for another.

    A verdict is the number of the deciding rule: as it stands for an allow, counted from the end (negative) for a deny,
    and one past the last rule for neither. So the least of several decides: denies before allows, and within each the
    first rule. Arrays are ten times smaller than dictionaries: with many roles a decision costs what it costs to fetch
    them from memory.
    """

    deciding: tuple["array[int]", ...]
    """For each cell a verdict for each role."""
    allows: tuple[int, ...]
    """For each role the cells that its rules allow, a bit each, whether they are denied or not."""
    denies: tuple[int, ...]
    files: bytes
    """For each rule its file, by its place in ``RULE_FILES``."""
    lines: "array[int]"


@final
class PolicyIndex:
    """One policy, ready to decide. Made by ``compile``, here or in another process; nothing in it may be changed.

    ``read_rules`` is asked when somebody wants to see the rules, which no decision does. ``audit`` says how much of
    what is recorded.
    """

    __slots__ = (
        "__dict__",
        "_cells",
        "_columns",
        "_deciding",
        "_decisions",
        "_of_scope",
        "_read_rules",
        "_undecided",
        "audit",
        "digest",
        "links",
        "roles",
        "verdicts",
        "vocabulary",
    )

    def __init__(
        self,
        digest: str,
        vocabulary: Vocabulary,
        roles: Mapping[str, Role],
        links: tuple[RoleLink, ...],
        verdicts: Verdicts,
        read_rules: Callable[[], tuple[Rule, ...]],
        audit: AuditPolicy,
    ) -> None:
        self.digest = digest
        self.vocabulary = vocabulary
        self.roles = roles
        self.links = links
        self.verdicts = verdicts
        self.audit = audit
        self._read_rules = read_rules
        self._columns = {role: column for column, role in enumerate(roles)}
        self._cells = in_order(vocabulary)
        self._deciding = dict(zip(self._cells, verdicts.deciding, strict=True))
        self._undecided = len(verdicts.lines)
        # Which decision a verdict is, told once it is asked for: it says nothing of who asked, so all can share it.
        self._decisions: list[Decision | None] = [None] * (2 * self._undecided + 1)
        self._of_scope: dict[str, int] = {}
        for number, cell in enumerate(self._cells):
            self._of_scope[cell.scope] = self._of_scope.get(cell.scope, 0) | 1 << number

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule, in the order superadmin, domain, project, user, then line."""
        return self._read_rules()

    def decide(self, roles: frozenset[str], permission: Permission) -> Decision:
        """One decision over a set of roles: an explicit deny of any beats every allow, and no rule at all is a deny.

        The rule named is the first that decides, in the order superadmin, domain, project, user, then line.
        """
        verdicts, columns = self._deciding.get(permission), self._columns
        deciding = self._undecided
        if verdicts is not None:
            for role in roles:
                column = columns.get(role)
                if column is not None and (verdict := verdicts[column]) < deciding:
                    deciding = verdict
        return self._decisions[deciding] or self._decision(deciding)

    def rule_for(self, roles: frozenset[str], permission: Permission) -> Rule | None:
        """The rule that ``decide`` names: an allow, a deny, or None where no rule speaks of it."""
        place = self.decide(roles, permission).rule
        return None if place is None else self._rule_at[place]

    @cached_property
    def _rule_at(self) -> Mapping[str, Rule]:
        return {rule.place: rule for rule in self.rules}

    def _decision(self, verdict: int) -> Decision:
        if verdict == self._undecided:
            decision = Decision(False, None, self.digest)
        else:
            file, line = _FILES[self.verdicts.files[verdict]], self.verdicts.lines[verdict]
            decision = Decision(verdict >= 0, f"{file}:{line}", self.digest)
        self._decisions[verdict] = decision
        return decision

    def allowed_cells(self, roles: frozenset[str], scope_type: str) -> frozenset[Permission]:
        """Every cell of a scope type that a set of roles is allowed there, denies applied."""
        return self.reach(scope_type, roles, roles)

    def reach(self, scope_type: str, allowing: frozenset[str], denying: frozenset[str]) -> frozenset[Permission]:
        """What the allows of some roles leave under the denies of others, among the cells of a scope type (law 5)."""
        return frozenset(self._named(self._reached(scope_type, allowing, denying)))

    def denies_anything(self, roles: frozenset[str]) -> bool:
        """Whether any of these roles carries a deny, its own or inherited."""
        return self._together(self.verdicts.denies, roles) != 0

    def may_anything(self, roles: frozenset[str], scope_types: Iterable[ScopeType]) -> bool:
        """Whether a set of roles is allowed any cell at all of these scope types."""
        return any(self._reached(scope_type, roles, roles) for scope_type in scope_types)

    def bindable(self, role: str, scope_type: ScopeType) -> bool:
        """Whether the role is declared and may be bound in scopes of this type."""
        return role in self.roles and scope_type in self.roles[role].bindable

    def _reached(self, scope_type: str, allowing: frozenset[str], denying: frozenset[str]) -> int:
        allowed = self._together(self.verdicts.allows, allowing) & self._of_scope.get(scope_type, 0)
        return allowed & ~self._together(self.verdicts.denies, denying)

    def _together(self, masks: tuple[int, ...], roles: Iterable[str]) -> int:
        found = 0
        for role in roles:
            column = self._columns.get(role)
            if column is not None:
                found |= masks[column]
        return found

    def _named(self, mask: int) -> Iterator[Permission]:
        while mask:
            lowest = mask & -mask
            yield self._cells[lowest.bit_length() - 1]
            mask ^= lowest


def compile(parsed: Parsed, vocabulary: Vocabulary, digest: str) -> PolicyIndex:
    """The index of a policy that was parsed with this vocabulary. Raises ``ValueError`` when the policy has errors."""
    if parsed.errors:
        raise ValueError(f"a policy with errors is never compiled; the first is {parsed.errors[0]}")
    rules = parsed.rules
    verdicts = _verdicts(parsed, vocabulary)
    return PolicyIndex(digest, vocabulary, parsed.roles, parsed.links, verdicts, lambda: rules, parsed.audit)


def in_order(vocabulary: Vocabulary) -> tuple[Permission, ...]:
    """The cells in the order of their words, which is theirs in every process."""
    return tuple(sorted(vocabulary, key=str))


_Own = tuple[dict[Permission, int], dict[Permission, int]]


def _verdicts(parsed: Parsed, vocabulary: Vocabulary) -> Verdicts:
    cells = in_order(vocabulary)
    place = {cell: number for number, cell in enumerate(cells)}
    undecided = array("i", [len(parsed.rules)]) * len(parsed.roles)
    deciding = tuple(array("i", undecided) for _ in cells)
    allowed, denied = [0] * len(parsed.roles), [0] * len(parsed.roles)
    own, lines = _own_verdicts(parsed.rules, Cells(vocabulary)), ancestors(parsed.roles, parsed.links)
    for column, role in enumerate(parsed.roles):
        allows, denies = _inherited([own[ancestor] for ancestor in lines[role] if ancestor in own])
        for cell, verdict in (allows | denies).items():
            deciding[place[cell]][column] = verdict
        allowed[column] = sum(1 << place[cell] for cell in allows)
        denied[column] = sum(1 << place[cell] for cell in denies)
    files = bytes(_FILES.index(rule.file) for rule in parsed.rules)
    return Verdicts(deciding, tuple(allowed), tuple(denied), files, array("i", (rule.line for rule in parsed.rules)))


def _inherited(sources: Iterable[_Own]) -> _Own:
    """The least verdict on each cell: that of the first rule."""
    allows: dict[Permission, int] = {}
    denies: dict[Permission, int] = {}
    for own_allows, own_denies in sources:
        for cell, rule in own_allows.items():
            allows[cell] = min(rule, allows.get(cell, rule))
        for cell, rule in own_denies.items():
            denies[cell] = min(rule, denies.get(cell, rule))
    return allows, denies


def _own_verdicts(rules: tuple[Rule, ...], cells: Cells) -> dict[str, _Own]:
    """Per role, the first of its own rules to allow each cell and the first to deny it, before inheritance."""
    own: dict[str, _Own] = {}
    for number, rule in enumerate(rules):
        allows, denies = own.setdefault(rule.role, ({}, {}))
        for cell in cells.of_rule(rule):
            if rule.allows:
                allows.setdefault(cell, number)
            else:
                denies.setdefault(cell, number - len(rules))
    return own
