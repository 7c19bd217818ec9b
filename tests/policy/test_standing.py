"""Laws 3 to 6 under the shipped policy: which roles count where, and that nobody hands out or takes over too much."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.action import ADMIN_LINEAGE, ADMIN_SCOPE, Lineage, RoleBinding, Scope
from actions.authorization.index import PolicyIndex
from actions.authorization.source import PolicySource, read_folder
from actions.authorization.standing import Standing
from actions.entities import whole_vocabulary
from actions.vocabulary import Permission, ScopeType
from tests.policy.support import index_of

SHIPPED = read_folder(Path(__file__).parents[2] / "policies")
INDEX = index_of(SHIPPED, whole_vocabulary())
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SOON, LATER = NOW + timedelta(hours=1), NOW + timedelta(days=30)


def place(number: int, scope_type: ScopeType, inside: Lineage) -> Lineage:
    return Lineage((Scope(scope_type, UUID(int=number)), *inside.scopes))


RESEARCH = place(1, ScopeType.DOMAIN, ADMIN_LINEAGE)
OTHER = place(2, ScopeType.DOMAIN, ADMIN_LINEAGE)
TELESCOPE = place(3, ScopeType.PROJECT, RESEARCH)
MICROSCOPE = place(4, ScopeType.PROJECT, RESEARCH)
HOMES = {
    name: place(number, ScopeType.USER, RESEARCH)
    for number, name in enumerate(("root", "dana", "piotr", "mia", "olga", "nobody"), 10)
}
BINDINGS = {
    "root": (RoleBinding("superadmin", ADMIN_LINEAGE), RoleBinding("domain_member", RESEARCH)),
    "dana": (RoleBinding("domain_admin", RESEARCH),),
    "piotr": (RoleBinding("domain_member", RESEARCH), RoleBinding("project_admin", TELESCOPE)),
    "mia": (RoleBinding("domain_member", RESEARCH), RoleBinding("project_member", TELESCOPE)),
    "olga": (RoleBinding("auditor", RESEARCH),),
    "nobody": (),
}


def standing(name: str, *bindings: RoleBinding, index: PolicyIndex = INDEX) -> Standing:
    return Standing(index, (*BINDINGS[name], *bindings), NOW, HOMES[name])


def policy_with(*lines: tuple[str, str], roles: str = "") -> PolicyIndex:
    files = dict(SHIPPED.files)
    for name, line in lines:
        files[name] += line.encode() + b"\n"
    files["roles.yaml"] += roles.encode()
    return index_of(PolicySource(files), whole_vocabulary())


BANNED = policy_with(
    ("project.csv", "p, banned, project, user, search, deny"),
    ("domain.csv", "p, banned, domain, user, delete, deny"),
    roles="banned: {bindable: [domain, project, user], sentence: May no longer look around.}\n",
)


# Law 3: which roles count.


def test_a_role_counts_in_its_scope_and_under_it_and_nowhere_else() -> None:
    dana = standing("dana")
    assert "domain_admin" in dana.roles_in(RESEARCH)
    assert "domain_admin" in dana.roles_in(TELESCOPE)
    assert "domain_admin" in dana.roles_in(HOMES["mia"])
    assert dana.roles_in(OTHER) == frozenset()
    assert dana.roles_in(ADMIN_LINEAGE) == frozenset()
    assert standing("mia").roles_in(TELESCOPE) == {"domain_member", "project_member"}
    assert standing("mia").roles_in(MICROSCOPE) == {"domain_member"}


def test_everyone_owns_the_own_user_scope_and_no_other() -> None:
    assert standing("nobody").roles_in(HOMES["nobody"]) == {"owner"}
    assert "owner" not in standing("nobody").roles_in(HOMES["mia"])
    assert "owner" not in standing("nobody").roles_in(RESEARCH)
    assert replace(standing("nobody"), home=None).roles_in(HOMES["nobody"]) == frozenset()


def test_a_binding_counts_until_the_moment_it_expires() -> None:
    binding = RoleBinding("domain_admin", OTHER, NOW + timedelta(microseconds=1))
    assert "domain_admin" in standing("mia", binding).roles_in(OTHER)
    assert "domain_admin" not in standing("mia", replace(binding, expires_at=NOW)).roles_in(OTHER)


def test_a_domain_admin_cannot_touch_another_domain() -> None:
    dana = standing("dana")
    for cell in INDEX.vocabulary:
        if cell.scope == "domain":
            assert not dana.decide(OTHER, cell).allowed


def test_a_deny_bound_below_counts_there_and_not_above() -> None:
    dana = standing("dana", RoleBinding("banned", TELESCOPE), index=BANNED)
    search = Permission("project", "user", "search")
    assert not dana.decide(TELESCOPE, search).allowed
    assert dana.decide(MICROSCOPE, search).allowed
    assert not standing("dana", RoleBinding("banned", RESEARCH), index=BANNED).decide(MICROSCOPE, search).allowed


# Law 4: what the body names.


def test_a_thing_may_be_named_when_some_scope_of_its_lineage_allows_it() -> None:
    assert standing("dana").decide_anywhere(HOMES["mia"], "user", "get").allowed
    assert standing("root").decide_anywhere(HOMES["mia"], "user", "get").allowed
    assert standing("mia").decide_anywhere(HOMES["mia"], "user", "get").allowed
    refused = standing("mia").decide_anywhere(HOMES["dana"], "user", "get")
    assert not refused.allowed
    assert refused.rule is None
    assert not standing("dana").decide_anywhere(place(99, ScopeType.USER, OTHER), "user", "get").allowed


def test_an_explicit_deny_in_any_scope_of_the_lineage_forbids_naming_it() -> None:
    dana = standing("dana", RoleBinding("banned", RESEARCH), index=BANNED)
    refused = dana.decide_anywhere(HOMES["mia"], "user", "delete")
    assert not refused.allowed
    assert refused.rule is not None
    assert refused.rule.startswith("domain.csv:")
    assert standing("dana", index=BANNED).decide_anywhere(HOMES["mia"], "user", "delete").allowed


def test_an_operation_that_exists_nowhere_on_the_lineage_is_refused() -> None:
    assert not standing("root").decide_anywhere(HOMES["mia"], "user", "fly").allowed


# Law 5: no one grants, or takes over, more than they hold.


@pytest.mark.parametrize(
    ("name", "role", "lineage", "granted"),
    [
        ("root", "superadmin", ADMIN_LINEAGE, True),
        ("root", "auditor", ADMIN_LINEAGE, True),
        ("root", "domain_admin", OTHER, True),
        ("dana", "superadmin", ADMIN_LINEAGE, False),
        ("dana", "monitor", ADMIN_LINEAGE, False),
        ("dana", "auditor", RESEARCH, False),
        ("dana", "domain_admin", RESEARCH, True),
        ("dana", "domain_member", RESEARCH, True),
        ("dana", "project_admin", TELESCOPE, True),
        ("dana", "project_member", TELESCOPE, True),
        ("dana", "domain_admin", OTHER, False),
        ("dana", "domain_member", OTHER, False),
        ("piotr", "project_admin", TELESCOPE, True),
        ("piotr", "project_member", TELESCOPE, True),
        ("piotr", "project_member", MICROSCOPE, False),
        ("piotr", "domain_admin", RESEARCH, False),
        ("mia", "project_admin", TELESCOPE, False),
        ("olga", "domain_admin", RESEARCH, False),
        ("nobody", "domain_member", RESEARCH, False),
    ],
)
def test_a_grant_gives_away_no_more_than_the_grantor_holds(
    name: str, role: str, lineage: Lineage, granted: bool
) -> None:
    assert standing(name).grants(role, lineage, None) is granted


@pytest.mark.parametrize(
    ("role", "lineage"),
    [
        ("superadmin", RESEARCH),
        ("owner", HOMES["mia"]),
        ("system_recovery", ADMIN_LINEAGE),
        ("domain_admin", TELESCOPE),
        ("no_such_role", RESEARCH),
    ],
)
def test_a_role_is_granted_only_where_it_may_be_bound(role: str, lineage: Lineage) -> None:
    assert not INDEX.bindable(role, lineage.scope.type)
    with pytest.raises(ValueError, match="cannot be bound"):
        standing("root").grants(role, lineage, None)


def test_a_grant_does_not_outlive_what_the_grantor_holds() -> None:
    dana = Standing(INDEX, (RoleBinding("domain_admin", RESEARCH, LATER),), NOW, HOMES["dana"])
    assert dana.grants("domain_member", RESEARCH, SOON)
    assert dana.grants("domain_member", RESEARCH, LATER)
    assert not dana.grants("domain_member", RESEARCH, LATER + timedelta(microseconds=1))
    assert not dana.grants("domain_member", RESEARCH, None)
    forever = replace(dana, bindings=(*dana.bindings, RoleBinding("domain_member", RESEARCH)))
    assert forever.grants("domain_member", RESEARCH, None)
    assert not forever.grants("domain_admin", RESEARCH, None)


def test_a_deny_counts_against_the_grantor_however_soon_it_ends() -> None:
    banned = RoleBinding("banned", RESEARCH, SOON)
    assert not standing("dana", banned, index=BANNED).grants("domain_admin", RESEARCH, None)
    assert standing("dana", replace(banned, expires_at=NOW), index=BANNED).grants("domain_admin", RESEARCH, None)


def test_a_deny_under_the_scope_counts_against_a_grant_for_all_of_it() -> None:
    dana = standing("dana", RoleBinding("banned", TELESCOPE), index=BANNED)
    assert not dana.grants("domain_admin", RESEARCH, None)
    assert not dana.grants("project_member", TELESCOPE, None)
    assert dana.grants("project_member", MICROSCOPE, None)
    assert dana.grants("domain_member", RESEARCH, None)


def test_a_role_that_is_denied_something_may_be_granted_without_it() -> None:
    index = policy_with(
        ("domain.csv", "p, helper, domain, user, get, allow"),
        ("domain.csv", "g, helper, curbed"),
        ("superadmin.csv", "p, curbed, *, *, create, deny"),
        ("superadmin.csv", "p, curbed, *, keypair, rotate, allow"),
        ("superadmin.csv", "p, curbed, *, keypair, rotate, deny"),
        roles="helper: {bindable: [domain], sentence: Helps.}\ncurbed: {bindable: [], sentence: Is held back.}\n",
    )
    assert standing("dana", index=index).grants("helper", RESEARCH, None)


@pytest.mark.parametrize(
    ("name", "target", "covered"),
    [
        ("root", "dana", True),
        ("root", "root", True),
        ("root", "nobody", True),
        ("dana", "root", False),
        ("dana", "olga", False),
        ("dana", "dana", True),
        ("dana", "piotr", True),
        ("dana", "mia", True),
        ("dana", "nobody", True),
        ("piotr", "mia", True),
        ("piotr", "dana", False),
        ("mia", "piotr", False),
        ("olga", "mia", True),
        ("olga", "piotr", False),
        ("nobody", "mia", False),
    ],
)
def test_an_account_is_taken_over_only_by_who_may_do_all_that_it_may(name: str, target: str, covered: bool) -> None:
    assert standing(name).covers(BINDINGS[target]) is covered


def test_one_binding_elsewhere_protects_an_account() -> None:
    assert not standing("dana").covers((*BINDINGS["mia"], RoleBinding("domain_member", OTHER)))
    assert standing("dana").covers((*BINDINGS["mia"], RoleBinding("domain_member", OTHER, NOW)))


def test_a_deny_on_the_actor_under_a_targets_scope_protects_the_target() -> None:
    dana = standing("dana", RoleBinding("banned", TELESCOPE), index=BANNED)
    assert not dana.covers((RoleBinding("domain_admin", RESEARCH),))
    assert not dana.covers(BINDINGS["mia"])
    assert dana.covers((RoleBinding("domain_admin", RESEARCH), RoleBinding("banned", TELESCOPE)))
    assert dana.covers((RoleBinding("domain_member", RESEARCH),))


def test_a_role_of_the_target_under_another_of_its_scopes_is_compared_there_too() -> None:
    index = policy_with(
        ("project.csv", "p, surveyor, project, role_binding, get, allow"),
        roles="surveyor: {bindable: [project], sentence: Surveys.}\n",
    )
    helper = Standing(index, (RoleBinding("domain_member", RESEARCH),), NOW, None)
    assert helper.covers((RoleBinding("domain_member", RESEARCH),))
    assert not helper.covers((RoleBinding("domain_member", RESEARCH), RoleBinding("surveyor", TELESCOPE)))


PLACES = (ADMIN_LINEAGE, RESEARCH, OTHER, TELESCOPE, MICROSCOPE)
HELD = st.lists(
    st.builds(
        RoleBinding,
        st.sampled_from(["superadmin", "domain_admin", "domain_member", "project_admin", "project_member", "banned"]),
        st.sampled_from(PLACES),
        st.sampled_from([None, None, SOON, LATER]),
    ),
    max_size=4,
).map(tuple)


@given(HELD, HELD)
def test_who_covers_an_account_may_at_any_time_and_place_do_all_that_it_may(
    mine: tuple[RoleBinding, ...], theirs: tuple[RoleBinding, ...]
) -> None:
    if not Standing(BANNED, mine, NOW).covers(theirs):
        return
    for moment in (NOW, SOON, LATER):
        actor, target = Standing(BANNED, mine, moment), Standing(BANNED, theirs, moment)
        for lineage in (*PLACES, *HOMES.values()):
            assert target.allowed(lineage) <= actor.allowed(lineage)


# Law 6: what may be known to exist.


@pytest.mark.parametrize(
    ("name", "lineage", "something"),
    [
        ("root", OTHER, True),
        ("dana", RESEARCH, True),
        ("dana", TELESCOPE, True),
        ("dana", OTHER, False),
        ("dana", ADMIN_LINEAGE, True),
        ("mia", TELESCOPE, True),
        ("mia", MICROSCOPE, False),
        ("mia", HOMES["mia"], True),
        ("mia", HOMES["dana"], False),
        ("nobody", HOMES["nobody"], True),
        ("nobody", RESEARCH, True),
        ("nobody", OTHER, False),
        ("nobody", TELESCOPE, False),
    ],
)
def test_a_scope_is_known_to_those_who_may_do_something_at_or_under_it(
    name: str, lineage: Lineage, something: bool
) -> None:
    assert standing(name).may_do_anything(lineage) is something


def test_an_expired_binding_lets_nothing_be_known() -> None:
    old = RoleBinding("domain_admin", OTHER, NOW)
    assert not standing("mia", old).may_do_anything(OTHER)


def test_a_project_binding_lets_its_domain_be_known() -> None:
    foreign = place(50, ScopeType.PROJECT, OTHER)
    assert standing("mia", RoleBinding("project_member", foreign)).may_do_anything(OTHER)


def test_a_scope_in_which_all_is_denied_is_unknown() -> None:
    index = policy_with(
        ("superadmin.csv", "p, outcast, *, *, *, deny"),
        roles="outcast: {bindable: [admin, domain], sentence: Is let in nowhere.}\n",
    )
    outcast = Standing(index, (*BINDINGS["dana"], RoleBinding("outcast", ADMIN_LINEAGE)), NOW, HOMES["dana"])
    assert not outcast.may_do_anything(RESEARCH)
    assert not outcast.may_do_anything(HOMES["dana"])
    assert ADMIN_SCOPE in RESEARCH.scopes
