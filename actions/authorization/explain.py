"""Why it is allowed, or denied: the rule that decides, the roles that led to it, and what would have to be otherwise.

One scan over the rules of an index. This module knows no database and prints nothing; who holds which role is told to
it, and what a server knows beyond the rules is added to its answer as notes.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import Field

from actions.action import ANONYMOUS, Principal, PrincipalKind
from actions.authorization.answers import Cell, CountingRole, PolicyLine, RolePath, Verdict
from actions.authorization.asked import NotUnderstood, roles_of
from actions.authorization.grants import PolicyGrant, counts_in, grants, is_the_servers
from actions.authorization.index import PolicyIndex
from actions.authorization.rules import ANY, RoleLink, Rule
from actions.directory import implied_bindings
from actions.model import Output
from actions.vocabulary import ActionSpec, Permission, ScopeType

NEAR_MISSES_AT_MOST = 20
Ways = Mapping[str, tuple[RoleLink, ...]]
"""The roles that a role inherits, itself included, each with the fewest lines that lead to it."""


class RuleMatch(Output):
    """A rule that speaks of the cell and of a role that counts."""

    rule: PolicyLine
    verdict: Verdict
    paths: list[RolePath] = Field(description="How it came to count, once for each role held; the shortest first.")


class RoleSays(Output):
    """What the rules of one role that counts say of the cell, those that it inherits included."""

    held: CountingRole
    verdict: Verdict
    rule: PolicyLine | None


class RuleWord(StrEnum):
    """The words of a rule by which it is found. The files call an entity *object*, and an operation *action*."""

    ROLE = "role"
    SCOPE = "scope"
    OPERATION = "operation"
    ENTITY = "entity"


class NearMiss(Output):
    """A rule that would have allowed it but for one word."""

    rule: PolicyLine
    word: RuleWord
    says: str
    needed: list[str] = Field(description="What the word would have to be: one of these.")


class LiftedDenies(Output):
    """Where a deny decides no grant can help: these lines would have to go, or the roles through which they count."""

    denies: list[RuleMatch]
    then: Verdict = Field(description="What the rest of the rules say: allow, or nothing.")
    rule: PolicyLine | None


class NoteKind(StrEnum):
    SCOPE_DELETED = "scope-deleted"
    USER_DELETED = "user-deleted"
    USER_INACTIVE = "user-inactive"
    HELD_ELSEWHERE = "held-elsewhere"
    UNKNOWN_ROLE = "unknown-role"
    NOT_HELD_HERE = "not-held-here"
    SERVERS_OWN = "servers-own"
    ANYBODYS = "anybodys"
    INTERNAL = "internal"
    REACH = "reach"
    USES = "uses"


class PolicyNote(Output):
    """Something that the rules do not say."""

    kind: NoteKind
    sentence: str
    refuses: bool = Field(default=False, description="It is refused for this reason, whatever the rules say.")


class Explanation(Output):
    """Why it is allowed or denied."""

    policy: str = Field(description="The digest of the version that was asked.")
    principal: str
    scope: str | None = Field(description="Null: roles were supposed, and no scope.")
    cell: Cell
    allowed: bool = Field(description="By the rules alone; see the notes for what else refuses.")
    decided_by: RuleMatch | None = Field(
        description="The rule that decides. Null: no rule speaks of it, so it is denied."
    )
    roles: list[RoleSays] = Field(description="Each role that counts.")
    expired: list[CountingRole] = Field(description="Roles that would count, had they not ended.")
    others: list[RuleMatch] = Field(description="Every other rule that matches, denies first.")
    lift: LiftedDenies | None = Field(description="Only where a deny decides.")
    near_misses: list[NearMiss] = Field(description="Only where no rule speaks of it; the most useful first.")
    more_near_misses: int
    grants: list[PolicyGrant] = Field(description="Only where no rule speaks of it; what changes least comes first.")
    more_grants: int
    notes: list[PolicyNote]


def explain(
    index: PolicyIndex,
    held: Sequence[CountingRole],
    permission: Permission,
    *,
    principal: str,
    scope: str | None = None,
    places: Mapping[ScopeType, str] | None = None,
    specs: Iterable[ActionSpec[Any, Any]] = (),
) -> Explanation:
    """Why a principal who holds these roles where it asks is allowed or denied a cell.

    ``places`` are the scopes in which it could be given one more role, by type; None: wherever roles can be bound.
    ``specs`` are the actions that were meant, for what their declarations say beyond the rules.
    """
    ways = _ways({each.role for each in held}, index.links)
    matching, near = _scan(index.rules, frozenset().union(*ways.values()), permission)
    matches = [_match(rule, held, ways) for rule in sorted(matching, key=lambda rule: rule.allows)]  # a stable sort
    denies = [match for match in matches if match.verdict is Verdict.DENY]
    allowed, undecided = bool(matches) and not denies, not matches
    misses = sorted(near, key=_usefulness) if undecided else []
    suggested, more = grants(index, held, permission, places) if undecided else ([], 0)
    return Explanation(
        policy=index.digest,
        principal=principal,
        scope=scope,
        cell=Cell.of(permission),
        allowed=allowed,
        decided_by=matches[0] if matches else None,
        roles=[_says(index, each, permission) for each in held],
        expired=[],
        others=matches[1:],
        lift=_lifted(denies, matches) if denies else None,
        near_misses=[_near_miss(rule, word, held, permission) for rule, word in misses[:NEAR_MISSES_AT_MOST]],
        more_near_misses=len(misses[NEAR_MISSES_AT_MOST:]),
        grants=suggested,
        more_grants=more,
        notes=[*_notes(index, held, permission, undecided), *_beyond_the_rules(specs, allowed)],
    )


def stated(principal: str, index: PolicyIndex) -> list[CountingRole]:
    """The roles that the name of a principal says by itself: of the server's own (``system:sweeper``), of whoever is
    nobody yet (``anonymous``), or supposed (``domain_admin+auditor``). Raises ``NotUnderstood``."""
    if principal != ANONYMOUS.name and not principal.startswith(f"{PrincipalKind.SYSTEM}:"):
        return [CountingRole(role=role) for role in sorted(roles_of(principal, index.roles))]
    who = ANONYMOUS if principal == ANONYMOUS.name else Principal(PrincipalKind.SYSTEM, principal)
    bindings = implied_bindings(who)
    if not bindings:
        raise NotUnderstood(f"'{principal}' is no principal of the server's own.")
    return [CountingRole(role=binding.role, scope=ScopeType.ADMIN.value, implied=True) for binding in bindings]


def _ways(roles: Iterable[str], links: Iterable[RoleLink]) -> dict[str, Ways]:
    """For each of some roles, the roles that it inherits, by the fewest lines; among equals the first line counts."""
    above: dict[str, list[RoleLink]] = {}
    for link in links:
        above.setdefault(link.role, []).append(link)
    found: dict[str, Ways] = {}
    for role in roles:
        ways: dict[str, tuple[RoleLink, ...]] = {role: ()}
        waiting = deque((role,))
        while waiting:
            name = waiting.popleft()
            for link in above.get(name, ()):
                if link.inherits not in ways:
                    ways[link.inherits] = (*ways[name], link)
                    waiting.append(link.inherits)
        found[role] = ways
    return found


def _scan(
    rules: Iterable[Rule], counting: frozenset[str], permission: Permission
) -> tuple[list[Rule], list[tuple[Rule, RuleWord]]]:
    """The rules that match, and the allows that would have but for one word, with that word. In their own order."""
    asked_scope, asked_entity, asked_operation = permission.scope, permission.entity, permission.operation
    matching: list[Rule] = []
    near: list[tuple[Rule, RuleWord]] = []
    for rule in rules:
        other: RuleWord | None = None
        if rule.role not in counting:
            other = RuleWord.ROLE
        if rule.scope not in (asked_scope, ANY):
            if other is not None:
                continue
            other = RuleWord.SCOPE
        if rule.entity not in (asked_entity, ANY):
            if other is not None:
                continue
            other = RuleWord.ENTITY
        if rule.operation not in (asked_operation, ANY):
            if other is not None:
                continue
            other = RuleWord.OPERATION
        if other is None:
            matching.append(rule)
        elif rule.allows:
            near.append((rule, other))
    return matching, near


_BY_USE = (RuleWord.SCOPE, RuleWord.OPERATION, RuleWord.ENTITY, RuleWord.ROLE)


def _usefulness(near: tuple[Rule, RuleWord]) -> tuple[int, bool]:
    """What a role that counts may do already comes first: the same elsewhere, then something else to the same thing,
    then the same to something else. Last comes what other roles may, and of all, what is said with a wildcard. (Sorting
    keeps the order of the files.)"""
    return _BY_USE.index(near[1]), near[0].is_wild


def _near_miss(rule: Rule, word: RuleWord, held: Sequence[CountingRole], permission: Permission) -> NearMiss:
    match word:
        case RuleWord.ROLE:
            says, needed = rule.role, sorted({each.role for each in held})
        case RuleWord.SCOPE:
            says, needed = rule.scope, [permission.scope]
        case RuleWord.ENTITY:
            says, needed = rule.entity, [permission.entity]
        case RuleWord.OPERATION:
            says, needed = rule.operation, [permission.operation]
    return NearMiss(rule=PolicyLine.of(rule), word=word, says=says, needed=needed)


def _match(rule: Rule, held: Sequence[CountingRole], ways: Mapping[str, Ways]) -> RuleMatch:
    paths = [(each, ways[each.role][rule.role]) for each in held if rule.role in ways[each.role]]
    paths.sort(key=lambda path: len(path[1]))
    return RuleMatch(
        rule=PolicyLine.of(rule),
        verdict=Verdict.ALLOW if rule.allows else Verdict.DENY,
        paths=[RolePath(held=each, inherits=[PolicyLine.of(link) for link in links]) for each, links in paths],
    )


def _says(index: PolicyIndex, held: CountingRole, permission: Permission) -> RoleSays:
    rule = index.rule_for(frozenset((held.role,)), permission)
    verdict = Verdict.NONE if rule is None else Verdict.ALLOW if rule.allows else Verdict.DENY
    return RoleSays(held=held, verdict=verdict, rule=None if rule is None else PolicyLine.of(rule))


def _lifted(denies: list[RuleMatch], matches: Sequence[RuleMatch]) -> LiftedDenies:
    left = next((match for match in matches if match.verdict is Verdict.ALLOW), None)
    then = Verdict.NONE if left is None else Verdict.ALLOW
    return LiftedDenies(denies=denies, then=then, rule=None if left is None else left.rule)


def _notes(
    index: PolicyIndex, held: Sequence[CountingRole], permission: Permission, undecided: bool
) -> Iterable[PolicyNote]:
    for name in dict.fromkeys(each.role for each in held):
        role = index.roles.get(name)
        if role is None:
            told = f"{name} is bound, but this policy declares no such role, so it says nothing."
            yield PolicyNote(kind=NoteKind.UNKNOWN_ROLE, sentence=told)
        elif is_the_servers(role) and undecided:
            told = f"{name} can be given to nobody. What it may do is what the shipped superadmin.csv says: compare."
            yield PolicyNote(kind=NoteKind.SERVERS_OWN, sentence=told)
        elif not counts_in(role, permission.scope):
            where = f"scopes of type {' and '.join(role.held_in)}" if role.held_in else "no scope"
            told = f"{name} can be held in {where}, so it never counts in one of type {permission.scope}."
            yield PolicyNote(kind=NoteKind.NOT_HELD_HERE, sentence=told)


def _beyond_the_rules(specs: Iterable[ActionSpec[Any, Any]], allowed: bool) -> Iterable[PolicyNote]:
    """What the declarations of an action say that no rule does: who alone may ask, and what else may refuse it."""
    notes: list[tuple[NoteKind, str]] = []
    for spec in specs:
        if spec.internal:
            told = f"No address leads to {spec.name}: the server's own principals alone do it."
            notes.append((NoteKind.INTERNAL, told))
        if spec.anonymous:
            told = f"Whoever asks for {spec.name} counts as anonymous there, with credentials or without."
            notes.append((NoteKind.ANYBODYS, told))
        if allowed and spec.controls_principal is not None:
            changed = sorted(spec.controls_principal.fields)
            what = f"A change of {', '.join(changed)}" if changed else "It"
            told = f"{what} is refused all the same where the account concerned, or a role given, reaches further."
            notes.append((NoteKind.REACH, told))
        for field, use in spec.uses.items() if allowed else ():
            told = (
                f"What `{field}` names is decided too: one needs {use.operation} of that {use.entity}, where it lies."
            )
            notes.append((NoteKind.USES, told))
    return [PolicyNote(kind=kind, sentence=told) for kind, told in dict.fromkeys(notes)]
