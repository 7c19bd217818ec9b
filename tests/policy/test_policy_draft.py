"""The draft: it allows what was used and the policy allows; never what the policy refuses; and it could go live."""

from itertools import combinations
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from actions.authorization.check import check
from actions.authorization.draft import EXACT_AT_MOST, PolicyDraft, draft, fewest
from actions.authorization.rules import RULE_FILES
from actions.authorization.source import PolicySource, parse, read_folder
from actions.directory import SYSTEM_ROLES
from actions.entities import permissions_by_action, whole_vocabulary
from actions.vocabulary import Permission
from tests.policy.recording import ACTIONS, Record, decisions, logs, record, replayed, tallied
from tests.policy.support import CELLS, ORDERED_CELLS, Sketch, index_of, sketches

UNHURRIED = settings(deadline=None, max_examples=30)
GET = Permission("domain", "thing", "get")


def drafted(records: list[Record], sketch: Sketch) -> PolicyDraft:
    tally, reach = tallied(records)
    return draft(sketch.index(), sketch.source(), tally, reach, ACTIONS)


def source_of(made: PolicyDraft) -> PolicySource:
    return PolicySource({name: text.encode() for name, text in made.files.items()})


@UNHURRIED
@given(sketches(), st.data())
def test_it_allows_all_that_was_allowed_and_never_what_the_policy_refuses(sketch: Sketch, data: st.DataObject) -> None:
    records = data.draw(logs(sketch))
    made = drafted(records, sketch)
    source = source_of(made)
    parsed = parse(source, CELLS)
    assert parsed.errors == ()
    assert made.digest == source.digest
    assert (made.left_out, made.allows) == (0, sum(rule.allows for rule in parsed.rules))
    index, origin = index_of(source), sketch.index()
    assert replayed(records, index).lost == 0
    names = sorted(sketch.roles)
    for size in range(4):
        for some in combinations(names, size):
            for cell in ORDERED_CELLS:
                roles = frozenset(some)
                if index.decide(roles, cell).allowed:
                    assert origin.decide(roles, cell).allowed, (roles, cell)


@UNHURRIED
@given(sketches(), st.data())
def test_no_rule_for_what_was_done_can_be_spared_and_none_has_a_wildcard(sketch: Sketch, data: st.DataObject) -> None:
    # What an input named may be allowed in one of several scopes; what is done itself, by one cell alone.
    records = [{**each, "uses": []} for each in data.draw(logs(sketch))]
    source = source_of(drafted(records, sketch))
    for rule in parse(source, CELLS).rules:
        if rule.allows and rule.role in sketch.roles:
            assert not rule.is_wild
            text = source.files[rule.file].decode().split("\n")
            del text[rule.line - 1]
            less = PolicySource({**source.files, rule.file: "\n".join(text).encode()})
            assert replayed(records, index_of(less)).lost > 0, rule.text


@UNHURRIED
@given(st.lists(st.frozensets(st.sampled_from("abcdef"), min_size=1), max_size=6))
def test_the_fewest_roles_are_as_few_as_trying_all_would_find(wanted: list[frozenset[str]]) -> None:
    def hits(some: tuple[str, ...]) -> bool:
        return all(not each.isdisjoint(some) for each in wanted)

    least = min(size for size in range(7) if any(hits(some) for some in combinations("abcdef", size)))
    found = fewest(set(wanted), sorted)
    assert hits(tuple(found))
    assert len(found) == least


def test_where_there_are_too_many_roles_to_try_all_none_is_chosen_in_vain() -> None:
    many = [f"r{number:02}" for number in range(EXACT_AT_MOST + 4)]
    wanted = {frozenset(many[number : number + 3]) for number in range(0, len(many) - 2, 2)}
    found = fewest(wanted, sorted)
    assert all(not each.isdisjoint(found) for each in wanted)
    for role in found:
        assert any(each.isdisjoint(found - {role}) for each in wanted), role


