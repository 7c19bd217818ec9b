"""An endless stream of small policies, each with requests to decide, the same at each run: what the laws are held to.

How many requests there are is for ``LAWS_REQUESTS`` to say: 20,000 unless it is set, a million in ``make laws``.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from random import Random

from actions.authorization.index import PolicyIndex
from actions.authorization.oracle import Oracle
from actions.authorization.source import PolicySource
from actions.vocabulary import Permission, ScopeType
from tests.policy.support import CELLS, ORDERED_CELLS, Sketch, index_of

REQUESTS = int(os.environ.get("LAWS_REQUESTS", "20000"))
SETS_EACH = 5
REQUESTS_EACH = SETS_EACH * len(CELLS)
_NAMES = ("clerk", "guard", "baker", "pilot", "judge")
_SCOPES = tuple(scope.value for scope in ScopeType)

Request = tuple[frozenset[str], Permission]


@dataclass(frozen=True)
class Sample:
    """A policy and what is asked of it. ``seed`` makes it again: ``sample(seed)``."""

    seed: int
    sketch: Sketch
    requests: tuple[Request, ...]

    @cached_property
    def source(self) -> PolicySource:
        return self.sketch.source()

    @cached_property
    def index(self) -> PolicyIndex:
        return index_of(self.source)

    @cached_property
    def casbin(self) -> Oracle:
        return Oracle(self.source)

    def random(self) -> Random:
        """For the choices that an agreement makes: the same at each call."""
        return Random(f"choices of {self.seed}")

    def rule(self, effect: str) -> tuple[str, ...]:
        """One more rule that the policy could have."""
        return _rule(self.random(), tuple(self.sketch.roles), effect)


def samples(requests: int = REQUESTS, part: int = 0, parts: int = 1) -> Iterator[Sample]:
    """At least so many requests, of which this is one of several parts."""
    policies = -(-requests // REQUESTS_EACH)
    return (sample(seed) for seed in range(part, policies, parts))


def sample(seed: int) -> Sample:
    random = Random(seed)
    names = _NAMES[: random.randint(1, len(_NAMES))]
    roles = {name: tuple(random.sample(_SCOPES, random.randint(0, 2))) for name in names}
    upwards = [(low, high) for number, low in enumerate(names) for high in names[number + 1 :]]
    links = tuple(random.sample(upwards, random.randint(0, min(4, len(upwards)))))
    rules = tuple(_rule(random, names) for _ in range(random.randint(0, 12)))
    asked = [frozenset(random.sample(names, min(len(names), random.randint(0, 3)))) for _ in range(SETS_EACH)]
    requests = tuple((held, cell) for held in asked for cell in ORDERED_CELLS)
    return Sample(seed, Sketch(roles, rules, links), requests)


def _rule(random: Random, names: tuple[str, ...], effect: str | None = None) -> tuple[str, ...]:
    """A rule that may stand in a policy. Wildcards, denies and clashes are frequent."""
    cell = random.choice(ORDERED_CELLS)
    words = [cell.scope, cell.entity, cell.operation]
    if random.randrange(3) == 0:
        words = ["*" if random.random() < 0.5 else word for word in words]
        if "*" in words and words[0] != "admin":
            words[0] = "*"
    return (random.choice(names), *words, effect or random.choice(("allow", "allow", "deny")))
