"""What must agree on every policy and every request of the stream. A further surface that decides adds a function, here
or, if it is an answer of the workbench, in ``workbench_agreements``.

Each takes a sample and asserts; what it asserts is in its name.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from actions.authorization.index import PolicyIndex
from actions.authorization.source import PolicySource, parse
from tests.policy.stream import Request, Sample
from tests.policy.support import CELLS, Sketch, index_of, source_of


def decided(index: PolicyIndex, sample: Sample) -> Mapping[Request, bool]:
    return {request: index.decide(*request).allowed for request in sample.requests}


def the_index_answers_as_the_rules_read_one_by_one(sample: Sample) -> None:
    assert decided(sample.index, sample) == {request: sample.sketch.allows(*request) for request in sample.requests}


def the_index_answers_as_stock_casbin(sample: Sample) -> None:
    assert decided(sample.index, sample) == {request: sample.casbin.allows(*request) for request in sample.requests}


def the_rule_named_decides_and_is_the_first_to_do_so(sample: Sample) -> None:
    rules = parse(sample.source, CELLS).rules
    for roles, cell in sample.requests:
        held = sample.sketch.ancestors(roles)
        words = (cell.scope, cell.entity, cell.operation)
        matching = [
            rule
            for rule in rules
            if rule.role in held
            and all(
                said in ("*", asked)
                for said, asked in zip((rule.scope, rule.entity, rule.operation), words, strict=True)
            )
        ]
        first = next((rule for rule in matching if rule.effect == "deny"), next(iter(matching), None))
        decision = sample.index.decide(roles, cell)
        assert decision.rule == (first.place if first else None)
        assert sample.index.rule_for(roles, cell) == first
        assert decision.policy == sample.source.digest


def allowed_cells_are_those_that_are_decided_to_be_allowed(sample: Sample) -> None:
    for roles in {roles for roles, _ in sample.requests}:
        allowed = {cell for cell in CELLS if sample.index.decide(roles, cell).allowed}
        scopes = ("admin", "domain", "project", "user")
        assert frozenset().union(*(sample.index.allowed_cells(roles, scope) for scope in scopes)) == allowed


def adding_a_deny_never_adds_access(sample: Sample) -> None:
    after = decided(_with(sample.sketch, sample.rule("deny")).index(), sample)
    assert all(answer or not after[request] for request, answer in decided(sample.index, sample).items())


def adding_an_allow_never_removes_any(sample: Sample) -> None:
    after = decided(_with(sample.sketch, sample.rule("allow")).index(), sample)
    assert all(after[request] or not answer for request, answer in decided(sample.index, sample).items())


def order_repetition_blank_lines_and_comments_change_nothing(sample: Sample) -> None:
    random, shaken = sample.random(), {}
    for name, lines in sample.sketch.lines().items():
        twice = [*lines, *lines[:2]]
        random.shuffle(twice)
        shaken[name] = [text for line in twice for text in (line.replace(", ", " ,   "), "", "# said again")]
    assert decided(index_of(source_of(shaken, sample.sketch.roles)), sample) == decided(sample.index, sample)


def a_reload_changes_nothing(sample: Sample) -> None:
    again = PolicySource({name: bytes(content) for name, content in reversed([*sample.source.files.items()])})
    assert again.digest == sample.source.digest
    assert parse(again, CELLS) == parse(sample.source, CELLS)
    reloaded = index_of(again)
    assert [reloaded.decide(*request) for request in sample.requests] == [
        sample.index.decide(*request) for request in sample.requests
    ]


def _with(sketch: Sketch, rule: tuple[str, ...]) -> Sketch:
    return replace(sketch, rules=(*sketch.rules, rule))


AGREEMENTS: tuple[Callable[[Sample], None], ...] = (
    the_index_answers_as_the_rules_read_one_by_one,
    the_index_answers_as_stock_casbin,
    the_rule_named_decides_and_is_the_first_to_do_so,
    allowed_cells_are_those_that_are_decided_to_be_allowed,
    adding_a_deny_never_adds_access,
    adding_an_allow_never_removes_any,
    order_repetition_blank_lines_and_comments_change_nothing,
    a_reload_changes_nothing,
)