def test_of_two_roles_that_would_do_the_one_is_granted_that_fewer_have() -> None:
    sketch = Sketch(
        {"clerk": ("domain",), "guard": ("domain",)},
        (("guard", "domain", "thing", "get", "allow"),),
        (("clerk", "guard"),),
    )
    index = sketch.index()
    clerks = drafted([record(index, GET, ["clerk"])], sketch)
    assert "p, clerk, domain, thing, get, allow" in clerks.files["domain.csv"]
    assert "g, clerk, guard" in clerks.files["domain.csv"]
    both = drafted([record(index, GET, ["clerk"]), record(index, GET, ["guard"])], sketch)
    assert "p, guard, domain, thing, get, allow" in both.files["domain.csv"]
    assert "p, clerk" not in both.files["domain.csv"]


def test_a_deny_is_kept_as_it_is_written_where_something_allowed_could_meet_it() -> None:
    sketch = Sketch(
        {"clerk": ("domain",), "guard": ("domain",)},
        (
            ("clerk", "domain", "thing", "get", "allow"),
            ("guard", "*", "thing", "*", "deny"),
            ("guard", "domain", "crate", "get", "deny"),
        ),
    )
    made = drafted([record(sketch.index(), GET, ["clerk"])], sketch)
    assert "p, guard, *, thing, *, deny" in made.files["superadmin.csv"]
    assert "crate" not in made.files["domain.csv"]
    assert made.denies == 1


def test_what_the_server_relies_on_is_kept_and_the_file_says_so() -> None:
    sketch = Sketch({}, tuple((role, "admin", "thing", "get", "allow") for role in (*SYSTEM_ROLES, "anonymous")))
    text = drafted([], sketch).files["superadmin.csv"]
    for role in (*SYSTEM_ROLES, "anonymous"):
        assert f"# The server itself relies on {role}: kept as it was, whether it was seen or not.\np, {role}," in text


def test_each_rule_says_how_often_it_was_used_and_when_last() -> None:
    sketch = Sketch({"clerk": ("domain",)}, (("clerk", "domain", "thing", "get", "allow"),))
    again = [record(sketch.index(), GET, ["clerk"]) for _ in range(3)]
    text = drafted(again, sketch).files["domain.csv"]
    assert "# 3 times, last on 2026-01-01\np, clerk, domain, thing, get, allow\n" in text


def test_what_the_policy_refuses_by_now_is_left_out_and_counted() -> None:
    then = Sketch({"clerk": ("domain",)}, (("clerk", "domain", "thing", "get", "allow"),))
    now = Sketch(then.roles, ())
    made = drafted([record(then.index(), GET, ["clerk"])], now)
    assert (made.left_out, made.files["domain.csv"].count("p, ")) == (1, 0)


def test_a_draft_of_the_shipped_policy_passes_its_check_without_a_warning_about_a_rule() -> None:
    shipped = read_folder(Path(__file__).parents[2] / "policies")
    words = whole_vocabulary()
    index = index_of(shipped, words)
    tally, reach = tallied([])
    made = draft(index, shipped, tally, reach, permissions_by_action())
    result = check(source_of(made), words)
    assert result.ok
    assert {finding.rule_id for finding in result.findings} <= {"no-rule", "idle-role"}
    assert set(made.files) == {"model.conf", "roles.yaml", *RULE_FILES}
    assert made.allowed_before > made.allows > 0
    assert decisions([]) == []


def of_two_halves(filler: str, fillers: int) -> set[frozenset[str]]:
    """Sets that two roles reach, x and y; the greedy take first what reaches most of them, g."""
    reached = {0: "xg", 1: "xg", 2: "x", 3: "yg", 4: "yg", 5: "y"}
    return {frozenset([*roles, *(f"{filler}{n}{k}" for k in range(fillers))]) for n, roles in reached.items()}


def test_few_roles_are_all_tried_and_of_many_none_stays_that_became_needless() -> None:
    assert fewest(of_two_halves("a", 1), sorted) == {"x", "y"}
    assert fewest(of_two_halves("z", 2), sorted) == {"x", "y"}
