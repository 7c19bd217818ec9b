"""Why, and what would have to be otherwise: the way to every rule, all that all but matched, every grant that would do.

That an explanation agrees with the decision, and that what it proposes does what it says, no less and no more, is held
to every policy of the stream in ``workbench_agreements``.
"""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from actions.authorization.answers import CountingRole, PolicyLine, Verdict
from actions.authorization.explain import NEAR_MISSES_AT_MOST, NoteKind, explain, stated
from actions.authorization.grants import CELLS_AT_MOST, GrantKind, Holders, with_users
from actions.authorization.rules import Rule
from actions.authorization.source import PolicySource
from actions.model import Nothing
from actions.standard import Spec
from actions.vocabulary import GET, ActionSpec, Controls, Effect, Entity, Permission, ScopeType, Use
from tests.policy.support import CELLS, ORDERED_CELLS, Sketch, index_of, role_sets, sets_of, sketches
from tests.policy.workbench_agreements import explained

UNHURRIED = settings(deadline=None, max_examples=25)
MANY = settings(deadline=None, max_examples=100)


def without(source: PolicySource, lines: Iterable[PolicyLine]) -> PolicySource:
    """The same with some lines made comments, so that all others keep their places."""
    files = {name: content.decode().split("\n") for name, content in source.files.items()}
    for line in lines:
        assert files[line.file][line.line - 1] == line.text
        files[line.file][line.line - 1] = "# lifted"
    return PolicySource({name: "\n".join(content).encode() for name, content in files.items()})


def differing(rule: Rule, counting: set[str], cell: Permission) -> set[str]:
    """The words of a rule that keep it from speaking of a cell."""
    asked = {"scope": cell.scope, "entity": cell.entity, "operation": cell.operation}
    words = {name for name, word in asked.items() if getattr(rule, name) not in ("*", word)}
    return words | ({"role"} if rule.role not in counting else set())


# -- why ---------------------------------------------------------------------------------------------------------------


@UNHURRIED
@given(sketches())
def test_every_rule_that_matches_is_told_with_the_shortest_way_to_it_from_each_role(sketch: Sketch) -> None:
    index = sketch.index()
    links = {(line.file, line.line): line for line in index.links}
    for roles in sets_of(sketch):
        counting = sketch.ancestors(roles)
        for cell in ORDERED_CELLS:
            told = explained(index, roles, cell)
            matches = [told.decided_by, *told.others] if told.decided_by else told.others
            matching = [rule for rule in index.rules if not differing(rule, counting, cell)]
            assert {match.rule.place for match in matches} == {rule.place for rule in matching}
            assert len(matches) == len(matching)
            for match in matches:
                (rule,) = (rule for rule in matching if rule.place == match.rule.place)
                assert match.rule.text == rule.text
                assert (match.verdict is Verdict.ALLOW) is rule.allows
                ways = {role: hops(sketch, role, rule.role) for role in roles}
                assert {path.held.role for path in match.paths} == {role for role, way in ways.items() if way >= 0}
                assert [len(path.inherits) for path in match.paths] == sorted(
                    len(path.inherits) for path in match.paths
                )
                for path in match.paths:
                    steps = [links[line.file, line.line] for line in path.inherits]
                    assert len(steps) == ways[path.held.role]
                    assert [path.held.role, *(step.inherits for step in steps)] == [
                        *(step.role for step in steps),
                        rule.role,
                    ]


def hops(sketch: Sketch, role: str, wanted: str) -> int:
    """How many lines of inheritance lie between two roles; -1: there is no way."""
    reached, count = {role}, 0
    while wanted not in reached:
        more = {inherited for held, inherited in sketch.links if held in reached} - reached
        if not more:
            return -1
        reached, count = reached | more, count + 1
    return count


# -- what all but matched ----------------------------------------------------------------------------------------------


