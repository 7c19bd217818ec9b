"""Replay: what was decided once is decided again. Under the same policy nothing is different; under another, exactly
what that one decides otherwise."""

from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.authorization.recorded import NoRecord, Reading
from actions.authorization.replay import Turn
from actions.vocabulary import Permission
from tests.policy.recording import ACTIONS, START, Record, decisions, logs, record, replayed
from tests.policy.support import Sketch, rules, sketches

UNHURRIED = settings(deadline=None, max_examples=30)
GET = Permission("domain", "thing", "get")
PURGE = Permission("domain", "thing", "purge")
CLERKS = Sketch(
    {"clerk": ("domain",), "guard": ("domain",)},
    (("clerk", "domain", "thing", "get", "allow"), ("guard", "domain", "thing", "purge", "allow")),
)
NO_CLERKS = Sketch(CLERKS.roles, (("guard", "domain", "thing", "get", "allow"), *CLERKS.rules[1:]))
INDEX, OTHER = CLERKS.index(), NO_CLERKS.index()


@UNHURRIED
@given(sketches(), st.data())
def test_under_the_same_policy_nothing_is_different(sketch: Sketch, data: st.DataObject) -> None:
    records = data.draw(logs(sketch))
    found = replayed(records, sketch.index())
    assert not found.differs
    assert (found.changes, found.unknown) == ([], [])
    assert found.same == found.reach.decisions == len(decisions(records))


@UNHURRIED
@given(sketches(), st.data())
def test_under_another_policy_exactly_that_is_different_which_it_decides_otherwise(
    sketch: Sketch, data: st.DataObject
) -> None:
    names = tuple(sketch.roles)
    other = Sketch(sketch.roles, (*sketch.rules[1:], data.draw(rules(names)), data.draw(rules(names))), sketch.links)
    expected: Counter[tuple[Any, ...]] = Counter()
    records = data.draw(logs(sketch))
    for decided in decisions(records):
        now = _read_plainly(other, decided.held, ACTIONS[decided.action], decided.used)
        if now is not decided.allowed:
            used = ":".join(decided.used) if decided.used else None
            expected[(Turn.GAIN if now else Turn.LOSS, decided.principal, decided.action, used, decided.scope)] += 1
    found = replayed(records, other.index())
    assert {
        (change.turn, change.principal, change.action, change.uses, change.scope): change.times
        for change in found.changes
    } == expected
    assert found.lost + found.gained == expected.total()
    assert found.same == found.reach.decisions - expected.total()


def _read_plainly(
    sketch: Sketch,
    held: tuple[tuple[str, tuple[str, ...]], ...],
    cell: Permission,
    used: tuple[str, str] | None,
) -> bool:
    """What the rules say, read one by one: of a used thing, an allow in some scope and a deny in none."""
    if used is None:
        return sketch.allows(held[0][1], cell)
    places = [(Permission(scope, *used), sketch.ancestors(roles)) for scope, roles in held]
    denied = any(
        rule[4] == "deny"
        and rule[0] in theirs
        and all(
            said in ("*", asked)
            for said, asked in zip(rule[1:4], (place.scope, place.entity, place.operation), strict=True)
        )
        for rule in sketch.rules
        for place, theirs in places
    )
    return not denied and any(sketch.allows(theirs, place) for place, theirs in places)


def test_a_change_tells_who_what_how_often_and_by_which_rules() -> None:
    hours = [START + timedelta(hours=hour) for hour in range(3)]
    found = replayed(
        [
            record(INDEX, GET, ["clerk", "owner"], at=hours[1]),
            record(INDEX, GET, ["clerk"], at=hours[0]),
            record(INDEX, GET, ["guard"], at=hours[2], who="user:dana"),
            record(INDEX, PURGE, ["guard"], who="user:dana"),
        ],
        OTHER,
    )
    loss, gain = found.changes
    assert (loss.turn, loss.principal, loss.action, loss.times) == (Turn.LOSS, "user:mia", "domain_get_thing", 2)
    assert (loss.first, loss.last, loss.roles) == (hours[0], hours[1], ["clerk", "owner"])
    assert (loss.then.rule, loss.then.policy, loss.now) == ("domain.csv:2", INDEX.digest, None)
    assert (gain.turn, gain.principal, gain.times, gain.then.rule) == (Turn.GAIN, "user:dana", 1, None)
    assert gain.now is not None
    assert gain.now.text == "p, guard, domain, thing, get, allow"
    assert (found.lost, found.gained, found.same, found.policy) == (2, 1, 1, OTHER.digest)
    assert (found.reach.first, found.reach.last, found.reach.records) == (START, hours[2], 4)


def test_changes_that_are_not_listed_are_counted() -> None:
    records = [record(INDEX, GET, ["clerk"], who=f"user:{number}") for number in range(5)]
    found = replayed(records, OTHER, at_most=2)
    assert (len(found.changes), found.more, found.lost) == (2, 3, 5)


