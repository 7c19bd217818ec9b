"""A stock Casbin enforcer built from the same files, and the comparison of its answers with the index's.

For the check of a candidate policy and for tests, never for requests: it walks every rule each time it is asked.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from random import Random
from typing import final

import casbin
from casbin.persist.adapters import StringAdapter

from actions.authorization import model_conf
from actions.authorization.index import PolicyIndex
from actions.authorization.rules import RULE_FILES, Parsed, ancestors
from actions.authorization.source import PolicySource
from actions.vocabulary import Permission, Vocabulary


@dataclass(frozen=True, slots=True)
class Difference:
    """A request on which the index and Casbin disagree."""

    roles: tuple[str, ...]
    permission: Permission
    index: bool
    casbin: bool

    def __str__(self) -> str:
        words = {True: "allow", False: "deny"}
        roles = " + ".join(self.roles) or "no role"
        return f"{roles} on {self.permission}: the index says {words[self.index]}, Casbin says {words[self.casbin]}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found, over how many requests. ``complete``: nothing that was to be asked was left out."""

    differences: tuple[Difference, ...]
    compared: int
    complete: bool


@final
class Oracle:
    """Stock Casbin over the joined rule files. A set of roles becomes a principal of its own, by grouping lines."""

    def __init__(self, source: PolicySource) -> None:
        joined = "".join(source.files[name].decode("utf-8") for name in RULE_FILES)
        model = casbin.Enforcer.new_model(text=source.files[model_conf.FILE].decode("utf-8"))
        self._enforcer = casbin.Enforcer(model, StringAdapter(joined))
        self._enforcer.enable_auto_save(False)
        self._principals: dict[frozenset[str], str] = {}

    def allows(self, roles: frozenset[str], permission: Permission) -> bool:
        principal = self._principals.get(roles)
        if principal is None:
            principal = self._principals[roles] = f"principal:{len(self._principals)}"
            for role in sorted(roles):
                self._enforcer.add_grouping_policy(principal, role)
        return bool(self._enforcer.enforce(principal, permission.scope, permission.entity, permission.operation))


def compare(
    source: PolicySource,
    index: PolicyIndex,
    vocabulary: Vocabulary,
    *,
    changed: frozenset[str] = frozenset(),
    budget_s: float = 0.4,
    at_most: int | None = None,
    seed: int = 0,
    exhaustive: bool = False,
) -> Comparison:
    """Ask both about the same requests and keep the differences, 100 at most.

    First every cell for each role of ``changed``, then samples from ``seed`` of one to three roles, for ``budget_s``
    seconds and at most ``at_most`` of them. ``exhaustive`` instead asks, for as long as it takes, every cell for every
    role and for no role, and then as many cells again for sampled pairs and triples.
    """
    oracle = Oracle(source)
    cells = sorted(vocabulary, key=str)
    single = sorted(index.roles) if exhaustive else sorted(changed & index.roles.keys())
    sets = (
        [frozenset[str](), *(frozenset((role,)) for role in single)]
        if exhaustive
        else [frozenset((role,)) for role in single]
    )
    certain = [(roles, cell) for roles in sets for cell in cells]
    samples = _samples(sorted(index.roles), cells, Random(seed))  # noqa: S311
    requests = chain(certain, islice(samples, len(certain) if exhaustive else at_most))

    differences: list[Difference] = []
    compared, deadline = 0, time.monotonic() + budget_s
    for roles, cell in requests:
        if len(differences) == 100 or (not exhaustive and time.monotonic() >= deadline):
            break
        ours, theirs = index.decide(roles, cell).allowed, oracle.allows(roles, cell)
        if ours is not theirs:
            differences.append(Difference(tuple(sorted(roles)), cell, ours, theirs))
        compared += 1
    return Comparison(tuple(differences), compared, compared >= len(certain))


def _samples(roles: list[str], cells: list[Permission], random: Random) -> Iterator[tuple[frozenset[str], Permission]]:
    """Endless requests, each of a small set of roles and one cell."""
    while roles and cells:
        yield frozenset(random.sample(roles, min(len(roles), random.randint(1, 3)))), random.choice(cells)


def changed_roles(old: Parsed, new: Parsed) -> frozenset[str]:
    """The roles of ``new`` whose rules, links or inherited rules or links are not those of ``old``.

    Compared as written and not as compiled, so that a mistake of the compiler cannot hide a change from the oracle.
    """
    before, after = _statements(old), _statements(new)
    lines = ancestors(new.roles, new.links)
    touched = {role for role in {*before, *after} if before.get(role) != after.get(role)}
    return frozenset(role for role, line in lines.items() if line & touched)


def _statements(parsed: Parsed) -> dict[str, set[tuple[str, ...]]]:
    found: dict[str, set[tuple[str, ...]]] = {role: set() for role in parsed.roles}
    for rule in parsed.rules:
        found.setdefault(rule.role, set()).add((rule.scope, rule.entity, rule.operation, rule.effect))
    for link in parsed.links:
        found.setdefault(link.role, set()).add((link.inherits,))
    return found
