"""What the policy in ``policies/`` promises, and that stock Casbin gives the server's answer for all of it."""

from pathlib import Path

import pytest

from actions.authorization.case_file import read_cases
from actions.authorization.cases import run_cases
from actions.authorization.check import check
from actions.authorization.claims import claims_of
from actions.authorization.source import parse, read_folder
from actions.directory import SYSTEM_ROLES
from actions.entities import ALL_SPECS, whole_vocabulary
from actions.vocabulary import ScopeType
from tests.policy.support import index_of

SHIPPED = read_folder(Path(__file__).parents[2] / "policies")
VOCABULARY = whole_vocabulary()
INDEX = index_of(SHIPPED, VOCABULARY)
PEOPLE = frozenset(name for name, role in INDEX.roles.items() if not role.system)
LOOKING = {"get", "search", "lookup"}
READING_THE_LOG = {"audit_record", "audit_archive", "audit_subject", "replay", "export"}
ASKING = {"evaluate", "search_subjects"}
"""What tells others what somebody may do: yes or no, and the lists of it."""
INTERNAL = {spec.permission for spec in ALL_SPECS if spec.internal}


def words(role: str) -> set[str]:
    return {str(cell) for scope in ScopeType for cell in INDEX.allowed_cells(frozenset({role}), scope)}


def test_it_has_no_findings() -> None:
    assert parse(SHIPPED, VOCABULARY).findings == ()


def test_stock_casbin_gives_the_same_answer_for_every_role_and_every_cell() -> None:
    result = check(SHIPPED, VOCABULARY, exhaustive=True)
    assert result.ok
    assert result.differences == ()
    assert result.compared == 2 * (len(INDEX.roles) + 1) * len(VOCABULARY)


def test_its_cases_hold_reach_every_line_and_notice_every_change_of_one() -> None:
    results = run_cases(SHIPPED, INDEX, with_coverage=True, with_mutation=True)
    assert (results.mistakes, results.failures) == ([], [])
    assert results.coverage is not None
    assert results.coverage.unreached == []
    assert results.mutation is not None
    assert results.mutation.mutants > len(INDEX.rules)
    assert results.mutation.survivors == []


def test_its_cases_ask_of_every_role_whether_it_may_do_every_action() -> None:
    claims = claims_of(read_cases(SHIPPED, INDEX.roles, VOCABULARY)[0])
    assert {role: VOCABULARY - claims.get(frozenset({role}), {}).keys() for role in INDEX.roles} == {
        role: frozenset() for role in INDEX.roles
    }


def test_internal_actions_are_for_the_server_itself() -> None:
    assert INTERNAL
    for cell in INTERNAL:
        allowed = {role for role in INDEX.roles if INDEX.decide(frozenset({role}), cell).allowed}
        assert allowed
        assert allowed <= set(SYSTEM_ROLES)
        assert not INDEX.decide(PEOPLE, cell).allowed


def test_superadmins_may_do_everything_else() -> None:
    assert words("superadmin") == {str(cell) for cell in VOCABULARY - INTERNAL}


def test_the_servers_own_principals_do_what_they_are_for() -> None:
    assert {role: words(role) for role in SYSTEM_ROLES} == {
        "system_bootstrap": {"admin:installation:bootstrap"},
        "system_recovery": {"admin:installation:recover"},
        "system_policy": {"admin:policy:publish"},
        "system_sweeper": {
            "admin:audit_key:renew",
            "admin:installation:sweep",
            "admin:keypair:tally",
            "admin:policy:tally",
            "admin:signing_key:renew",
        },
        "system_operator": {
            "admin:audit_partition:archive",
            "admin:audit_partition:drop",
            "admin:audit_partition:list",
            "admin:audit_record:export",
            "admin:audit_record:tail",
            "admin:installation:reseal",
            "admin:policy:replay",
        },
    }


@pytest.mark.parametrize(("role", "also"), [("auditor", {"replay", "export", "hash", *ASKING}), ("monitor", set())])
def test_those_who_look_on_change_nothing(role: str, also: set[str]) -> None:
    assert {cell.rpartition(":")[2] for cell in words(role)} == LOOKING | also


def test_auditors_read_everything_but_what_is_seen_by_oneself_alone() -> None:
    ones_own = {"user:project:get", "user:project:search"}
    operations = LOOKING | READING_THE_LOG | ASKING | {"hash"}
    assert words("auditor") == {str(cell) for cell in VOCABULARY if cell.operation in operations} - ones_own


CREDENTIALS = {"keypair", "login", "signing_key", "audit_key"}


def test_monitors_see_no_credentials_and_not_what_anybody_did() -> None:
    kept_from = CREDENTIALS | READING_THE_LOG | ASKING
    assert words("monitor") == {cell for cell in words("auditor") if not kept_from & set(cell.split(":"))}


def test_a_domain_admin_does_not_read_the_log_of_the_domain_it_runs() -> None:
    readers = {"superadmin", "auditor", "system_operator"}
    assert {role for role in INDEX.roles if any(":audit_record:" in cell for cell in words(role))} == readers


def test_a_domain_admin_does_nothing_in_the_user_scope_but_look() -> None:
    assert {cell for cell in words("domain_admin") if cell.startswith("user:")} == {
        "user:user:get",
        "user:role_binding:get",
        "user:role_binding:search",
    }


def test_a_domain_admin_neither_makes_nor_replaces_credentials() -> None:
    assert not {cell for cell in words("domain_admin") if cell.endswith((":keypair:create", ":keypair:rotate"))}


def test_a_member_of_a_domain_sees_the_domain_and_whom_it_can_name() -> None:
    assert words("domain_member") == {"domain:domain:get", "domain:user:lookup"}


def test_who_takes_part_in_a_project_sees_it_and_its_people_and_its_admin_decides_who_they_are() -> None:
    seeing = {"project:project:get", "project:user:get", "project:user:search"}
    bindings = {f"project:role_binding:{word}" for word in ("create", "get", "search", "update", "delete", "purge")}
    assert words("project_member") == seeing
    assert words("project_admin") == seeing | bindings | {"project:project:update"}


def test_only_its_owner_and_superadmins_may_act_in_a_user_scope() -> None:
    for cell in VOCABULARY:
        if cell.scope == "user" and cell.operation not in LOOKING:
            allowed = {role for role in PEOPLE if INDEX.decide(frozenset({role}), cell).allowed}
            assert allowed <= {"owner", "superadmin"}


def test_whoever_has_not_said_who_it_is_may_log_in_and_nothing_else() -> None:
    assert words("anonymous") == {"admin:login:authorize", "admin:login:refresh"}


def test_every_action_is_granted_to_somebody() -> None:
    for cell in VOCABULARY:
        assert any(INDEX.decide(frozenset({role}), cell).allowed for role in INDEX.roles)
