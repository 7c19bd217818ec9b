"""What cases are worth: which lines they reach, and which changes of a line they would notice."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.authorization.answers import Verdict
from actions.authorization.case_file import Expected
from actions.authorization.claims import Claims, Said, together
from actions.authorization.coverage import coverage
from actions.authorization.mutation import mutation_score
from actions.authorization.rules import RoleLink, ancestors
from actions.vocabulary import Permission
from tests.policy.support import CELLS, ORDERED_CELLS, Sketch, sketches

FIELDS = ("scope", "entity", "operation")
TOLD = {"scope": "scope", "entity": "object", "operation": "action"}


@dataclass(frozen=True)
class Plain:
    """The plainest reading of a policy: each rule the cells that it names, each link a pair."""

    roles: tuple[str, ...]
    rules: tuple[tuple[str, frozenset[Permission], str], ...]
    links: tuple[tuple[str, str], ...]

    def verdict(self, roles: frozenset[str], cell: Permission) -> Verdict:
        held = Sketch({}, links=self.links).ancestors(roles)
        effects = {effect for role, cells, effect in self.rules if role in held and cell in cells}
        return Verdict.DENY if "deny" in effects else Verdict.ALLOW if effects else Verdict.NONE

    def notices(self, claims: Claims) -> bool:
        return any(
            not expected.met_by(self.verdict(roles, cell))
            for roles, wanted in claims.items()
            for cell, expected in wanted.items()
        )

    def single_verdicts(self) -> list[Verdict]:
        return [self.verdict(frozenset({role}), cell) for role in self.roles for cell in ORDERED_CELLS]


def meant(words: Mapping[str, str]) -> frozenset[Permission]:
    return frozenset(cell for cell in CELLS if all(said in ("*", getattr(cell, name)) for name, said in words.items()))


def plain(sketch: Sketch) -> Plain:
    rules = tuple((rule[0], meant(dict(zip(FIELDS, rule[1:4], strict=True))), rule[4]) for rule in sketch.rules)
    return Plain(tuple(sketch.roles), rules, sketch.links)


def mutants(sketch: Sketch) -> Iterator[tuple[str, str, Plain]]:
    """Each line with each of its changes, and the policy with that change made."""
    whole = plain(sketch)
    for number, (role, cells, effect) in enumerate(whole.rules):
        before, after = whole.rules[:number], whole.rules[number + 1 :]
        text = "p, " + ", ".join(sketch.rules[number])
        other = "deny" if effect == "allow" else "allow"
        words = dict(zip(FIELDS, sketch.rules[number][1:4], strict=True))
        yield text, "it left out", replace(whole, rules=(*before, *after))
        yield text, f"{other} instead", replace(whole, rules=(*before, (role, cells, other), *after))
        for name in FIELDS:
            if words[name] != "*":
                wider = meant({**words, name: "*"})
                if wider != cells:
                    yield text, f"any {TOLD[name]}", replace(whole, rules=(*before, (role, wider, effect), *after))
                continue
            said = sorted({getattr(cell, name) for cell in cells})
            for word in said if len(said) > 1 else ():
                rest = frozenset(cell for cell in cells if getattr(cell, name) != word)
                change = f"any {TOLD[name]} but '{word}'"
                yield text, change, replace(whole, rules=(*before, (role, rest, effect), *after))
    for number, (role, inherited) in enumerate(sketch.links):
        links = sketch.links[:number] + sketch.links[number + 1 :]
        yield f"g, {role}, {inherited}", "it left out", replace(whole, links=links)


@st.composite
def policies_with_claims(draw: st.DrawFn) -> tuple[Sketch, Claims]:
    """A policy, and cases that hold for some people in it."""
    sketch = draw(sketches())
    people = draw(st.lists(st.frozensets(st.sampled_from(sorted(sketch.roles)), max_size=3), max_size=3, unique=True))
    claims: dict[frozenset[str], dict[Permission, Expected]] = {}
    for roles in people:
        about = draw(st.sets(st.sampled_from(ORDERED_CELLS)))
        claims[roles] = {cell: expected(plain(sketch).verdict(roles, cell), draw(st.booleans())) for cell in about}
    return sketch, claims


def expected(verdict: Verdict, strict: bool) -> Expected:
    if verdict is Verdict.ALLOW:
        return Expected.ALLOW
    return Expected.DENY if verdict is Verdict.DENY and strict else Expected.REFUSE


@settings(max_examples=60, deadline=None)
@given(policies_with_claims())
def test_a_mutant_is_noticed_exactly_when_the_changed_policy_would_fail_a_case(given: tuple[Sketch, Claims]) -> None:
    sketch, claims = given
    unchanged = plain(sketch).single_verdicts()
    noticed, survivors, without_effect = 0, Counter[tuple[str, str]](), 0
    for text, change, mutant in mutants(sketch):
        if mutant.notices(claims):
            noticed += 1
        elif mutant.single_verdicts() == unchanged:
            without_effect += 1
        else:
            survivors[text, change] += 1
    score = mutation_score(sketch.index(), claims)
    assert (score.noticed, score.without_effect) == (noticed, without_effect)
    assert Counter((mutant.line.text, mutant.change) for mutant in score.survivors) == survivors
    assert score.mutants == noticed + survivors.total()


@settings(max_examples=60, deadline=None)
@given(policies_with_claims())
def test_a_rule_is_reached_when_some_case_hears_from_it_what_the_answer_is(given: tuple[Sketch, Claims]) -> None:
    sketch, claims = given
    policy = plain(sketch)
    unreached: Counter[str] = Counter()
    for number, (role, cells, effect) in enumerate(policy.rules):
        if not any(
            role in sketch.ancestors(roles) and cell in cells and policy.verdict(roles, cell) == effect
            for roles, wanted in claims.items()
            for cell in wanted
        ):
            unreached["p, " + ", ".join(sketch.rules[number])] += 1
    told = coverage(sketch.index(), claims)
    assert Counter(line.text for line in told.unreached if line.text.startswith("p")) == unreached
    assert told.reached == told.lines - len(told.unreached)


ROLES = {"clerk": ("domain",), "guard": ("domain",), "baker": ("domain",)}
GET, PURGE = Permission("domain", "thing", "get"), Permission("domain", "thing", "purge")


def asking(*roles: str, **wanted: Expected) -> Claims:
    return {frozenset(roles): {{"get": GET, "purge": PURGE}[word]: expected for word, expected in wanted.items()}}


def test_a_line_of_inheritance_is_reached_by_what_is_allowed_or_denied_over_it() -> None:
    sketch = Sketch(
        ROLES,
        (("guard", "domain", "thing", "get", "allow"), ("clerk", "domain", "thing", "purge", "allow")),
        (("clerk", "guard"), ("baker", "clerk")),
    )
    index = sketch.index()

    def unreached(claims: Claims) -> list[str]:
        return [line.text.replace(" ", "") for line in coverage(index, claims).unreached]

    assert unreached(asking("baker", get=Expected.ALLOW, purge=Expected.ALLOW)) == []
    assert unreached(asking("clerk", get=Expected.ALLOW, purge=Expected.ALLOW)) == ["g,baker,clerk"]
    assert unreached(asking("baker", purge=Expected.ALLOW)) == ["p,guard,domain,thing,get,allow", "g,clerk,guard"]
    assert coverage(index, {}).percent == 0
    assert not coverage(index, asking("clerk", get=Expected.ALLOW)).meets(51)
    assert coverage(index, asking("clerk", get=Expected.ALLOW)).meets(50)


def test_an_allow_that_a_deny_overrules_is_not_reached_by_asking_for_the_deny() -> None:
    sketch = Sketch(ROLES, (("clerk", "domain", "thing", "get", "allow"), ("guard", "domain", "thing", "get", "deny")))
    told = coverage(sketch.index(), asking("clerk", "guard", get=Expected.REFUSE))
    assert [line.text for line in told.unreached] == ["p, clerk, domain, thing, get, allow"]


def test_a_deny_left_out_is_noticed_only_by_who_asks_for_the_deny() -> None:
    sketch = Sketch(ROLES, (("clerk", "domain", "thing", "get", "deny"),))
    weak, strict = (
        mutation_score(sketch.index(), asking("clerk", get=expected)) for expected in (Expected.REFUSE, Expected.DENY)
    )
    assert "it left out" in {mutant.change for mutant in weak.survivors}
    assert "it left out" not in {mutant.change for mutant in strict.survivors}
    assert (weak.meets(100), strict.noticed - weak.noticed) == (False, 1)


def test_a_score_is_rounded_down_so_that_only_all_is_a_hundred() -> None:
    rules = tuple(("clerk", "domain", "thing", word, "allow") for word in ("create", "get", "purge"))
    told = coverage(Sketch(ROLES, rules).index(), asking("clerk", get=Expected.ALLOW, purge=Expected.ALLOW))
    assert (told.reached, told.lines, told.percent) == (2, 3, 66.6)
    assert mutation_score(Sketch(ROLES).index(), {}).percent == 100


def test_twice_the_lines_of_inheritance_are_twice_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    worth = "actions.authorization.mutation"

    def counted(own: Mapping[str, Said], roles: frozenset[str]) -> Said:
        looked_at.extend(roles)
        return together(own, roles)

    def walked(roles: Iterable[str], links: Iterable[RoleLink]) -> dict[str, frozenset[str]]:
        looked_at.append("all roles")
        return ancestors(roles, links)

    def work(chains: int) -> int:
        looked_at.clear()
        names = [f"r{chain}_{place}" for chain in range(chains) for place in range(4)]
        rules = tuple((name, "domain", "thing", "get", "allow") for name in names)
        links = tuple((f"r{chain}_{place}", f"r{chain}_{place + 1}") for chain in range(chains) for place in range(3))
        claims = {frozenset({"r0_0"}): {GET: Expected.ALLOW}}
        assert mutation_score(Sketch(dict.fromkeys(names, ("domain",)), rules, links).index(), claims).mutants
        assert looked_at.count("all roles") == 1
        return len(looked_at)

    monkeypatch.setattr(f"{worth}.together", counted)
    monkeypatch.setattr(f"{worth}.ancestors", walked)
    few, more, most = work(10), work(20), work(30)
    assert most - more == more - few > 0
