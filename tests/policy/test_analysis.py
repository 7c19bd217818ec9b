"""Who can, what can, the matrix and the whereabouts, against the rules read one by one, on generated policies."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from actions.action import ADMIN_LINEAGE, Lineage, RoleBinding, Scope
from actions.authorization.analysis import (
    Whereabouts,
    counts_in,
    matrix,
    speaking,
    verdict_of,
    what_can,
    what_roles_can,
    where_allowed,
    who_can,
)
from actions.authorization.answers import Verdict
from actions.authorization.standing import Standing
from actions.vocabulary import ScopeType
from tests.policy.support import CELLS, ORDERED_CELLS, Sketch, role_sets, sketches

UNHURRIED = settings(deadline=None, max_examples=60)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@UNHURRIED
@given(sketches(), st.data())
def test_who_can_tells_of_every_role_what_the_rules_say_and_whether_anybody_can_hold_it_there(
    sketch: Sketch, data: st.DataObject
) -> None:
    index, roles = sketch.index(), data.draw(role_sets(sketch))
    for cell in data.draw(st.lists(st.sampled_from(ORDERED_CELLS), min_size=1, max_size=4, unique=True)):
        answer = who_can(index, cell)
        told = {role.role: role for role in answer.roles}
        assert list(told) == list(index.roles)
        for role in sketch.roles:
            line = told[role].rule
            assert told[role].verdict is sketch.says((role,), cell)
            assert (line.place if line else None) == index.decide(frozenset((role,)), cell).rule
        assert answer.anybody is any(
            sketch.allows((role,), cell) and any(cell.scope in ScopeType(scope).at_or_under for scope in scopes)
            for role, scopes in sketch.roles.items()
        )
        # Whoever holds one of the roles that allow it and none of those that deny it may do it, and nobody else.
        allowing, denying = speaking(index, cell)
        assert (bool(roles & allowing) and not roles & denying) is sketch.allows(roles, cell)


@UNHURRIED
@given(sketches(), st.data())
def test_what_can_and_the_matrix_agree_with_the_rules_cell_by_cell(sketch: Sketch, data: st.DataObject) -> None:
    index, roles = sketch.index(), data.draw(role_sets(sketch))
    scopes = data.draw(st.lists(st.sampled_from([*ScopeType]), min_size=1, unique=True))
    spoken = {(one.cell.scope, one.cell.entity, one.cell.operation): one for one in what_can(index, roles, scopes)}
    shown = matrix(index, {"these": roles}, scope_types=scopes)
    cells = [cell for cell in CELLS if cell.scope in scopes]
    assert len(shown.rows) == len(cells)
    for cell in cells:
        said = sketch.says(roles, cell)
        found = spoken.pop((cell.scope, cell.entity, cell.operation), None)
        assert (found.verdict if found else Verdict.NONE) is said
        assert (found.rule.place if found and found.rule else None) == index.decide(roles, cell).rule
        [row] = [
            row
            for row in shown.rows
            if (row.cell.scope, row.cell.entity, row.cell.operation) == (cell.scope, cell.entity, cell.operation)
        ]
        assert row.verdicts == [said]
        assert verdict_of(index, roles, cell)[0] is said
    assert spoken == {}
    assert what_roles_can(index, "these", roles, scopes).anything is any(sketch.allows(roles, cell) for cell in cells)


def test_a_matrix_is_narrowed_by_role_scope_and_entity() -> None:
    index = Sketch(
        {"clerk": ("domain",), "guard": ("domain",)}, (("clerk", "domain", "thing", "get", "allow"),)
    ).index()
    whole = matrix(index)
    assert [column.name for column in whole.columns] == list(index.roles)
    assert len(whole.rows) == len(CELLS)
    told = matrix(index, {"clerk": frozenset({"clerk"})}, scope_types=["domain"], entity="thing")
    assert [str(row.cell) for row in told.rows] == [f"domain:thing:{word}" for word in ("create", "get", "purge")]
    assert [row.verdicts for row in told.rows] == [[Verdict.NONE], [Verdict.ALLOW], [Verdict.NONE]]


def test_a_role_counts_where_it_is_held_and_under_it() -> None:
    index = Sketch({"clerk": ("domain",), "helper": ("project",), "ghost": ()}).index()
    counting = {
        role: {scope for scope in ScopeType if counts_in(index.roles[role], scope)}
        for role in ("superadmin", "clerk", "helper", "ghost", "owner")
    }
    assert counting == {
        "superadmin": {*ScopeType},
        "clerk": {ScopeType.DOMAIN, ScopeType.PROJECT, ScopeType.USER},
        "helper": {ScopeType.PROJECT},
        "ghost": set(),
        "owner": {ScopeType.USER},
    }


def place(number: int, scope_type: ScopeType, inside: Lineage) -> Lineage:
    return Lineage((Scope(scope_type, UUID(int=number)), *inside.scopes))


DOMAINS = [place(number, ScopeType.DOMAIN, ADMIN_LINEAGE) for number in (1, 2, 3)]
PROJECTS = [place(10 + number, ScopeType.PROJECT, DOMAINS[number % 3]) for number in range(5)]
HOMES = [place(20 + number, ScopeType.USER, DOMAINS[number % 3]) for number in range(4)]
PLACES = [ADMIN_LINEAGE, *DOMAINS, *PROJECTS]


def says(where: Whereabouts, lineage: Lineage) -> bool:
    """What the repository's statement says of a scope."""
    own, domain = lineage.scope.id, lineage.id_of(ScopeType.DOMAIN)
    by_domain = where.domains.get(domain, where.everywhere) if domain else where.everywhere
    return where.scopes.get(own, by_domain) if own else by_domain


@UNHURRIED
@given(sketches(), st.data())
def test_the_whereabouts_are_every_scope_in_which_it_would_be_decided_so(sketch: Sketch, data: st.DataObject) -> None:
    index = sketch.index()
    bindings = st.builds(
        RoleBinding,
        st.sampled_from(sorted(sketch.roles)),
        st.sampled_from(PLACES),
        st.sampled_from([None, NOW, NOW + timedelta(hours=1)]),
    )
    held = tuple(data.draw(st.lists(bindings, max_size=5)))
    standing = Standing(index, held, NOW, HOMES[0])
    for cell in ORDERED_CELLS:
        where = where_allowed(standing, cell)
        for lineage in (ADMIN_LINEAGE, *DOMAINS, *PROJECTS, *HOMES):
            if lineage.scope.type == cell.scope:
                assert says(where, lineage) is standing.decide(lineage, cell).allowed, (cell, lineage)
