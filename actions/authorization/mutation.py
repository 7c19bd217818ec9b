"""What the cases of a policy are worth: would they notice if a line of it were another?

Each line is changed in each way in which people get it wrong: left out, turned round, too broad, too narrow. Of each
such mutant it is asked whether some case would fail. No mutant is compiled: a rule counts for few principals and speaks
of few cells, and only what is said of these can change.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import chain

from pydantic import Field

from actions.authorization.answers import PolicyLine, Verdict
from actions.authorization.case_file import Expected
from actions.authorization.claims import Claims, Said, said_by_role, together
from actions.authorization.coverage import percent
from actions.authorization.index import PolicyIndex
from actions.authorization.rules import ALLOW, ANY, DENY, Cells, RoleLink, Rule, ancestors
from actions.model import Output
from actions.vocabulary import Permission

_SHOWN_AT_MOST = 100
_FIELDS = {"scope": "scope", "entity": "object", "operation": "action"}


class Mutant(Output):
    """A line as it is, and what was changed about it."""

    line: PolicyLine
    change: str = Field(description="As in: no case fails with any action, with it left out.")


class MutationScore(Output):
    mutants: int = Field(description="Those that change some answer. The others no case could notice.")
    noticed: int = Field(description="Those of which some case fails.")
    percent: float = Field(description="Rounded down to a tenth.")
    without_effect: int = Field(description="Those that change no answer: another line says the same, or denies it.")
    survivors: list[Mutant] = Field(description="The first hundred.")

    @property
    def survived(self) -> int:
        return self.mutants - self.noticed

    def meets(self, threshold: float) -> bool:
        return 100 * self.noticed >= threshold * self.mutants


class _Fate(Enum):
    NOTICED = 1
    SURVIVED = 2
    WITHOUT_EFFECT = 3


_Change = Mapping[Permission, tuple[int, int]]
"""By cell, how many allows and how many denies it has more."""


@dataclass(slots=True)
class _Column:
    """Whoever holds these roles: which roles count by inheritance, what their rules say, what the cases want."""

    roles: frozenset[str]
    counting: frozenset[str]
    said: Said
    wanted: Mapping[Permission, Expected]


def mutation_score(index: PolicyIndex, claims: Claims) -> MutationScore:
    """The score of cases that all hold."""
    mutations = _Mutations(index, claims)
    fates: dict[_Fate, list[Mutant]] = {fate: [] for fate in _Fate}
    for line, change, fate in chain[tuple[Rule | RoleLink, str, _Fate]](mutations.of_rules(), mutations.of_links()):
        fates[fate].append(Mutant(line=PolicyLine.of(line), change=change))
    noticed, survivors = len(fates[_Fate.NOTICED]), fates[_Fate.SURVIVED]
    return MutationScore(
        mutants=noticed + len(survivors),
        noticed=noticed,
        percent=percent(noticed, noticed + len(survivors)),
        without_effect=len(fates[_Fate.WITHOUT_EFFECT]),
        survivors=survivors[:_SHOWN_AT_MOST],
    )


class _Mutations:
    """Everybody of whom a mutant could change what is said: the role of its line by itself, and the principals of the
    cases. What changes nothing for that role changes nothing for whoever has more roles: what more rules say can hide a
    change, and never make one.
    """

    def __init__(self, index: PolicyIndex, claims: Claims) -> None:
        self._index = index
        self._cells = Cells(index.vocabulary)
        self._lineage = ancestors(index.roles, index.links)
        self._own = said_by_role(index.rules, self._cells)
        self._claims = claims
        self._claimed: dict[str, list[_Column]] = {}
        for roles in claims:
            column = self._column(roles)
            for role in column.counting:
                self._claimed.setdefault(role, []).append(column)
        self._parents: dict[str, list[tuple[RoleLink, int]]] = {}
        for number, link in enumerate(index.links):
            self._parents.setdefault(link.role, []).append((link, number))

    def of_rules(self) -> Iterator[tuple[Rule, str, _Fate]]:
        for rule in self._index.rules:
            alone, claimed = self._column(frozenset((rule.role,))), self._claimed.get(rule.role, ())
            for change, delta in self._mutants(rule):
                yield rule, change, _fate((alone, delta), ((column, delta) for column in claimed))

    def of_links(self) -> Iterator[tuple[RoleLink, str, _Fate]]:
        for number, link in enumerate(self._index.links):
            alone, claimed = self._column(frozenset((link.role,))), self._claimed.get(link.role, ())
            changed = ((column, self._lost(column, number)) for column in claimed)
            yield link, "it left out", _fate((alone, self._lost(alone, number)), changed)

    def _column(self, roles: frozenset[str]) -> _Column:
        counting = frozenset[str]().union(*(self._lineage[role] for role in roles))
        return _Column(roles, counting, together(self._own, counting), self._claims.get(roles, {}))

    def _lost(self, column: _Column, left_out: int) -> _Change:
        """What a column is told no more without a link, which is known by its number."""
        kept, waiting = set(column.roles), list(column.roles)
        while waiting:
            for link, number in self._parents.get(waiting.pop(), ()):
                if number != left_out and link.inherits not in kept:
                    kept.add(link.inherits)
                    waiting.append(link.inherits)
        lost = together(self._own, column.counting - kept)
        cells = lost.allows.keys() | lost.denies.keys()
        return {cell: (-lost.allows.get(cell, 0), -lost.denies.get(cell, 0)) for cell in cells}

    def _mutants(self, rule: Rule) -> Iterator[tuple[str, _Change]]:
        meant = self._cells.of_rule(rule)
        one = (0, 1) if rule.effect == DENY else (1, 0)
        none_of_it = (-one[0], -one[1])
        yield "it left out", dict.fromkeys(meant, none_of_it)
        turned = (one[1] - one[0], one[0] - one[1])
        yield f"{ALLOW if rule.effect == DENY else DENY} instead", dict.fromkeys(meant, turned)
        words = {name: getattr(rule, name) for name in _FIELDS}
        for name, told in _FIELDS.items():
            if words[name] != ANY:
                more = self._cells.of(**{**words, name: ANY}) - meant
                if more:
                    yield f"any {told}", dict.fromkeys(more, one)
                continue
            for word in sorted({getattr(cell, name) for cell in meant}):
                lost = self._cells.of(**{**words, name: word})
                if lost != meant:
                    yield f"any {told} but '{word}'", dict.fromkeys(lost, none_of_it)


def _fate(alone: tuple[_Column, _Change], claimed: Iterable[tuple[_Column, _Change]]) -> _Fate:
    """``claimed`` is looked at only where the role by itself is told something else."""
    if not any(_turned(*alone)):
        return _Fate.WITHOUT_EFFECT
    for column, change in claimed:
        for cell, verdict in _turned(column, change):
            expected = column.wanted.get(cell)
            if expected is not None and not expected.met_by(verdict):
                return _Fate.NOTICED
    return _Fate.SURVIVED


def _turned(column: _Column, change: _Change) -> Iterator[tuple[Permission, Verdict]]:
    """The cells of which a column is told something else, and what."""
    for cell, (allows, denies) in change.items():
        verdict = column.said.verdict(cell, allows, denies)
        if verdict is not column.said.verdict(cell):
            yield cell, verdict
