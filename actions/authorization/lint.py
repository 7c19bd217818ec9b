"""What is wrong with a policy as a whole: inheritance that breaks off, and rules or roles that change nothing.

Broken inheritance is an error. The rest are warnings: such a rule is harmless, but it misleads its reader.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from actions.authorization.linting.of_policies import (
    CONTRADICTORY,
    DUPLICATE,
    IDLE_ROLE,
    INTERNAL_GRANT,
    REDUNDANT_LINK,
    ROLE_CYCLE,
    ROLE_DEPTH,
    SHADOWED,
    UNHELD_ROLE,
    UNREACHABLE,
)
from actions.authorization.linting.rule import LintRule
from actions.authorization.role_file import FILE as ROLE_FILE
from actions.authorization.rules import DENY, Cells, Finding, Role, RoleLink, Rule, ancestors
from actions.vocabulary import Permission

HOPS_AT_MOST = 8
"""Casbin looks for a role over nine links and then stops in silence; the first is the principal's own role."""


def broken_inheritance(links: Sequence[RoleLink]) -> Iterator[Finding]:
    """Every role cycle, and every chain of inheritance that is longer than Casbin follows."""
    above: dict[str, list[RoleLink]] = {}
    for each in links:
        above.setdefault(each.role, []).append(each)
    hops: dict[str, int] = {}
    for start, direct in above.items():
        # In the order in which it is walked.
        path: dict[str, Iterator[RoleLink]] = {} if start in hops else {start: iter(direct)}
        while path:
            role = next(reversed(path))
            link = next(path[role], None)
            if link is None:
                del path[role]
                longest = max(above.get(role, ()), key=lambda parent: hops.get(parent.inherits, 0), default=None)
                hops[role] = 0 if longest is None else 1 + hops.get(longest.inherits, 0)
                if longest is not None and hops[role] == HOPS_AT_MOST + 1:
                    message = f"'{role}' inherits over more than {HOPS_AT_MOST} links, where Casbin stops in silence"
                    yield _finding(longest, ROLE_DEPTH, message, "Inherit from a nearer role.")
            elif link.inherits in path:
                names = list(path)
                circle = " -> ".join([*names[names.index(link.inherits) :], link.inherits])
                yield _finding(link, ROLE_CYCLE, f"Roles inherit in a circle: {circle}", "Remove one link.")
            elif link.inherits not in hops:
                path[link.inherits] = iter(above.get(link.inherits, ()))


def warnings(
    rules: Sequence[Rule], links: Sequence[RoleLink], roles: Mapping[str, Role], cells: Cells
) -> Iterator[Finding]:
    """What changes nothing or more than it seems, and roles that are of no use, in a policy without errors."""
    lines = ancestors(roles, links)
    yield from _duplicates(rules, links)
    yield from _redundant_links(links, lines)
    yield from _without_effect(rules, lines, cells)
    yield from _useless_roles(rules, links, roles, lines, cells)
    yield from _internal_grants(rules, roles, lines, cells)


def _duplicates(rules: Iterable[Rule], links: Iterable[RoleLink]) -> Iterator[Finding]:
    seen: dict[tuple[str, ...], str] = {}
    said: list[tuple[Rule | RoleLink, tuple[str, ...]]] = [
        *((rule, (rule.role, rule.scope, rule.entity, rule.operation, rule.effect)) for rule in rules),
        *((link, (link.role, link.inherits)) for link in links),
    ]
    for line, key in said:
        if key in seen:
            message = f"The line says again what {seen[key]} says"
            yield _finding(line, DUPLICATE, message, "Remove one of them.")
        else:
            seen[key] = line.place


