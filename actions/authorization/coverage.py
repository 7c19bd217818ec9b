"""Which lines of a policy its cases reach.

A rule is reached when a case asks of a cell that it speaks of, for a principal for whom it counts, and the answer is
the one that the rule gives. So an allow that a deny overrules is reached by no case of that deny, and of two lines
that say the same, both are. A line of inheritance is reached when a reached rule counts for the principal over it.
"""

from collections.abc import Iterable

from pydantic import Field

from actions.authorization.answers import PolicyLine, Verdict
from actions.authorization.claims import Claims
from actions.authorization.index import PolicyIndex
from actions.authorization.rules import Cells, RoleLink, Rule, ancestors
from actions.model import Output
from actions.vocabulary import Permission


class Coverage(Output):
    lines: int = Field(description="Rules, and lines of inheritance.")
    reached: int
    percent: float = Field(description="Rounded down to a tenth.")
    unreached: list[PolicyLine]

    def meets(self, threshold: float) -> bool:
        return 100 * self.reached >= threshold * self.lines


def coverage(index: PolicyIndex, claims: Claims) -> Coverage:
    """Which lines are reached by cases."""
    cells = Cells(index.vocabulary)
    lineage = ancestors(index.roles, index.links)
    rules: dict[str, list[Rule]] = {}
    for rule in index.rules:
        rules.setdefault(rule.role, []).append(rule)
    reached: set[Rule | RoleLink] = set()
    for roles, wanted in claims.items():
        counting = frozenset[str]().union(*(lineage[role] for role in roles))
        came_out = _came_out(index, roles, wanted)
        speaking = set[str]()
        for role in counting:
            for rule in rules.get(role, ()):
                if not came_out[Verdict(rule.effect)].isdisjoint(cells.of_rule(rule)):
                    reached.add(rule)
                    speaking.add(role)
        for link in index.links:
            if link.role in counting and not lineage[link.inherits].isdisjoint(speaking):
                reached.add(link)
    lines: list[Rule | RoleLink] = [*index.rules, *index.links]
    unreached = [PolicyLine.of(line) for line in lines if line not in reached]
    return Coverage(
        lines=len(lines),
        reached=len(lines) - len(unreached),
        percent=percent(len(lines) - len(unreached), len(lines)),
        unreached=unreached,
    )


def _came_out(
    index: PolicyIndex, roles: frozenset[str], wanted: Iterable[Permission]
) -> dict[Verdict, set[Permission]]:
    found: dict[Verdict, set[Permission]] = {verdict: set() for verdict in Verdict}
    for cell in wanted:
        found[verdict_of(index.rule_for(roles, cell))].add(cell)
    return found


def verdict_of(rule: Rule | None) -> Verdict:
    """What the rule that decides makes of a cell."""
    return Verdict.NONE if rule is None else Verdict(rule.effect)


def percent(part: int, whole: int) -> float:
    """Rounded down to a tenth, so that only the whole is 100. Of nothing, everything."""
    return 1000 * part // whole / 10 if whole else 100.0
