"""What must hold for every policy: the index, the plain reading of the rules, and stock Casbin are of one mind."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from actions.authorization.oracle import Oracle
from actions.authorization.source import parse
from actions.vocabulary import Permission
from tests.policy.support import CELLS, ORDERED_CELLS, Sketch, index_of, role_sets, rules, sketches, source_of

UNHURRIED = settings(deadline=None, max_examples=100)


def sets_of(sketch: Sketch) -> list[frozenset[str]]:
    """No role, each role, and every pair: denies combine, so single roles do not show everything."""
    return [frozenset(some) for size in range(3) for some in combinations(sorted(sketch.roles), size)]


def allowed(sketch: Sketch) -> dict[tuple[frozenset[str], Permission], bool]:
    index = sketch.index()
    return {(roles, cell): index.decide(roles, cell).allowed for roles in sets_of(sketch) for cell in ORDERED_CELLS}


@UNHURRIED
@given(sketches())
def test_the_index_answers_as_the_rules_read_one_by_one(sketch: Sketch) -> None:
    for (roles, cell), answer in allowed(sketch).items():
        assert answer is sketch.allows(roles, cell), (roles, cell)


@settings(deadline=None, max_examples=200)
@given(sketches(), st.data())
def test_the_index_answers_as_stock_casbin(sketch: Sketch, data: st.DataObject) -> None:
    index, oracle = sketch.index(), Oracle(sketch.source())
    for roles in [frozenset[str](), *(data.draw(role_sets(sketch)) for _ in range(4))]:
        for cell in ORDERED_CELLS:
            assert index.decide(roles, cell).allowed is oracle.allows(roles, cell), (roles, cell)


@UNHURRIED
@given(sketches())
def test_the_rule_named_decides_and_is_the_first_to_do_so(sketch: Sketch) -> None:
    index, parsed = sketch.index(), parse(sketch.source(), CELLS)
    for roles in sets_of(sketch):
        held = sketch.ancestors(roles)
        for cell in ORDERED_CELLS:
            words = (cell.scope, cell.entity, cell.operation)
            matching = [
                rule
                for rule in parsed.rules
                if rule.role in held
                and all(
                    said in ("*", asked)
                    for said, asked in zip((rule.scope, rule.entity, rule.operation), words, strict=True)
                )
            ]
            first = next((rule for rule in matching if rule.effect == "deny"), next(iter(matching), None))
            decision = index.decide(roles, cell)
            assert decision.rule == (first.place if first else None)
            assert decision.policy == sketch.source().digest


@UNHURRIED
@given(sketches())
def test_allowed_cells_are_the_cells_that_are_decided_to_be_allowed(sketch: Sketch) -> None:
    index = sketch.index()
    for roles in sets_of(sketch):
        for scope in ("admin", "domain", "project", "user"):
            wanted = {cell for cell in CELLS if cell.scope == scope and index.decide(roles, cell).allowed}
            assert index.allowed_cells(roles, scope) == wanted


@UNHURRIED
@given(sketches(), st.data())
def test_adding_a_deny_never_adds_access(sketch: Sketch, data: st.DataObject) -> None:
    deny = data.draw(rules(tuple(sketch.roles), "deny"))
    after = allowed(replace(sketch, rules=(*sketch.rules, deny)))
    assert all(answer or not after[request] for request, answer in allowed(sketch).items())


@UNHURRIED
@given(sketches(), st.data())
def test_adding_an_allow_never_removes_access(sketch: Sketch, data: st.DataObject) -> None:
    allow = data.draw(rules(tuple(sketch.roles), "allow"))
    after = allowed(replace(sketch, rules=(*sketch.rules, allow)))
    assert all(after[request] or not answer for request, answer in allowed(sketch).items())


@UNHURRIED
@given(sketches(), st.data())
def test_order_repetition_blank_lines_and_comments_change_no_answer(sketch: Sketch, data: st.DataObject) -> None:
    shaken = {}
    for name, lines in sketch.lines().items():
        twice = data.draw(st.permutations([*lines, *lines[:2]]))
        shaken[name] = [text for line in twice for text in (line.replace(", ", " ,   "), "", "# said again")]
    one, other = sketch.index(), index_of(source_of(shaken, sketch.roles))
    for roles in sets_of(sketch):
        for cell in ORDERED_CELLS:
            assert one.decide(roles, cell).allowed is other.decide(roles, cell).allowed


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


_DIGEST_AND_ANSWERS = """
from tests.policy.support import ORDERED_CELLS, Sketch
names = ["clerk", "guard", "baker"]
sketch = Sketch(
    {name: ("admin", "domain") for name in names},
    (("clerk", "*", "*", "get", "allow"), ("guard", "domain", "thing", "get", "deny"),
     ("baker", "*", "crate", "*", "allow")),
    (("clerk", "baker"),),
)
index = sketch.index()
print(index.digest)
for cell in ORDERED_CELLS:
    print(cell, index.decide(frozenset(names), cell), index.decide(frozenset({"clerk"}), cell))
"""


def test_digest_and_answers_are_the_same_in_every_process() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST_AND_ANSWERS],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for seed in range(5)
    }
    assert len(printed) == 1
    assert len(printed.pop().splitlines()) == 1 + len(ORDERED_CELLS)