def test_an_action_that_is_no_more_is_told_and_not_dropped() -> None:
    gone = record(INDEX, GET, ["clerk"], action="domain_fly_thing")
    found = replayed([gone, gone], OTHER)
    assert [(each.action, each.times) for each in found.unknown] == [("domain_fly_thing", 2)]
    assert not found.differs
    unheard = record(INDEX, GET, ["guard"], uses=[("ghost", "get", (("domain", frozenset({"clerk"})),))])
    assert [each.action for each in replayed([unheard], INDEX).unknown] == ["domain_get_thing (ghost:get)"]


def test_what_an_input_named_is_decided_again_where_it_lies() -> None:
    held = (("project", frozenset({"clerk"})), ("domain", frozenset({"clerk"})))
    found = replayed([record(INDEX, PURGE, ["guard"], uses=[("thing", "get", held)])], OTHER)
    assert (found.reach.decisions, found.reach.unreplayable) == (2, 0)
    (change,) = found.changes
    assert (change.uses, change.scope, change.turn) == ("thing:get", "project", Turn.LOSS)


def test_an_older_record_that_does_not_say_with_which_roles_a_thing_was_decided_is_told() -> None:
    old = {"field": "f", "entity": "thing", "id": "1", "allowed": True, "rule": "domain.csv:2"}
    missing = {**old, "allowed": False, "rule": None}
    found = replayed([record(INDEX, PURGE, ["guard"]) | {"uses": [old, missing]}], OTHER)
    assert (found.reach.unreplayable, found.reach.decisions) == (1, 1)


def test_a_thing_that_was_not_there_was_not_decided() -> None:
    missing = {"field": "f", "entity": "thing", "id": "1", "operation": "get", "held": None}
    found = replayed([record(INDEX, PURGE, ["guard"]) | {"uses": [{**missing, "allowed": False, "rule": None}]}], OTHER)
    assert (found.reach.unreplayable, found.reach.decisions) == (0, 1)


@pytest.mark.parametrize("phase", ["outcome", "settled"])
def test_a_phase_that_repeats_a_decision_is_no_second_one(phase: str) -> None:
    repeated = record(INDEX, GET, ["clerk"], phase=phase, uses=[("thing", "get", (("domain", frozenset()),))])
    found = replayed([repeated], OTHER)
    assert (found.reach.decisions, found.reach.undecided, found.differs) == (0, 1, False)


def test_a_stream_is_decided_until_it_closes_and_what_opened_it_named_is_told_once() -> None:
    use = ("thing", "get", (("domain", frozenset({"clerk"})),))
    opened, closed = (record(INDEX, GET, ["clerk"], phase=phase, uses=[use]) for phase in ("opened", "closed"))
    assert [decided.used for decided in decisions([opened, closed])] == [None, ("thing", "get"), None]


def test_an_item_of_a_batch_stands_under_the_one_decision_and_has_its_own_about_what_it_names() -> None:
    use = ("thing", "get", (("domain", frozenset({"clerk"})),))
    item = record(INDEX, PURGE, ["guard"], batch={"id": "1", "place": 0}, uses=[use])
    whole = record(INDEX, PURGE, ["guard"], batch={"mode": "atomic", "items": 1})
    assert [decided.used for decided in decisions([whole, item])] == [None, ("thing", "get")]


def test_what_no_rule_decided_is_counted_apart() -> None:
    found = replayed([record(INDEX, GET, ["clerk"], decision=None)], OTHER)
    assert (found.reach.records, found.reach.decisions, found.reach.undecided) == (1, 0, 1)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_what_is_no_record_is_refused_and_never_a_crash(data: st.DataObject) -> None:
    held = (("domain", frozenset({"clerk"})),)
    good = record(INDEX, GET, ["clerk"], uses=[("thing", "get", held)], batch={"mode": "atomic"})
    spoilt = _spoilt(good, data)
    with suppress(NoRecord):
        found = Reading().line(spoilt)
        assert replayed([spoilt], OTHER).reach.decisions == len(found)


def _spoilt(good: Record, data: st.DataObject) -> Any:
    """A record with one part, at any depth, replaced or taken away."""
    place: Any = good
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return good
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and data.draw(st.booleans()):
            place = place[key]
            continue
        if isinstance(place, dict) and data.draw(st.booleans()):
            del place[key]
        else:
            place[key] = data.draw(_JSON)
        return good


def test_a_record_without_a_time_or_with_a_decision_of_another_form_is_refused() -> None:
    good = record(INDEX, GET, ["clerk"])
    for at in (None, 7, "yesterday", "2026-01-01T00:00:00"):
        with pytest.raises(NoRecord, match="time `at`"):
            Reading().line({**good, "at": at})
    spoilt: tuple[Record, ...] = (
        {"allowed": "perhaps"},
        {"roles": [{}]},
        {"roles": "clerk"},
        {"rule": 7},
        {"policy": None},
    )
    for part in spoilt:
        with pytest.raises(NoRecord, match="of another form"):
            Reading().line({**good, "decision": {**good["decision"], **part}})
    no_records: tuple[object, ...] = (None, [], "x", 3)
    for whole in no_records:
        with pytest.raises(NoRecord):
            Reading().line(whole)
