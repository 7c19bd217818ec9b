"""What nobody needed can be taken away, and nothing that was allowed is refused: that is what `unused` promises."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from actions.authorization.usage import Standing, Unused, Versions, unused, words_in
from actions.directory import SYSTEM_ROLES
from actions.vocabulary import Permission
from tests.policy.recording import ACTIONS, START, Record, decisions, logs, record, replayed, tallied
from tests.policy.support import Sketch, sketches

UNHURRIED = settings(deadline=None, max_examples=30)
GET = Permission("domain", "thing", "get")
PURGE = Permission("domain", "thing", "purge")
ROLES = {"clerk": ("domain",), "guard": ("domain",)}
RULES = (
    ("clerk", "domain", "thing", "get", "allow"),
    ("guard", "domain", "thing", "get", "allow"),
    ("guard", "domain", "thing", "purge", "allow"),
    ("clerk", "domain", "crate", "get", "deny"),
)
SKETCH = Sketch(ROLES, RULES)


def asked(
    records: list[Record],
    sketch: Sketch = SKETCH,
    *,
    versions: Versions | None = None,
    bindings: dict[str, int] | None = None,
) -> Unused:
    tally, reach = tallied(records)
    return unused(sketch.index(), tally, reach, ACTIONS, versions=versions or {}, bindings=bindings)


def standings(found: Unused) -> dict[str, Standing]:
    return {idle.rule.text: idle.standing for idle in found.rules}


@UNHURRIED
@given(sketches(), st.data())
def test_without_the_rules_that_decided_nothing_all_is_decided_as_it_was(sketch: Sketch, data: st.DataObject) -> None:
    records = data.draw(logs(sketch))
    found = asked(records, sketch)
    allows = (Standing.UNUSED, Standing.SHADOWED, Standing.RELIED_ON)
    idle = {tuple(text.removeprefix("p, ").split(", ")) for text, how in standings(found).items() if how in allows}
    left = replace(sketch, rules=tuple(rule for rule in sketch.rules if rule not in idle))
    assert not replayed(records, left.index()).differs


@UNHURRIED
@given(sketches(), st.data())
def test_without_a_role_that_nobody_needed_nothing_is_refused_that_was_allowed(
    sketch: Sketch, data: st.DataObject
) -> None:
    records = data.draw(logs(sketch))
    idle = {each.role for each in asked(records, sketch).roles}
    for role in sketch.roles:
        refused = [
            decided
            for decided in decisions(records)
            if decided.allowed and not _allowed(sketch, decided.held, role, ACTIONS[decided.action], decided.used)
        ]
        assert (role in idle) is not bool(refused), role


def _allowed(
    sketch: Sketch,
    held: tuple[tuple[str, tuple[str, ...]], ...],
    without: str,
    cell: Permission,
    used: tuple[str, str] | None,
) -> bool:
    """What was allowed stays so without a role if some scope still allows it: taking a role away adds no deny."""
    cells = [(Permission(scope, *used) if used else cell, set(roles) - {without}) for scope, roles in held]
    return any(sketch.allows(roles, place) for place, roles in cells)


@UNHURRIED
@given(sketches())
def test_a_shadowed_rule_changes_no_answer(sketch: Sketch) -> None:
    found = asked([], sketch)
    index = sketch.index()
    for text, how in standings(found).items():
        if how is Standing.SHADOWED:
            words = tuple(text.removeprefix("p, ").split(", "))
            without = list(sketch.rules)
            del without[max(number for number, rule in enumerate(without) if rule == words)]
            other = replace(sketch, rules=tuple(without)).index()
            for role in sketch.roles:
                for scope in ("admin", "domain", "project", "user"):
                    held = frozenset({role})
                    assert index.allowed_cells(held, scope) == other.allowed_cells(held, scope), text


def test_a_deny_that_never_fired_is_told_apart_from_a_rule_that_is_unused() -> None:
    index = SKETCH.index()
    assert standings(asked([record(index, GET, ["clerk", "guard"])])) == {
        "p, guard, domain, thing, get, allow": Standing.UNUSED,
        "p, guard, domain, thing, purge, allow": Standing.UNUSED,
        "p, clerk, domain, crate, get, deny": Standing.SILENT_DENY,
    }
    refused = record(index, Permission("domain", "crate", "get"), ["clerk"])
    assert "p, clerk, domain, crate, get, deny" not in standings(asked([refused]))


def test_denies_alone_are_nothing_to_take_away() -> None:
    only = Sketch({"clerk": ()}, (("clerk", "domain", "crate", "get", "deny"),))
    found = asked([], only)
    assert standings(found) == {"p, clerk, domain, crate, get, deny": Standing.SILENT_DENY}
    assert found.found, "nobody needed the role"
    assert not found.model_copy(update={"roles": []}).found


def test_what_the_server_relies_on_is_told_apart() -> None:
    sketch = Sketch(
        {}, ((SYSTEM_ROLES[0], "admin", "thing", "get", "allow"), ("anonymous", "admin", "thing", "get", "allow"))
    )
    assert set(standings(asked([], sketch)).values()) == {Standing.RELIED_ON}
    assert not {each.role for each in asked([], sketch).roles} & {*SYSTEM_ROLES, "anonymous", "owner"}


def test_a_rule_that_a_broader_one_covers_is_told_to_be_shadowed_and_by_which() -> None:
    sketch = Sketch(
        {"clerk": ("admin",), "guard": ("domain",)},
        (("clerk", "*", "*", "*", "allow"), ("clerk", "domain", "thing", "get", "allow"), *RULES[1:3]),
        (("guard", "clerk"),),
    )
    found = {idle.rule.text: idle for idle in asked([], sketch).rules}
    shadowed = {text for text, idle in found.items() if idle.standing is Standing.SHADOWED}
    assert shadowed == set(found) - {"p, clerk, *, *, *, allow"}
    by = found["p, guard, domain, thing, get, allow"].by
    assert by is not None
    assert by.text == "p, clerk, *, *, *, allow"


def test_an_allow_under_a_deny_of_what_its_role_inherits_is_shadowed() -> None:
    sketch = Sketch(
        ROLES,
        (("guard", "domain", "thing", "get", "allow"), ("clerk", "domain", "thing", "get", "deny")),
        (("guard", "clerk"),),
    )
    assert standings(asked([], sketch))["p, guard, domain, thing, get, allow"] is Standing.SHADOWED


def test_a_rule_is_the_same_rule_in_an_older_version_whatever_its_line() -> None:
    old = replace(SKETCH, rules=(("guard", "domain", "crate", "get", "allow"), *RULES[2:], *RULES[:2]))
    before = old.source()
    texts = {name: content.decode() for name, content in before.files.items()}
    records = [record(old.index(), PURGE, ["guard"])]
    found = asked(records, versions={before.digest: words_in(texts)})
    assert "p, guard, domain, thing, purge, allow" not in standings(found)
    assert found.redecided == 0
    since = {idle.rule.text: idle.in_force_since for idle in found.rules}
    assert since["p, guard, domain, thing, get, allow"] == START
    newer = replace(SKETCH, rules=(*RULES, ("guard", "domain", "crate", "create", "allow")))
    never = {
        idle.rule.text: idle.in_force_since
        for idle in asked(records, newer, versions={before.digest: words_in(texts)}).rules
    }
    assert never["p, guard, domain, crate, create, allow"] is None


def test_what_a_version_decided_whose_text_is_gone_is_decided_again_and_told() -> None:
    old = replace(SKETCH, rules=RULES[1:])
    found = asked([record(old.index(), PURGE, ["guard"])])
    assert found.redecided == 1
    assert "p, guard, domain, thing, purge, allow" not in standings(found)


def test_a_role_is_needed_if_without_it_something_had_been_refused() -> None:
    index = SKETCH.index()
    late = START + timedelta(days=2)
    both = [record(index, GET, ["clerk", "guard"], at=late)]
    assert [(each.role, each.counted, each.last) for each in asked(both).roles if each.role in ROLES] == [
        ("clerk", 1, late),
        ("guard", 1, late),
    ]
    needed = asked([*both, record(index, PURGE, ["clerk", "guard"])], bindings={"clerk": 3})
    idle = {each.role: each.bindings for each in needed.roles}
    assert idle == {"superadmin": 0, "clerk": 3}


def test_a_tally_grows_with_what_differs_and_not_with_who_asked() -> None:
    index = SKETCH.index()
    tally, reach = tallied(record(index, GET, ["clerk"], who=f"user:{number}") for number in range(50))
    ((decided, times),) = tally.items()
    assert (decided.principal, times.count, reach.decisions) == ("", 50, 50)


def test_of_two_lines_that_say_the_same_the_second_is_shadowed_and_not_both() -> None:
    twice = replace(SKETCH, rules=(RULES[0], RULES[0]))
    assert [idle.standing for idle in asked([], twice).rules] == [Standing.UNUSED, Standing.SHADOWED]
