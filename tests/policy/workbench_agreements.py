"""What the answers of the workbench must agree on, on every policy of the stream: explain, who can, what can, the
matrix, the difference and the replay, each held to the rules read one by one.

Where an answer is dear it is asked for some requests of a sample, drawn anew for each; how many stands here. AuthZEN's
decisions are those of ``Standing`` and its searches those of ``speaking``, which is held to the rules here; that its
words come to that is for a test with people and scopes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from actions.authorization.analysis import matrix, speaking, what_can, what_roles_can, who_can
from actions.authorization.answers import Cell, CountingRole, Verdict
from actions.authorization.difference import difference
from actions.authorization.difference_answer import PolicyDifference
from actions.authorization.explain import Explanation, explain
from actions.authorization.grants import GrantKind, PolicyGrant
from actions.authorization.index import PolicyIndex
from actions.authorization.linting.of_policies import CONTRADICTORY, DUPLICATE, REDUNDANT_LINK, SHADOWED
from actions.authorization.packed import pack, unpack
from actions.authorization.replay import Turn
from actions.authorization.rules import FILE_OF, Rule
from actions.authorization.source import PolicySource, parse
from actions.vocabulary import Permission, ScopeType
from tests.policy.recording import record, replayed
from tests.policy.stream import Request, Sample
from tests.policy.support import CELLS, ORDERED_CELLS, Sketch, index_of

GRANTED = 3
"""Denials of a sample for which every grant that is proposed is applied."""
RECORDED = 40
"""Requests of a sample that are recorded and replayed, of the 105 that it has."""
SPARED = 2
"""Lines of a sample that are taken away because a check calls them idle."""
_IDLE = {rule.id for rule in (DUPLICATE, SHADOWED, CONTRADICTORY, REDUNDANT_LINK)}
_SCOPES = tuple(scope.value for scope in ScopeType)
Verdicts = Mapping[tuple[str, Permission], Verdict]


def what_was_packed_answers_as_what_was_compiled(sample: Sample) -> None:
    packed = unpack(pack(sample.index), CELLS)
    for request in sample.requests:
        assert packed.decide(*request) == sample.index.decide(*request)
        assert packed.rule_for(*request) == sample.index.rule_for(*request)
    assert (packed.digest, packed.roles) == (sample.index.digest, sample.index.roles)
    assert (packed.rules, packed.links) == (sample.index.rules, sample.index.links)
    for roles in {roles for roles, _ in sample.requests}:
        for scope in ScopeType:
            assert packed.allowed_cells(roles, scope) == sample.index.allowed_cells(roles, scope)
            assert packed.may_anything(roles, [scope]) is sample.index.may_anything(roles, [scope])
        assert packed.denies_anything(roles) is sample.index.denies_anything(roles)


def an_explanation_names_what_decided_and_all_that_matched(sample: Sample) -> None:
    links = {(link.file, link.line): link for link in sample.index.links}
    for roles, cell in sample.requests:
        told, decision = explained(sample.index, roles, cell), sample.index.decide(roles, cell)
        assert (told.allowed, told.decided_by.rule.place if told.decided_by else None) == (
            decision.allowed,
            decision.rule,
        )
        matches = [told.decided_by, *told.others] if told.decided_by else []
        counting = sample.sketch.ancestors(roles)
        matching = [rule for rule in sample.index.rules if _matches(rule, counting, cell)]
        assert [match.rule.place for match in matches] == [
            rule.place for rule in sorted(matching, key=lambda rule: rule.allows)
        ]
        speaks = {rule.place: rule for rule in matching}
        for match in matches:
            rule = speaks[match.rule.place]
            assert (match.verdict is Verdict.ALLOW) is rule.allows
            assert {path.held.role for path in match.paths} == {
                role for role in roles if rule.role in sample.sketch.ancestors({role})
            }
            for path in match.paths:
                steps = [links[line.file, line.line] for line in path.inherits]
                assert [path.held.role, *(step.inherits for step in steps)] == [
                    *(step.role for step in steps),
                    rule.role,
                ]
        assert {said.held.role: said.verdict for said in told.roles} == {
            role: sample.sketch.says({role}, cell) for role in roles
        }
        assert (told.lift is not None) is (bool(matches) and not told.allowed)
        assert not (matches and (told.near_misses or told.grants))


def who_can_what_can_and_the_matrix_say_of_roles_what_the_rules_say(sample: Sample) -> None:
    columns = {str(number): roles for number, roles in enumerate({roles for roles, _ in sample.requests})}
    shown = {_permission(row.cell): row.verdicts for row in matrix(sample.index, columns).rows}
    assert shown == {cell: [sample.sketch.says(roles, cell) for roles in columns.values()] for cell in CELLS}
    for number, roles in enumerate(columns.values()):
        spoken = {_permission(said.cell): said.verdict for said in what_can(sample.index, roles, _SCOPES)}
        assert spoken == {cell: row[number] for cell, row in shown.items() if row[number] is not Verdict.NONE}
    by_role = {_permission(row.cell): row.verdicts for row in matrix(sample.index).rows}
    for cell in CELLS:
        told = who_can(sample.index, cell)
        assert [role.verdict for role in told.roles] == by_role[cell]
        said = {role.role: role.verdict for role in told.roles}
        assert {role: said[role] for role in sample.sketch.roles} == {
            role: sample.sketch.says({role}, cell) for role in sample.sketch.roles
        }
        assert told.anybody is any(role.counts and role.verdict is Verdict.ALLOW for role in told.roles)
        allowing, denying = speaking(sample.index, cell)
        for roles in columns.values():
            answer = bool(roles & allowing) and not roles & denying
            assert answer is sample.index.decide(roles, cell).allowed


def without_a_line_that_a_check_calls_idle_all_is_decided_as_it_was(sample: Sample) -> None:
    idle = [found for found in parse(sample.source, CELLS).findings if found.rule_id in _IDLE]
    for found in sample.random().sample(idle, min(SPARED, len(idle))):
        lines = sample.source.files[found.file].decode().split("\n")
        lines[found.line - 1] = "# spared"
        spared = index_of(PolicySource({**sample.source.files, found.file: "\n".join(lines).encode()}))
        for request in sample.requests:
            assert spared.decide(*request).allowed is sample.index.decide(*request).allowed
        assert not difference(sample.index, spared).groups


def the_old_answers_and_the_difference_are_the_new_answers(sample: Sample) -> None:
    changed = edited(sample)
    old, new = sample.index, changed.index()
    found = difference(old, new)
    told = _applied(found, {(role, cell): sample.sketch.says({role}, cell) for role in old.roles for cell in CELLS})
    for roles, cell in sample.requests:
        said = {told[role, cell] for role in roles} - {Verdict.NONE}
        assert (said == {Verdict.ALLOW}) is changed.allows(roles, cell) is new.decide(roles, cell).allowed
    assert not difference(old, index_of(sample.source)).groups


def a_grant_that_is_proposed_flips_that_cell_and_what_it_says_and_nothing_else(sample: Sample) -> None:
    undecided = [request for request in sample.requests if sample.index.rule_for(*request) is None]
    for roles, cell in sample.random().sample(undecided, min(GRANTED, len(undecided))):
        for grant in explained(sample.index, roles, cell).grants:
            if grant.kind is GrantKind.LINE:
                _lets_in_whom_it_says(sample, grant, roles, cell)
            else:
                _gives_and_takes_what_it_says(sample.index, grant, roles, cell)


def a_replay_tells_what_is_decided_otherwise_and_under_the_same_policy_nothing(sample: Sample) -> None:
    asked = some(sample, RECORDED)
    records = [record(sample.index, cell, roles) for roles, cell in asked]
    same = replayed(records, sample.index)
    assert (same.differs, same.same, same.changes) == (False, len(asked), [])
    changed = edited(sample)
    found = replayed(records, changed.index())
    turns = [
        Turn.GAIN if changed.allows(*request) else Turn.LOSS
        for request in asked
        if changed.allows(*request) is not sample.sketch.allows(*request)
    ]
    assert (found.gained, found.lost) == (turns.count(Turn.GAIN), turns.count(Turn.LOSS))
    assert found.same == len(asked) - len(turns)


def answers(sample: Sample) -> Iterator[str]:
    """What the workbench says of a sample, as programs get it."""
    index, other = sample.index, edited(sample).index()
    yield from (explained(index, *request).model_dump_json() for request in sample.requests)
    yield from (who_can(index, cell).model_dump_json() for cell in ORDERED_CELLS)
    for roles in sorted({roles for roles, _ in sample.requests}, key=sorted):
        yield what_roles_can(index, "+".join(sorted(roles)), roles, _SCOPES).model_dump_json()
    yield matrix(index).model_dump_json()
    yield difference(index, other).model_dump_json()
    yield replayed([record(index, cell, roles) for roles, cell in sample.requests], other).model_dump_json()


# -- what they are held to ---------------------------------------------------------------------------------------------


def some(sample: Sample, most: int) -> list[Request]:
    """Requests of a sample, no more than so many; what a rule speaks of comes first, since there is more to be told."""
    spoken = [request for request in sample.requests if sample.index.rule_for(*request) is not None]
    silent = [request for request in sample.requests if sample.index.rule_for(*request) is None]
    random = sample.random()
    chosen = random.sample(spoken, min(len(spoken), most * 2 // 3))
    return [*chosen, *random.sample(silent, min(len(silent), most - len(chosen)))]


def edited(sample: Sample) -> Sketch:
    """The policy after an edit: two rules came, one was turned, others and perhaps a link went."""
    random, sketch = sample.random(), sample.sketch
    kept = [rule for rule in sketch.rules if random.random() < 0.7]
    turned = [(*rule[:-1], "deny" if rule[-1] == "allow" else "allow") for rule in kept[:1] if random.random() < 0.5]
    links = tuple(link for link in sketch.links if random.random() < 0.7)
    return replace(
        sketch, rules=(*kept[len(turned) :], *turned, sample.rule("allow"), sample.rule("deny")), links=links
    )


def explained(index: PolicyIndex, roles: Iterable[str], cell: Permission) -> Explanation:
    """For roles that are supposed to count."""
    held = [CountingRole(role=role) for role in sorted(roles)]
    return explain(index, held, cell, principal="+".join(sorted(roles)))


def with_line(source: PolicySource, file: str, line: str) -> PolicySource:
    return PolicySource({**source.files, file: source.files[file] + f"{line}\n".encode()})


def _matches(rule: Rule, counting: set[str], cell: Permission) -> bool:
    words = zip((rule.scope, rule.entity, rule.operation), (cell.scope, cell.entity, cell.operation), strict=True)
    return rule.role in counting and all(said in ("*", asked) for said, asked in words)


def _applied(found: PolicyDifference, before: Verdicts) -> Verdicts:
    after = dict(before)
    for effect in (effect for group in found.groups for effect in group.effects):
        for key in ((role, _permission(cell)) for role in effect.roles for cell in effect.cells):
            assert before[key] is after[key] is effect.before, "a cell of a role is told of once"
            after[key] = effect.after
    return after


def _lets_in_whom_it_says(sample: Sample, grant: PolicyGrant, roles: frozenset[str], cell: Permission) -> None:
    assert grant.line is not None
    assert grant.file == FILE_OF[cell.scope]
    assert grant.size == len(grant.roles)
    assert [_permission(gain) for gain in grant.gains] == [cell]
    source = with_line(sample.source, grant.file, grant.line)
    parsed = parse(source, CELLS)
    assert parsed.errors == ()
    after = index_of(source)
    assert after.decide(roles, cell).allowed
    alone = [frozenset({role}) for role in sample.index.roles]
    gaining = {role for role in grant.roles if sample.index.rule_for(frozenset({role}), cell) is None}
    assert gaining == set(grant.roles), "what gains nothing by it is not named"
    for asked in (*sample.requests, *((role, cell) for role in alone)):
        let_in = asked[1] == cell and sample.index.rule_for(*asked) is None and bool(gaining & asked[0])
        assert after.decide(*asked).allowed is (sample.index.decide(*asked).allowed or let_in)


def _gives_and_takes_what_it_says(
    index: PolicyIndex, grant: PolicyGrant, roles: frozenset[str], cell: Permission
) -> None:
    bound_in, more = ScopeType(str(grant.bound_in)), roles | {grant.role}
    assert index.bindable(grant.role, bound_in)
    assert index.decide(more, cell).allowed
    under = [other for other in ORDERED_CELLS if other.scope in bound_in.at_or_under]
    now = {other for other in under if index.decide(roles, other).allowed}
    then = {other for other in under if index.decide(more, other).allowed}
    assert {_permission(gain) for gain in grant.gains} == then - now
    assert {_permission(loss) for loss in grant.loses} == now - then
    assert (grant.gained, grant.lost) == (len(then - now), len(now - then))


def _permission(cell: Cell) -> Permission:
    return Permission(cell.scope, cell.entity, cell.operation)


WORKBENCH: tuple[Callable[[Sample], None], ...] = (
    what_was_packed_answers_as_what_was_compiled,
    an_explanation_names_what_decided_and_all_that_matched,
    who_can_what_can_and_the_matrix_say_of_roles_what_the_rules_say,
    without_a_line_that_a_check_calls_idle_all_is_decided_as_it_was,
    the_old_answers_and_the_difference_are_the_new_answers,
    a_grant_that_is_proposed_flips_that_cell_and_what_it_says_and_nothing_else,
    a_replay_tells_what_is_decided_otherwise_and_under_the_same_policy_nothing,
)
