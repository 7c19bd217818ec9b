"""What all cases together want of whom, and how often the rules say what to whom: the sums that the measures of cases
are made of. It reads no file and judges nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from actions.authorization.answers import Verdict
from actions.authorization.case_file import Expected, Table
from actions.authorization.rules import Cells, Rule
from actions.vocabulary import Permission

Claims = Mapping[frozenset[str], Mapping[Permission, Expected]]
"""What is expected, by the roles that count."""


def claims_of(tables: Iterable[Table]) -> Claims:
    """Where tables that hold want different things of one cell, the strictest."""
    found: dict[frozenset[str], dict[Permission, Expected]] = {}
    for table in tables:
        for principal in table.principals:
            of_principal = found.setdefault(principal.roles, {})
            for cell, wanted in table.wanted.items():
                if of_principal.get(cell) is not Expected.DENY:
                    of_principal[cell] = wanted.expected
    return found


@dataclass(slots=True)
class Said:
    """How many rules allow each cell, and how many deny it."""

    allows: dict[Permission, int]
    denies: dict[Permission, int]

    def verdict(self, cell: Permission, more_allows: int = 0, more_denies: int = 0) -> Verdict:
        """What follows from the counts, were they others by so many."""
        if self.denies.get(cell, 0) + more_denies:
            return Verdict.DENY
        return Verdict.ALLOW if self.allows.get(cell, 0) + more_allows else Verdict.NONE


def said_by_role(rules: Iterable[Rule], cells: Cells) -> dict[str, Said]:
    """What the rules of each role say, inheritance apart."""
    found: dict[str, Said] = {}
    for rule in rules:
        said = found.setdefault(rule.role, Said({}, {}))
        counts = said.allows if rule.allows else said.denies
        for cell in cells.of_rule(rule):
            counts[cell] = counts.get(cell, 0) + 1
    return found


def together(own: Mapping[str, Said], roles: Iterable[str]) -> Said:
    """What the rules of several roles say."""
    sums = Said({}, {})
    for role in roles:
        if role in own:
            for counts, total in ((own[role].allows, sums.allows), (own[role].denies, sums.denies)):
                for cell, count in counts.items():
                    total[cell] = total.get(cell, 0) + count
    return sums
