"""``chamberlain policy explain`` as a person reads it: the verdict first, and no line without a use."""

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from actions.authorization.answers import CountingRole
from actions.authorization.explain import explain
from actions.entities import permissions_by_action
from server.cli.policy.choice import index_of
from server.cli.policy.explained import show
from tests.commands import POLICIES, in_one_line, invoke


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(POLICIES, tmp_path / "policies"))


def page(*arguments: str, folder: Path = POLICIES, code: int) -> list[str]:
    result = invoke("policy", "explain", *arguments, "--folder", str(folder))
    assert result.exit_code == code, result.output
    return [line.replace(f"{folder}/", "") for line in result.stdout.splitlines()]


def add(folder: Path, file: str, line: str) -> int:
    """Append a line to a policy file; returns its number."""
    path = folder / file
    path.write_text(f"{path.read_text()}{line}\n")
    return path.read_text().count("\n")


def number_of(file: str, line: str) -> int:
    return (POLICIES / file).read_text().splitlines().index(line) + 1


def test_what_is_allowed_is_told_with_the_line_and_the_way_to_it() -> None:
    link = number_of("domain.csv", "g, auditor, monitor")
    rule = number_of("domain.csv", "p, monitor, domain, user,         search, allow")
    assert page("domain_member+auditor", "domain_search_users", code=0) == [
        "ALLOWED  domain_member+auditor: domain:user:search",
        f"  by domain.csv:{rule}: p, monitor, domain, user,         search, allow",
        f"      auditor -> monitor (domain.csv:{link}) -> domain.csv:{rule}",
    ]


def test_what_no_rule_allows_is_told_with_the_rules_that_all_but_do_and_the_smallest_grant() -> None:
    told = page("domain_member", "domain:user:search", "domain:research", code=1)
    assert told[:2] == [
        "DENIED  domain_member: domain:user:search in domain:research",
        "  no rule allows it, and none denies it, for domain_member",
    ]
    near = told.index("These rules would allow it, but for the word that is marked")
    rule, mark = told[near + 1 : near + 3]
    assert rule.endswith(": p, domain_member, domain, user,   lookup, allow")
    shift = len(f"{POLICIES}/")
    assert mark[mark.index("^") :] == "^^^^^^ action: needed is search"
    assert rule[mark.index("^") - shift :].startswith("lookup,")
    grants = told.index("What would allow it; what changes least comes first")
    assert told[grants + 1 : grants + 3] == [
        "  add to domain.csv:  p, domain_member, domain, user, search, allow",
        "      lets in whoever holds domain_member",
    ]
    assert told[grants + 3] == "  bind auditor in domain"
    assert told[grants + 4].startswith("      lets in nobody else; also allows it domain:audit_record:get, ")


def test_a_deny_is_told_with_all_that_has_to_be_lifted_and_what_would_be_then(folder: Path) -> None:
    first = add(folder, "domain.csv", "p, domain_member, domain, domain, get, deny")
    second = add(folder, "domain.csv", "p, monitor, domain, domain, get, deny")
    allow = number_of("domain.csv", "p, domain_member, domain, domain, get,    allow")
    told = page("domain_admin+monitor", "domain_domain", folder=folder, code=1)
    link = number_of("domain.csv", "g, domain_admin, domain_member")
    assert told == [
        "DENIED  domain_admin+monitor: domain:domain:get",
        f"  by domain.csv:{first}: p, domain_member, domain, domain, get, deny",
        f"      domain_admin -> domain_member (domain.csv:{link}) -> domain.csv:{first}",
        "",
        "No grant can help, since a deny beats every allow. That line and 1 more would have to be lifted",
        f"  domain.csv:{second}: p, monitor, domain, domain, get, deny",
        f"      monitor -> domain.csv:{second}",
        f"  Then it would be allowed by domain.csv:{allow}: p, domain_member, domain, domain, get,    allow",
    ]
    add(folder, "domain.csv", "p, domain_admin, domain, keypair, rotate, deny")
    told = page("domain_admin", "domain_rotate_keypair", folder=folder, code=1)
    assert told[-2:] == [
        "No grant can help, since a deny beats every allow. That line would have to be lifted",
        "  Then it would still be denied: no rule would allow it.",
    ]


def test_what_else_says_so_is_told_and_what_is_too_much_is_counted(folder: Path) -> None:
    rules = [(role, "project", "user", "search") for role in ("domain_admin", "project_admin", "owner")]
    for words in rules:
        add(folder, "project.csv", f"p, {', '.join(words)}, allow")
    told = page("domain_admin", "project_search_users", folder=folder, code=0)
    assert told[told.index("The same is said by") + 1].endswith(": p, domain_admin, project, user, search, allow")
    told = page("domain_admin", "domain_rotate_keypair", code=1)
    assert sum("^" in line for line in told) == 4
    assert "  ... and 4 more" in told


def test_a_role_without_any_way_to_it_is_told_so() -> None:
    told = page("anonymous", "admin_search_users", code=1)
    assert told[-1] == "No single line, and no one role more, would allow it"
    assert any(line.startswith("Note: anonymous can be given to nobody.") for line in told)


def test_on_a_terminal_the_word_that_differs_has_a_colour() -> None:
    console = Console(force_terminal=True, width=120, color_system="standard", highlight=False)
    index = index_of(POLICIES)
    asked = permissions_by_action()["domain_search_users"]
    told = explain(index, [CountingRole(role="domain_member")], asked, principal="\x9b2Jdomain_member")
    with console.capture() as captured:
        show(told, "", console)
    assert "\x1b[1;31mDENIED\x1b[0m" in captured.get()
    assert "user,   \x1b[1;33mlookup\x1b[0m, allow" in captured.get()
    assert "\x9b" not in captured.get()


def test_a_question_that_cannot_be_asked_ends_in_one_line(folder: Path) -> None:
    for arguments, told in (
        (("user:1", "domain_search_users"), "add --server"),
        (("ghost", "domain_search_users"), "'ghost' is no role"),
        (("system:ghost", "domain_search_users"), "no principal"),
        (("auditor", "domain_search_user"), "Did you mean 'domain_search_users'?"),
        (("auditor", "domain_search_users", "project:1"), "of the type domain"),
        (("auditor", "domain_search_users", "--folder", str(folder / "none")), "cannot be read"),
        (("auditor", "domain_search_users", "--server", "--endpoint", "http://127.0.0.1:1"), "credentials"),
    ):
        given = (
            arguments if "--folder" in arguments or "--server" in arguments else (*arguments, "--folder", str(folder))
        )
        result = invoke("policy", "explain", *given, CHAMBERLAIN_DATA_DIR=str(folder), CHAMBERLAIN_ACCESS_KEY="")
        assert told in in_one_line(result)
    add(folder, "domain.csv", "p, domain_member, domain, user, serch, allow")
    result = invoke("policy", "explain", "auditor", "domain_search_users", "--folder", str(folder))
    assert "domain.csv" in in_one_line(result)


def test_json_is_the_answer_and_nothing_else() -> None:
    result = invoke("policy", "explain", "owner", "domain_search_users", "--folder", str(POLICIES), "--format", "json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["allowed"], told["decided_by"], told["principal"]) == (False, None, "owner")
    assert [note["kind"] for note in told["notes"]] == ["not-held-here"]
