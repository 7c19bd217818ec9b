"""The difference of two policies: exact for every set of roles, each cell under the line that made it change."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from uuid import UUID

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from actions.authorization.answers import Verdict
from actions.authorization.difference import difference
from actions.authorization.difference_answer import DifferenceEffect, DifferenceKind, PolicyDifference, bounded
from actions.authorization.index import PolicyIndex
from actions.authorization.touched import FIRST, Holders, Point, Touches
from actions.vocabulary import Permission, ScopeType
from tests.policy.support import CELLS, ORDERED_CELLS, Sketch, index_of, rules, sketches

UNHURRIED = settings(deadline=None, max_examples=40)
Verdicts = Mapping[tuple[str, Permission], Verdict]


@st.composite
def edits(draw: st.DrawFn) -> tuple[Sketch, Sketch]:
    """Two policies: mostly one and what an edit made of it, sometimes two that have nothing to do with each other."""
    old = draw(sketches())
    if draw(st.integers(0, 4)) == 0:
        return old, draw(sketches())
    names = tuple(old.roles)
    upwards = [(low, high) for number, low in enumerate(names) for high in names[number + 1 :]]
    kept = [rule for rule in old.rules if draw(st.integers(0, 3))]
    turned = [
        (*rule[:-1], "deny" if rule[-1] == "allow" else "allow") for rule in old.rules if not draw(st.integers(0, 5))
    ]
    more = draw(st.lists(rules((*names, "owner")), max_size=3))
    links = [link for link in old.links if draw(st.integers(0, 3))]
    links += draw(st.lists(st.sampled_from(upwards), max_size=2)) if upwards else []
    return old, replace(old, rules=(*kept, *turned, *more), links=tuple(dict.fromkeys(links)))


def every_set(*sketches: Sketch) -> Iterator[frozenset[str]]:
    names = sorted({"owner", *(name for sketch in sketches for name in sketch.roles)})
    return (frozenset(some) for size in range(len(names) + 1) for some in combinations(names, size))


def reads(sketch: Sketch, roles: frozenset[str], cell: Permission) -> bool:
    """What the plain reading of a policy is for those of the roles that it knows."""
    return sketch.allows(roles & {"owner", *sketch.roles}, cell)


def verdicts(index: PolicyIndex) -> dict[tuple[str, Permission], Verdict]:
    return {
        (role, cell): Verdict(rule.effect) if (rule := index.rule_for(frozenset({role}), cell)) else Verdict.NONE
        for role in index.roles
        for cell in CELLS
    }


def effects(found: PolicyDifference) -> Iterator[DifferenceEffect]:
    return (effect for group in found.groups for effect in group.effects)


def applied(found: PolicyDifference, before: Verdicts) -> Verdicts:
    """What the old version says of each role, with what the difference says."""
    after = dict(before)
    for effect in effects(found):
        for role in effect.roles:
            for cell in effect.cells:
                key = (role, Permission(cell.scope, cell.entity, cell.operation))
                assert before.get(key, Verdict.NONE) is effect.before
                assert after.get(key, Verdict.NONE) is effect.before, "a cell of a role is told of once"
                after[key] = effect.after
    return after


def allows(told: Verdicts, roles: frozenset[str], cell: Permission) -> bool:
    return {told.get((role, cell), Verdict.NONE) for role in roles} - {Verdict.NONE} == {Verdict.ALLOW}


@settings(deadline=None, max_examples=80)
@given(edits())
def test_the_old_answers_and_the_difference_give_the_new_answer_for_every_set_of_roles(
    pair: tuple[Sketch, Sketch],
) -> None:
    old, new = (sketch.index() for sketch in pair)
    told = applied(difference(old, new), verdicts(old))
    for roles in every_set(*pair):
        for cell in ORDERED_CELLS:
            assert allows(told, roles, cell) is reads(pair[1], roles, cell), (roles, cell)


@UNHURRIED
@given(edits())
def test_there_is_no_difference_exactly_if_every_set_of_roles_is_answered_alike(pair: tuple[Sketch, Sketch]) -> None:
    found = difference(*(sketch.index() for sketch in pair))
    same = all(
        reads(pair[0], roles, cell) is reads(pair[1], roles, cell)
        for roles in every_set(*pair)
        for cell in ORDERED_CELLS
    )
    denies_alone = all(effect.kind in (DifferenceKind.BARRED, DifferenceKind.UNBARRED) for effect in effects(found))
    event(f"{same=}, {denies_alone=}")
    if not found.groups:
        assert same
    elif not denies_alone:
        assert not same
    # A deny of what nobody is allowed changes no answer yet, and is told all the same: with the next allow it would.
    guarded = {**dict.fromkeys([*pair[0].roles, *pair[1].roles], ("admin",)), "anybody": ("admin",)}
    wide = [
        Sketch({**guarded, **sketch.roles}, (*sketch.rules, ("anybody", "*", "*", "*", "allow")), sketch.links).index()
        for sketch in pair
    ]
    same = (
        all(
            wide[0].decide(roles | {"anybody"}, cell).allowed is wide[1].decide(roles | {"anybody"}, cell).allowed
            for roles in every_set(*pair)
            for cell in ORDERED_CELLS
        )
        and same
    )
    assert same is (not found.groups)


def places(sketch: Sketch) -> set[str]:
    """``file:line`` of every line of a policy that says something."""
    files = sketch.source().files
    return {
        f"{name}:{number}"
        for name, content in files.items()
        for number, line in enumerate(content.decode().split("\n"), 1)
        if name.endswith((".csv", ".yaml")) and line and not line.startswith("#")
    }


def line_at(sketch: Sketch, place: str) -> str:
    name, _, number = place.partition(":")
    return sketch.source().files[name].decode().split("\n")[int(number) - 1]


@UNHURRIED
@given(edits())
def test_a_cause_is_a_line_that_the_other_version_does_not_have(pair: tuple[Sketch, Sketch]) -> None:
    found = difference(*(sketch.index() for sketch in pair))
    causes = [group.cause for group in found.groups]
    assert len(set(causes)) == len(causes)
    for cause in [*causes, *found.idle]:
        here, there = pair if cause.edit == "removed" else pair[::-1]
        said = line_at(here, cause.line.place)
        assert said.startswith(cause.line.text)
        assert said not in {line_at(there, place) for place in places(there)} or cause.line.file == "roles.yaml"
        if cause.before is not None:
            assert line_at(pair[0], cause.before.place) == cause.before.text
            assert {cause.before.text.rpartition(", ")[2], cause.line.text.rpartition(", ")[2]} == {"allow", "deny"}


@UNHURRIED
@given(edits())
def test_without_a_difference_every_changed_line_is_idle(pair: tuple[Sketch, Sketch]) -> None:
    found = difference(*(sketch.index() for sketch in pair))
    said = [{line_at(sketch, place) for place in places(sketch) if ".csv" in place} for sketch in pair]
    one_sided = said[0] ^ said[1]
    told = {line.text for cause in found.idle for line in (cause.line, cause.before) if line}
    assert told <= one_sided
    if not found.groups:
        assert told == one_sided


@UNHURRIED
@given(edits())
def test_backwards_the_difference_is_its_opposite(pair: tuple[Sketch, Sketch]) -> None:
    old, new = (sketch.index() for sketch in pair)
    there, back = difference(old, new), difference(new, old)
    assert told_of(back) == {(after, before, role, cell) for before, after, role, cell in told_of(there)}
    mirrored = (back.totals.lost, back.totals.gained, back.totals.unbarred, back.totals.barred)
    assert (there.totals.gained, there.totals.lost, there.totals.barred, there.totals.unbarred) == mirrored
    assert (there.widens, there.narrows) == (back.narrows, back.widens)


def told_of(found: PolicyDifference) -> set[tuple[str, str, str, str]]:
    return {
        (effect.before, effect.after, role, str(cell))
        for effect in effects(found)
        for role in effect.roles
        for cell in effect.cells
    }


# -- the line that made it so --

ROLES = {"clerk": ("domain",), "guard": ("domain",), "judge": ("admin",)}
PLAIN = Sketch(ROLES, (("guard", "domain", "thing", "get", "allow"), ("judge", "admin", "thing", "get", "deny")))


def summary(old: Sketch, new: Sketch) -> list[str]:
    """A line for each effect, such as a person would write."""
    found = difference(old.index(), new.index())
    return [
        f"{group.cause.edit} {group.cause.line.place} {group.cause.line.text}: {'+'.join(effect.roles)} {effect.kind} "
        f"{effect.cell_count}"
        for group in found.groups
        for effect in group.effects
    ]


def test_a_wildcard_is_one_line_however_many_cells_it_grants() -> None:
    rule = ("clerk", "*", "*", "*", "allow")
    assert summary(PLAIN, replace(PLAIN, rules=(*PLAIN.rules, rule))) == [
        f"added superadmin.csv:3 p, clerk, *, *, *, allow: clerk gained {len(CELLS)}"
    ]


def test_what_is_inherited_stands_under_the_line_that_is_new() -> None:
    linked = replace(PLAIN, links=(("clerk", "guard"),))
    assert summary(PLAIN, linked) == ["added domain.csv:3 g, clerk, guard: clerk gained 1"]
    assert summary(linked, PLAIN) == ["removed domain.csv:3 g, clerk, guard: clerk lost 1"]
    more = replace(linked, rules=(*PLAIN.rules, ("guard", "domain", "crate", "get", "allow")))
    assert summary(linked, more) == ["added domain.csv:3 p, guard, domain, crate, get, allow: clerk+guard gained 1"]
    assert summary(PLAIN, more) == [
        "added domain.csv:3 p, guard, domain, crate, get, allow: guard gained 1",
        "added domain.csv:4 g, clerk, guard: clerk gained 2",
    ]


def test_a_role_that_is_new_or_gone_is_one_cause() -> None:
    ruled = (*PLAIN.rules, ("baker", "domain", "crate", "get", "allow"), ("baker", "domain", "crate", "purge", "deny"))
    grown = Sketch({**ROLES, "baker": ("domain",)}, ruled, (("baker", "guard"),))
    line = len(grown.source().files["roles.yaml"].splitlines())
    assert summary(PLAIN, grown) == [
        f"added roles.yaml:{line} baker:: baker gained 2",
        f"added roles.yaml:{line} baker:: baker barred 1",
    ]
    assert summary(grown, PLAIN) == [
        f"removed roles.yaml:{line} baker:: baker lost 2",
        f"removed roles.yaml:{line} baker:: baker unbarred 1",
    ]
    (role,) = difference(PLAIN.index(), grown.index()).roles
    assert (role.role, role.edit, role.before, role.after) == ("baker", "added", [], ["domain"])


def test_a_rule_turned_into_its_opposite_is_one_changed_line() -> None:
    turned = replace(PLAIN, rules=(("guard", "domain", "thing", "get", "deny"), PLAIN.rules[1]))
    (group,) = difference(PLAIN.index(), turned.index()).groups
    assert (group.cause.edit, group.cause.line.text) == ("changed", "p, guard, domain, thing, get, deny")
    assert group.cause.before is not None
    assert group.cause.before.text == "p, guard, domain, thing, get, allow"
    assert [(effect.before, effect.after) for effect in group.effects] == [("allow", "deny")]
    assert summary(turned, PLAIN) == ["changed domain.csv:2 p, guard, domain, thing, get, allow: guard gained 1"]


def test_a_deny_that_goes_is_the_cause_of_the_allow_that_it_hid() -> None:
    wide = ("judge", "*", "*", "*", "allow")
    hidden, open_ = replace(PLAIN, rules=(*PLAIN.rules, wide)), replace(PLAIN, rules=(PLAIN.rules[0], wide))
    assert summary(hidden, open_) == ["removed superadmin.csv:2 p, judge, admin, thing, get, deny: judge gained 1"]
    both = replace(PLAIN, rules=(PLAIN.rules[0], wide))
    assert f"added superadmin.csv:2 p, judge, *, *, *, allow: judge gained {len(CELLS) - 1}" in summary(PLAIN, both)
    assert "added superadmin.csv:2 p, judge, *, *, *, allow: judge gained 1" in summary(PLAIN, both)


def test_where_a_role_may_be_held_is_a_difference_though_no_cell_changes() -> None:
    wider = replace(PLAIN, roles={**ROLES, "guard": ("domain", "project")})
    found = difference(PLAIN.index(), wider.index())
    assert (found.groups, found.is_empty, found.widens, found.narrows) == ([], False, True, False)
    (role,) = found.roles
    assert (role.role, role.edit, role.before, role.after) == ("guard", "changed", ["domain"], ["domain", "project"])
    back = difference(wider.index(), PLAIN.index())
    assert (back.widens, back.narrows) == (False, True)


def test_moving_repeating_and_explaining_lines_is_no_difference() -> None:
    moved = Sketch(dict(reversed(ROLES.items())), (*reversed(PLAIN.rules), PLAIN.rules[0]))
    found = difference(PLAIN.index(), moved.index())
    assert found.is_empty
    assert (found.idle, found.old == found.new) == ([], False)


def test_policies_of_two_vocabularies_are_not_compared() -> None:
    fewer = frozenset(cell for cell in CELLS if cell.entity == "thing")
    with pytest.raises(ValueError, match="vocabularies"):
        difference(PLAIN.index(), index_of(PLAIN.source(), fewer))


def test_a_difference_cut_short_says_so_and_counts_everything() -> None:
    wild = replace(PLAIN, rules=(*PLAIN.rules, ("clerk", "*", "*", "*", "allow"), ("judge", "*", "*", "*", "allow")))
    whole = difference(PLAIN.index(), wild.index())
    assert bounded(whole, groups=10, parts=1000) is not None
    assert bounded(whole, groups=10, parts=1000) == whole
    few = bounded(whole, groups=1, parts=1000)
    assert (len(few.groups), few.group_count, few.truncated) == (1, 2, True)
    short = bounded(whole, groups=10, parts=5)
    assert short.truncated
    (effect,) = short.groups[0].effects
    assert (len(effect.roles), len(effect.cells), effect.cell_count) == (1, 4, len(CELLS))
    assert short.totals == whole.totals


# -- whom it touches --

Holding = tuple[str, ...]
"""A role and the place where it is held: ``("clerk", "north", "mill")``; no place is the admin scope."""
LAND = {"north": ("mill", "port"), "south": ("yard",)}


@st.composite
def people(draw: st.DrawFn, names: list[str]) -> dict[UUID, tuple[str, tuple[Holding, ...]]]:
    """Users by id: the domain each lives in, and what it holds."""
    spots = [(), *((domain,) for domain in LAND), *((domain, one) for domain, some in LAND.items() for one in some)]
    held = st.lists(st.tuples(st.sampled_from(names), st.sampled_from(spots)), max_size=3, unique=True)
    return {
        UUID(int=number): (draw(st.sampled_from([*LAND])), tuple((role, *spot) for role, spot in draw(held)))
        for number in range(draw(st.integers(0, 15)))
    }


def roles_at(holdings: tuple[Holding, ...], *place: str) -> frozenset[str]:
    return frozenset(role for role, *held in holdings if tuple(held) == place[: len(held)])


def points_of(home: str, holdings: tuple[Holding, ...]) -> frozenset[Point]:
    kinds = (ScopeType.ADMIN, ScopeType.DOMAIN, ScopeType.PROJECT)
    held = {tuple(spot) for _, *spot in holdings}
    points = {Point(kinds[len(spot)], roles_at(holdings, *spot)) for spot in held}
    return frozenset({*points, Point(ScopeType.USER, roles_at(holdings, home) | {"owner"})})


def everywhere(home: str, holdings: tuple[Holding, ...]) -> Iterator[tuple[ScopeType, frozenset[str]]]:
    """Every place there is, with one of each kind in which nobody holds anything: its type, and the roles there."""
    yield ScopeType.ADMIN, roles_at(holdings)
    yield ScopeType.USER, roles_at(holdings, home) | {"owner"}
    for domain in (*LAND, "another"):
        yield ScopeType.DOMAIN, roles_at(holdings, domain)
        yield ScopeType.USER, roles_at(holdings, domain)
        for project in (*LAND.get(domain, ()), "another"):
            yield ScopeType.PROJECT, roles_at(holdings, domain, project)


@UNHURRIED
@given(edits(), st.data())
def test_the_users_touched_are_those_whom_some_decision_somewhere_treats_otherwise(
    pair: tuple[Sketch, Sketch], data: st.DataObject
) -> None:
    names = sorted({*pair[0].roles, *pair[1].roles})
    users = data.draw(people(names))
    old, new = (sketch.index() for sketch in pair)
    classes: dict[frozenset[Point], list[UUID]] = {}
    for key, (home, holdings) in users.items():
        classes.setdefault(points_of(home, holdings), []).append(key)
    holders = [Holders(points, len(keys), tuple(keys[:FIRST])) for points, keys in classes.items()]
    found = Touches(difference(old, new), old, new).with_users(holders)

    changed: dict[bool, dict[UUID, set[tuple[str, str]]]] = {True: {}, False: {}}
    for key, (home, holdings) in users.items():
        for scope_type, roles in everywhere(home, holdings):
            for cell in ORDERED_CELLS:
                answers = [index.decide(roles, cell).allowed for index in (old, new)]
                if cell.scope == scope_type and answers[0] is not answers[1]:
                    changed[answers[1]].setdefault(key, set()).update((role, str(cell)) for role in roles)

    assert found.users is not None
    for told, widens in ((found.users.gain, True), (found.users.lose, False)):
        assert (told.count, told.first) == (len(changed[widens]), sorted(changed[widens])[:FIRST])
    named: set[UUID] = set()
    for effect in effects(found):
        meant = {(role, str(cell)) for role in effect.roles for cell in effect.cells}
        touched = sorted(key for key, those in changed[effect.kind.widens].items() if those & meant)
        assert effect.users is not None
        assert (effect.users.count, effect.users.first) == (len(touched), touched[:FIRST])
        named.update(touched)
    assert named == {*changed[True], *changed[False]}, "each of them stands under a cause"
    assert all(Touches(found, old, new).roles & ({role for role, *_ in users[key][1]} | {"owner"}) for key in named)


def test_whoever_keeps_by_another_role_what_one_loses_is_not_touched() -> None:
    both = replace(PLAIN, rules=(*PLAIN.rules, ("clerk", "domain", "thing", "get", "allow")))
    old, new = both.index(), PLAIN.index()
    domain, user = ScopeType.DOMAIN, Point(ScopeType.USER, frozenset({"owner"}))
    clerk, keeper = UUID(int=1), UUID(int=2)
    holders = [
        Holders(frozenset({user, Point(domain, frozenset({"clerk"}))}), 1, (clerk,)),
        Holders(frozenset({user, Point(domain, frozenset({"clerk", "guard"}))}), 1, (keeper,)),
    ]
    found = Touches(difference(old, new), old, new).with_users(holders)
    assert found.users is not None
    assert (found.users.gain.count, found.users.lose.count, found.users.lose.first) == (0, 1, [clerk])