@UNHURRIED
@given(sketches())
def test_near_misses_are_the_allows_in_which_exactly_one_word_differs_and_no_other_rule(sketch: Sketch) -> None:
    index = sketch.index()
    for roles in sets_of(sketch):
        counting = sketch.ancestors(roles)
        for cell in ORDERED_CELLS:
            told = explained(index, roles, cell)
            words = {rule.place: differing(rule, counting, cell) for rule in index.rules if rule.allows}
            expected = {place: word for place, word in words.items() if len(word) == 1} if not told.decided_by else {}
            assert {miss.rule.place: {miss.word.value} for miss in told.near_misses} == expected
            assert told.more_near_misses == 0
            order = [miss.word.value for miss in told.near_misses]
            assert order == sorted(order, key=["scope", "operation", "entity", "role"].index)
            for miss in told.near_misses:
                asked = {"scope": cell.scope, "entity": cell.entity, "operation": cell.operation}
                assert miss.says in miss.rule.text
                assert miss.needed == ([asked[miss.word]] if miss.word in asked else sorted(roles))


def test_of_many_near_misses_the_most_useful_are_told_and_the_rest_counted() -> None:
    names = [f"role_{number:02}" for number in range(30)]
    rules = [(name, "domain", "thing", "get", "allow") for name in names]
    rules.append(("clerk", "project", "thing", "get", "allow"))
    sketch = Sketch({**dict.fromkeys(names, ("domain",)), "clerk": ("domain",)}, tuple(rules))
    told = explained(sketch.index(), ["clerk"], Permission("domain", "thing", "get"))
    assert len(told.near_misses) == NEAR_MISSES_AT_MOST
    assert told.near_misses[0].word == "scope"
    assert told.more_near_misses == 31 - NEAR_MISSES_AT_MOST


# -- what would allow it -----------------------------------------------------------------------------------------------


@UNHURRIED
@given(sketches(), st.data())
def test_every_line_and_every_role_that_would_do_alone_is_proposed_and_the_smallest_first(
    sketch: Sketch, data: st.DataObject
) -> None:
    index, roles, cell = sketch.index(), data.draw(role_sets(sketch)), data.draw(st.sampled_from(ORDERED_CELLS))
    told = explained(index, roles, cell)
    assert [grant.size for grant in told.grants] == sorted(grant.size for grant in told.grants)
    if told.decided_by is not None:
        assert told.grants == []
        return
    reaching = {
        name
        for name, scopes in sketch.roles.items()
        if any(cell.scope in ScopeType(kind).at_or_under for kind in scopes)
    }
    lines = {grant.role for grant in told.grants if grant.kind is GrantKind.LINE}
    assert lines == roles & reaching
    bindings = {grant.role for grant in told.grants if grant.kind is GrantKind.BINDING}
    able = {
        name
        for name in {*sketch.roles} & reaching
        if index.decide(frozenset((name,)), cell).allowed and made_where_it_counts(sketch.roles[name], cell)
    }
    assert bindings <= able
    assert len(bindings) + told.more_grants == len(able)


def made_where_it_counts(scopes: Iterable[str], cell: Permission) -> bool:
    """Whether a role can be bound in a scope that counts there; in that of a user none is."""
    kinds = [ScopeType(kind) for kind in scopes if kind != "user"]
    return any(cell.scope in kind.at_or_under for kind in kinds)


GET_THING = Permission("user", "thing", "get")


def test_no_role_is_proposed_to_be_bound_in_the_scope_of_a_user() -> None:
    """Nobody can bind one there, whatever roles.yaml says of it."""
    allow = ("user", "thing", "get", "allow")
    sketch = Sketch({"clerk": ("user",), "guard": ("domain", "user")}, (("clerk", *allow), ("guard", *allow)))
    assert [(grant.role, grant.bound_in) for grant in explained(sketch.index(), [], GET_THING).grants] == [
        ("guard", "domain")
    ]


