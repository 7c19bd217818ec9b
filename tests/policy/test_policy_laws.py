"""What must hold for every policy: the index, the plain reading of the rules, and stock Casbin are of one mind.

The stream of policies and requests is in ``stream``, what is held to it in ``agreements`` (what decides) and in
``workbench_agreements`` (what explains, lists, compares and replays).
"""

import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from actions.authorization.oracle import Oracle
from actions.authorization.source import parse
from actions.vocabulary import Permission
from tests.policy.agreements import AGREEMENTS
from tests.policy.stream import REQUESTS, REQUESTS_EACH, Sample, sample, samples
from tests.policy.support import CELLS, Sketch
from tests.policy.workbench_agreements import WORKBENCH

PARTS = 4
PROCESSES = 20 if REQUESTS > 100_000 else 3


@pytest.mark.parametrize("part", range(PARTS))
def test_every_surface_answers_alike_on_every_policy_and_request(part: int) -> None:
    for each in samples(REQUESTS, part, PARTS):
        for agreement in (*AGREEMENTS, *WORKBENCH):
            try:
                agreement(each)
            except AssertionError as error:
                error.add_note(f"{agreement.__name__} does not hold for sample({each.seed}): {each.sketch}")
                raise


def test_the_stream_holds_as_many_requests_as_were_asked_for() -> None:
    assert REQUESTS <= sum(len(each.requests) for each in samples(REQUESTS)) < REQUESTS + REQUESTS_EACH
    parts = [each.seed for part in range(PARTS) for each in samples(5000, part, PARTS)]
    assert sorted(parts) == [each.seed for each in samples(5000)]


def test_the_stream_is_made_of_policies_in_which_things_happen() -> None:
    """Else the laws would hold because there is nothing to them."""
    seen: Counter[str] = Counter()
    for each in samples(20_000):
        seen.update(_happens(each))
    assert seen["allowed"] > 2000
    assert seen["denied by a rule"] > 2000
    assert seen["allowed to one and denied to another"] > 100
    assert seen["inherited"] > 100
    assert seen["by a wildcard"] > 100
    assert sample(1) == sample(1)


def _happens(each: Sample) -> Counter[str]:
    seen: Counter[str] = Counter()
    for roles, cell in each.requests:
        rule = each.index.rule_for(roles, cell)
        if rule is None:
            continue
        seen["allowed" if rule.allows else "denied by a rule"] += 1
        seen["inherited"] += rule.role not in roles
        seen["by a wildcard"] += rule.is_wild
        alone = {each.index.decide(frozenset({role}), cell).allowed for role in roles}
        seen["allowed to one and denied to another"] += not rule.allows and True in alone
    return seen


def test_a_cell_or_a_role_that_the_policy_does_not_know_is_denied() -> None:
    index = Sketch({"clerk": ("admin",)}, (("clerk", "*", "*", "*", "allow"),)).index()
    assert index.decide(frozenset({"clerk"}), Permission("admin", "thing", "get")).allowed
    assert not index.decide(frozenset({"clerk"}), Permission("admin", "thing", "fly")).allowed
    assert not index.decide(frozenset({"clerk"}), Permission("", "", "")).allowed
    assert not index.decide(frozenset({"stranger"}), Permission("admin", "thing", "get")).allowed
    assert not index.decide(frozenset(), Permission("admin", "thing", "get")).allowed


def chain(links: int) -> tuple[Sketch, frozenset[str]]:
    """A chain of roles in which the last may get a thing, and its first role."""
    names = [f"role_{number}" for number in range(links + 1)]
    sketch = Sketch(
        dict.fromkeys(names, ("admin",)),
        ((names[-1], "admin", "thing", "get", "allow"),),
        tuple(pairwise(names)),
    )
    return sketch, frozenset({names[0]})


def test_inheritance_reaches_as_far_as_casbin_follows_it_and_is_refused_beyond() -> None:
    cell = Permission("admin", "thing", "get")
    followed, first = chain(8)
    assert Oracle(followed.source()).allows(first, cell)
    assert followed.index().decide(first, cell).allowed
    too_long, first = chain(9)
    assert not Oracle(too_long.source()).allows(first, cell)
    assert parse(too_long.source(), CELLS).errors


_EVERYTHING = """
from hashlib import sha256
from actions.authorization.source import parse
from tests.policy.stream import samples
from tests.policy.support import CELLS
from tests.policy.workbench_agreements import answers
for sample in samples(2_000):
    parsed = parse(sample.source, CELLS)
    decisions = [sample.index.decide(*request) for request in sample.requests]
    told = repr((parsed.findings, parsed.rules, decisions, list(answers(sample))))
    print(sample.seed, sample.source.digest, sha256(told.encode()).hexdigest())
"""


def test_digest_findings_and_answers_are_the_same_in_every_process() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", _EVERYTHING],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for seed in range(PROCESSES)
    }
    assert len(printed) == 1
    assert len(printed.pop().splitlines()) == len(list(samples(2_000)))