def _redundant_links(links: Sequence[RoleLink], lines: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    """Links to what the role inherits through another of its links."""
    above: dict[str, set[str]] = {}
    for link in links:
        above.setdefault(link.role, set()).add(link.inherits)
    farther = {role: set[str]().union(*(lines[one] - {one} for one in parents)) for role, parents in above.items()}
    for link in links:
        if link.inherits in farther[link.role]:
            by = min(one for one in above[link.role] if link.inherits in lines[one] and one != link.inherits)
            message = f"'{link.role}' inherits '{link.inherits}' already, through '{by}'"
            yield _finding(link, REDUNDANT_LINK, message, "Remove it, or the longer way.")


def _without_effect(rules: Sequence[Rule], lines: Mapping[str, frozenset[str]], cells: Cells) -> Iterator[Finding]:
    """Rules that a broader one of the same effect covers, and allows of which a deny leaves nothing."""
    exact: dict[tuple[str, str, str, str, str], Rule] = {}
    wild: dict[tuple[str, str], dict[frozenset[Permission], Rule]] = {}  # of those that say the same, the first
    denied: dict[str, dict[Permission, Rule]] = {}
    for rule in rules:
        exact.setdefault((rule.role, rule.effect, rule.scope, rule.entity, rule.operation), rule)
        if rule.is_wild:
            wild.setdefault((rule.role, rule.effect), {}).setdefault(cells.of_rule(rule), rule)
        if rule.effect == DENY:
            for cell in cells.of_rule(rule):
                denied.setdefault(rule.role, {}).setdefault(cell, rule)
    order = {rule: number for number, rule in enumerate(rules)}
    for rule in rules:
        own, meant = lines[rule.role], cells.of_rule(rule)
        if rule.allows:
            against = {
                cell: denied[role][cell] for role in own if role in denied for cell in meant & denied[role].keys()
            }
            if len(against) == len(meant):
                deny = min(against.values(), key=order.__getitem__)
                message = f"The rule allows nothing: {deny.place} denies it, and a deny always wins"
                yield _finding(rule, CONTRADICTORY, message, "Remove the one that you do not mean.")
                continue
        for role in sorted(own):
            same = exact.get((role, rule.effect, rule.scope, rule.entity, rule.operation))
            broader = [] if same is None or same.role == rule.role else [same]
            for other in wild.get((role, rule.effect), {}).values():
                covered = cells.of_rule(other)
                if meant < covered or (
                    meant == covered and (role != rule.role or (order[other] < order[rule] and not _alike(other, rule)))
                ):
                    broader.append(other)
            if broader:
                message = f"{broader[0].place} already says this" + (
                    f", by inheritance from '{role}'" * (role != rule.role)
                )
                yield _finding(rule, SHADOWED, message, "Remove it, or narrow the broader rule.")
                break


def _alike(one: Rule, other: Rule) -> bool:
    return (one.scope, one.entity, one.operation) == (other.scope, other.entity, other.operation)


def _useless_roles(
    rules: Sequence[Rule],
    links: Sequence[RoleLink],
    roles: Mapping[str, Role],
    lines: Mapping[str, frozenset[str]],
    cells: Cells,
) -> Iterator[Finding]:
    """Roles that nobody can hold or that say nothing, and rules for scopes in which nobody with the role can stand."""
    reached: dict[str, set[str]] = {role: set() for role in roles}
    for role, declared in roles.items():
        scopes = {str(scope) for held in declared.held_in for scope in held.at_or_under}
        for ancestor in lines[role]:
            reached[ancestor] |= scopes
    speaking = {rule.role for rule in rules} | {link.role for link in links}
    for declared in roles.values():
        place = (ROLE_FILE, declared.line, declared.column)
        if not reached[declared.name]:
            hint = "Say where it may be bound, or inherit from it."
            yield UNHELD_ROLE.at(*place, f"Nobody can hold '{declared.name}'", hint)
        elif declared.bindable and declared.name not in speaking:
            hint = "Give it a rule, let it inherit, or remove it."
            yield IDLE_ROLE.at(*place, f"'{declared.name}' can be bound, and says nothing", hint)
    for rule in rules:
        if reached[rule.role] and not any(cell.scope in reached[rule.role] for cell in cells.of_rule(rule)):
            message = f"'{rule.role}' is held nowhere that scope '{rule.scope}' lies under"
            yield _finding(rule, UNREACHABLE, message, "Correct the scope, or where it may be bound.")


def _internal_grants(
    rules: Sequence[Rule], roles: Mapping[str, Role], lines: Mapping[str, frozenset[str]], cells: Cells
) -> Iterator[Finding]:
    """Wildcards of people that allow what is granted by name to the server's own roles alone, with no deny of it."""
    named: dict[Permission, set[bool]] = {}
    denied: dict[str, set[Permission]] = {}
    for rule in rules:
        if not rule.allows:
            denied.setdefault(rule.role, set()).update(cells.of_rule(rule))
        elif not rule.is_wild:
            for cell in cells.of_rule(rule):
                named.setdefault(cell, set()).add(roles[rule.role].system)
    internal = {cell for cell, by_system in named.items() if by_system == {True}}
    for rule in rules:
        if rule.allows and rule.is_wild and not roles[rule.role].system:
            own = set[Permission]().union(*(denied.get(role, ()) for role in lines[rule.role]))
            left = sorted(map(str, internal & cells.of_rule(rule) - own))
            if left:
                message = f"The wildcard allows the server's own work: {', '.join(left[:3])}" + ", ..." * (
                    len(left) > 3
                )
                yield _finding(rule, INTERNAL_GRANT, message, f"Deny it to '{rule.role}'.")


def _finding(line: Rule | RoleLink, kind: LintRule, message: str, hint: str) -> Finding:
    return kind.at(line.file, line.line, line.column, message, hint)