def test_a_role_that_is_proposed_is_told_to_take_away_what_it_denies() -> None:
    rules = (
        ("clerk", "user", "thing", "purge", "allow"),
        ("guard", "user", "thing", "get", "allow"),
        ("guard", "user", "thing", "purge", "deny"),
    )
    index = Sketch({"clerk": ("domain",), "guard": ("domain",)}, rules).index()
    binding = next(grant for grant in explained(index, ["clerk"], GET_THING).grants if grant.kind is GrantKind.BINDING)
    assert ([str(cell) for cell in binding.gains], [str(cell) for cell in binding.loses]) == (
        ["user:thing:get"],
        ["user:thing:purge"],
    )
    assert (binding.gained, binding.lost, binding.size) == (1, 1, 2)


def test_a_line_lets_in_who_inherits_and_not_who_was_in_or_stays_out() -> None:
    names = ("clerk", "guard", "baker", "pilot")
    rules = (("guard", "user", "thing", "get", "deny"), ("baker", "user", "thing", "get", "allow"))
    links = (("guard", "clerk"), ("baker", "clerk"), ("pilot", "clerk"))
    index = Sketch(dict.fromkeys(names, ("domain",)), rules, links).index()
    (line,) = (grant for grant in explained(index, ["clerk"], GET_THING).grants if grant.kind is GrantKind.LINE)
    assert (line.roles, line.size) == (["clerk", "pilot"], 2)


def test_of_two_ways_to_a_rule_the_shorter_is_told() -> None:
    links = (("clerk", "guard"), ("clerk", "baker"), ("guard", "pilot"), ("pilot", "judge"), ("baker", "judge"))
    names = ("clerk", "guard", "baker", "pilot", "judge")
    for order in (links, links[::-1]):
        sketch = Sketch(dict.fromkeys(names, ("domain",)), (("judge", "user", "thing", "get", "allow"),), order)
        told = explained(sketch.index(), ["clerk"], GET_THING)
        assert told.decided_by is not None
        (path,) = told.decided_by.paths
        assert [line.text for line in path.inherits] == ["g, clerk, baker", "g, baker, judge"]


def test_roles_that_are_not_bound_where_it_was_asked_are_compared_where_they_count() -> None:
    """What an owner may do in its own scope is no part of what it may do in the whole domain."""
    rules = (
        ("owner", "user", "thing", "get", "allow"),
        ("clerk", "domain", "thing", "get", "allow"),
        ("clerk", "user", "thing", "get", "allow"),
        ("clerk", "user", "thing", "purge", "allow"),
    )
    index = Sketch({"clerk": ("domain",)}, rules).index()
    held = [CountingRole(role="owner", scope="user:1", implied=True)]
    places = {ScopeType.ADMIN: "admin", ScopeType.DOMAIN: "domain:7", ScopeType.USER: "user:1"}
    told = explain(index, held, Permission("user", "thing", "purge"), principal="user:1", scope="user:1", places=places)
    line, binding = told.grants
    assert (line.line, line.file) == ("p, owner, user, thing, purge, allow", "user.csv")
    assert binding.bound_in == "domain:7"
    assert [str(cell) for cell in binding.gains] == ["domain:thing:get", "user:thing:get", "user:thing:purge"]


def test_nothing_is_proposed_for_the_servers_own_principals_and_who_is_nobody_yet() -> None:
    index = Sketch({"clerk": ("admin",)}, (("clerk", "admin", "thing", "get", "allow"),)).index()
    for principal in ("system:sweeper", "anonymous"):
        held = stated(principal, index)
        told = explain(index, held, Permission("admin", "thing", "get"), principal=principal)
        assert told.grants == []
        assert [note.kind for note in told.notes] == [NoteKind.SERVERS_OWN]


