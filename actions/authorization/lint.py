"""What is wrong with a policy as a whole: inheritance that breaks off, and rules or roles that change nothing.

Broken inheritance is an error. The rest are warnings: such a rule is harmless, but it misleads its reader.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from actions.authorization.role_file import FILE as ROLE_FILE
from actions.authorization.rules import DENY, Cells, Finding, Role, RoleLink, Rule, Severity, ancestors
from actions.vocabulary import Permission

HOPS_AT_MOST = 8
"""Casbin looks for a role over nine links and then stops in silence; the first is the principal's own role."""


def broken_inheritance(links: Sequence[RoleLink], roles: Mapping[str, Role]) -> Iterator[Finding]:
    """Every role cycle, and every chain of inheritance that is longer than Casbin follows."""
    above: dict[str, list[RoleLink]] = {}
    for each in links:
        above.setdefault(each.role, []).append(each)
    hops: dict[str, int] = {}
    for start, direct in above.items():
        path: list[tuple[str, Iterator[RoleLink]]] = [(start, iter(direct))] if start not in hops else []
        while path:
            role, rest = path[-1]
            link = next(rest, None)
            if link is None:
                path.pop()
                parents = above.get(role, ())
                longest = max(parents, key=lambda parent: hops.get(parent.inherits, 0), default=None)
                hops[role] = 0 if longest is None else 1 + hops.get(longest.inherits, 0)
                if longest is not None and hops[role] == HOPS_AT_MOST + 1:
                    message = f"'{role}' inherits over more than {HOPS_AT_MOST} links, where Casbin stops in silence"
                    yield _finding(longest, "role-depth", Severity.ERROR, message, "Inherit from a nearer role.")
            elif link.inherits in (on_path := [name for name, _ in path]):
                cycle = " -> ".join([*on_path[on_path.index(link.inherits) :], link.inherits])
                yield _finding(
                    link, "role-cycle", Severity.ERROR, f"Roles inherit in a circle: {cycle}", "Remove one link."
                )
            elif link.inherits not in hops:
                path.append((link.inherits, iter(above.get(link.inherits, ()))))


def warnings(
    rules: Sequence[Rule], links: Sequence[RoleLink], roles: Mapping[str, Role], cells: Cells
) -> Iterator[Finding]:
    """Rules and links that change nothing, and roles that nobody can hold, in a policy without errors."""
    lines = ancestors(roles, links)
    yield from _duplicates(rules, links)
    yield from _without_effect(rules, lines, cells)
    yield from _beyond_reach(rules, roles, lines, cells)


def _duplicates(rules: Iterable[Rule], links: Iterable[RoleLink]) -> Iterator[Finding]:
    seen: dict[tuple[str, ...], str] = {}
    said: list[tuple[Rule | RoleLink, tuple[str, ...]]] = [
        *((rule, (rule.role, rule.scope, rule.entity, rule.operation, rule.effect)) for rule in rules),
        *((link, (link.role, link.inherits)) for link in links),
    ]
    for line, key in said:
        if key in seen:
            message = f"The line says again what {seen[key]} says"
            yield _finding(line, "duplicate", Severity.WARNING, message, "Remove one of them.")
        else:
            seen[key] = line.place


def _without_effect(rules: Sequence[Rule], lines: Mapping[str, frozenset[str]], cells: Cells) -> Iterator[Finding]:
    """Rules that a broader one of the same effect covers, and allows of which a deny leaves nothing."""
    exact: dict[tuple[str, str, str, str, str], Rule] = {}
    wild: dict[tuple[str, str], list[Rule]] = {}
    denied: dict[str, dict[Permission, Rule]] = {}
    for rule in rules:
        exact.setdefault((rule.role, rule.effect, rule.scope, rule.entity, rule.operation), rule)
        if rule.is_wild:
            wild.setdefault((rule.role, rule.effect), []).append(rule)
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
                yield _finding(rule, "contradictory", Severity.WARNING, message, "Remove the one that you do not mean.")
                continue
        for role in sorted(own):
            same = exact.get((role, rule.effect, rule.scope, rule.entity, rule.operation))
            broader = [] if same is None or same.role == rule.role else [same]
            for other in wild.get((role, rule.effect), ()):
                covered = cells.of_rule(other)
                if meant < covered or (
                    meant == covered and (role != rule.role or (order[other] < order[rule] and not _alike(other, rule)))
                ):
                    broader.append(other)
            if broader:
                message = f"{broader[0].place} already says this" + (
                    f", by inheritance from '{role}'" * (role != rule.role)
                )
                yield _finding(rule, "shadowed", Severity.WARNING, message, "Remove it, or narrow the broader rule.")
                break


def _alike(one: Rule, other: Rule) -> bool:
    return (one.scope, one.entity, one.operation) == (other.scope, other.entity, other.operation)


def _beyond_reach(
    rules: Sequence[Rule], roles: Mapping[str, Role], lines: Mapping[str, frozenset[str]], cells: Cells
) -> Iterator[Finding]:
    """Roles that nobody can hold, and rules for scopes in which nobody who has the role can stand."""
    reached: dict[str, set[str]] = {role: set() for role in roles}
    for role, declared in roles.items():
        scopes = {str(scope) for held in declared.held_in for scope in held.at_or_under}
        for ancestor in lines[role]:
            reached[ancestor] |= scopes
    for declared in roles.values():
        if not reached[declared.name]:
            message, hint = f"Nobody can hold '{declared.name}'", "Say where it may be bound, or inherit from it."
            yield Finding(ROLE_FILE, declared.line, declared.column, "unheld-role", Severity.WARNING, message, hint)
    for rule in rules:
        if reached[rule.role] and not any(cell.scope in reached[rule.role] for cell in cells.of_rule(rule)):
            message = f"'{rule.role}' is held nowhere that scope '{rule.scope}' lies under"
            yield _finding(
                rule, "unreachable", Severity.WARNING, message, "Correct the scope, or where it may be bound."
            )


def _finding(line: Rule | RoleLink, rule_id: str, severity: Severity, message: str, hint: str) -> Finding:
    return Finding(line.file, line.line, line.column, rule_id, severity, message, hint)