def test_users_are_counted_who_would_be_let_in_and_not_those_who_were_or_stay_out() -> None:
    rules = (("guard", "domain", "thing", "get", "deny"), ("baker", "domain", "thing", "get", "allow"))
    names = ("clerk", "guard", "baker", "pilot")
    sketch = Sketch(dict.fromkeys(names, ("domain",)), rules, (("pilot", "clerk"),))
    index, cell = sketch.index(), Permission("domain", "thing", "get")
    told = explained(index, ["clerk"], cell)
    here = [
        Holders(frozenset({"clerk"}), 3),
        Holders(frozenset({"pilot"}), 5),
        Holders(frozenset({"clerk", "guard"}), 100),
        Holders(frozenset({"clerk", "baker"}), 1000),
    ]
    line = "p, clerk, domain, thing, get, allow"
    counted = with_users(told.grants, here, {line: 1200}, index, told.cell)
    assert [grant.kind for grant in counted] == [GrantKind.BINDING, GrantKind.LINE], "what changes more comes later"
    users = counted[1].users
    assert users is not None
    assert (users.here, users.anywhere, counted[1].size) == (8, 1200, 1201)


# -- what would have to go ---------------------------------------------------------------------------------------------


@MANY
@given(sketches(), st.data())
def test_without_the_denies_that_are_named_none_is_left_and_what_is_foretold_decides(
    sketch: Sketch, data: st.DataObject
) -> None:
    index = sketch.index()
    asked = [(roles, cell) for roles in sets_of(sketch) for cell in ORDERED_CELLS]
    rules = {each: index.rule_for(*each) for each in asked}
    denied = [each for each in asked if (rule := rules[each]) is not None and not rule.allows]
    roles, cell = data.draw(st.sampled_from(denied or asked))
    told = explained(index, roles, cell)
    assert (told.lift is not None) is ((roles, cell) in denied)
    if told.lift is None:
        return
    assert told.lift.denies[0] == told.decided_by
    assert all(deny.verdict is Verdict.DENY for deny in told.lift.denies)
    after = index_of(without(sketch.source(), [deny.rule for deny in told.lift.denies]))
    deciding = after.rule_for(roles, cell)
    assert (deciding.place if deciding else None) == (told.lift.rule.place if told.lift.rule else None)
    assert after.decide(roles, cell).allowed is (told.lift.then is Verdict.ALLOW)
    for kept in told.lift.denies:  # each of them has to go
        rest = index_of(without(sketch.source(), [deny.rule for deny in told.lift.denies if deny != kept]))
        assert rest.decide(roles, cell).rule == kept.rule.place


# -- what it says besides ----------------------------------------------------------------------------------------------


def test_a_role_that_is_held_nowhere_near_and_one_that_is_not_declared_are_told() -> None:
    index = Sketch({"clerk": ("project",)}).index()
    told = explained(index, ["clerk", "ghost"], Permission("domain", "thing", "get"))
    assert [note.kind for note in told.notes] == [NoteKind.NOT_HELD_HERE, NoteKind.UNKNOWN_ROLE]
    assert told.notes[0].sentence.startswith("clerk can be held in scopes of type project,")
    assert [grant.role for grant in told.grants] == [], "a line for a role that never counts there would mean nothing"


def test_what_the_declaration_of_an_action_refuses_beyond_the_rules_is_told_once_it_is_allowed() -> None:
    rules = (("clerk", "admin", "thing", "get", "allow"),)
    index, cell = Sketch({"clerk": ("admin",)}, rules).index(), Permission("admin", "thing", "get")
    spec: Spec = ActionSpec(
        ScopeType.ADMIN,
        Entity("thing", "things"),
        GET,
        Nothing,
        Nothing,
        "Show a thing.",
        Effect.NONE,
        uses={"crate_id": Use("crate", "lookup")},
        controls_principal=Controls(frozenset({"secret", "email"})),
    )
    told = explain(index, [CountingRole(role="clerk")], cell, principal="clerk", specs=[spec, spec])
    assert [note.kind for note in told.notes] == [NoteKind.REACH, NoteKind.USES]
    assert told.notes[0].sentence.startswith("A change of email, secret is refused all the same")
    assert "`crate_id`" in told.notes[1].sentence
    assert explain(index, [], cell, principal="nobody", specs=[spec]).notes == []


def test_the_vocabulary_of_these_tests_fits_into_an_answer() -> None:
    assert len(CELLS) <= CELLS_AT_MOST
    assert all(one != other for one, other in pairwise(ORDERED_CELLS))
