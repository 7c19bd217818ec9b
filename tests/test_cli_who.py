"""``chamberlain policy who-can``, ``what-can`` and ``matrix``: on a folder here, and asking a real server."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from actions.vocabulary import Permission
from tests.commands import POLICIES, Installation, amend, in_one_line, invoke

FOLDER = ("--folder", str(POLICIES))
JSON = ("--format", "json")


def told(*arguments: str, code: int = 0, folder: Path = POLICIES) -> Any:
    result = invoke("policy", *arguments, "--folder", str(folder), *JSON)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_who_can_tells_the_roles_of_a_folder() -> None:
    answer = told("who-can", "domain_search_users")
    allowed = {role["role"] for role in answer["roles"] if role["verdict"] == "allow"}
    assert allowed == {"superadmin", "domain_admin", "auditor", "monitor"}
    assert answer == told("who-can", "domain:user:search")
    shown = invoke("policy", "who-can", "domain_search_users", *FOLDER).stdout
    assert "Who can domain:user:search" in shown
    assert re.search(r"● +domain_admin +domain +domain\.csv:\d+ +p, domain_admin, domain, user, search, allow", shown)


def test_nobody_is_told_by_the_exit_code(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    shutil.copytree(POLICIES, folder)
    amend(folder / "superadmin.csv", "p, system_operator,  admin, audit_record, tail,      allow\n", "")
    result = invoke("policy", "who-can", "admin_tail_audit_record", "--folder", str(folder))
    assert result.exit_code == 1
    assert "✕" in result.stdout
    assert told("what-can", "anonymous", "domain", code=1)["reaches"][0]["cells"] == []


def test_what_can_tells_all_that_roles_may_do() -> None:
    answer = told("what-can", "domain_member+project_member")
    [reach] = answer["reaches"]
    assert reach["roles"] == ["domain_member", "project_member"]
    assert [str(Permission(**one["cell"])) for one in reach["cells"]] == [
        "domain:domain:get",
        "domain:user:lookup",
        "project:project:get",
        "project:user:get",
        "project:user:search",
    ]
    narrowed = told("what-can", "domain_member+project_member", "project")
    assert narrowed["reaches"][0]["cells"] == reach["cells"][2:]
    shown = invoke("policy", "what-can", "domain_member", *FOLDER).stdout
    assert "As domain_member, wherever that counts" in shown


def test_the_matrix_has_one_mark_for_each_role_and_cell() -> None:
    whole = told("matrix")
    assert all(len(row["verdicts"]) == len(whole["columns"]) for row in whole["rows"])
    some = told("matrix", "--role", "owner", "--role", "auditor", "--entity", "keypair", "--scope", "user")
    assert [column["name"] for column in some["columns"]] == ["owner", "auditor"]
    shown = invoke(
        "policy", "matrix", "--role", "owner", "--role", "auditor", "--entity", "keypair", "--scope", "user", *FOLDER
    ).stdout
    lines = [line.rstrip() for line in shown.splitlines()]
    assert lines[0].strip() == "owner"
    assert lines[1].strip() == "│ auditor"
    rows = {
        line.split()[-3]: line.split()[-2:]
        for line in lines[:-1]
        if line.endswith((" ●", " ·", " ✕")) and "   " in line
    }
    assert rows["create"] == ["●", "·"]
    assert rows["get"] == ["●", "●"]
    assert rows.keys() == {row["cell"]["operation"] for row in some["rows"]}
    assert shown.splitlines()[-1].startswith("● allowed   ✕ denied by name   · no rule allows it")
    assert "\x1b" not in shown, "colours are for terminals"


def test_what_a_folder_cannot_tell_ends_in_one_line(tmp_path: Path) -> None:
    for arguments, hint in (
        (("who-can", "domain_search_user"), "Did you mean 'domain_search_users'?"),
        (("who-can", "domain_search_users", "domain:research"), "add --server"),
        (("what-can", "domain_admim"), "Did you mean 'domain_admin'?"),
        (("what-can", "user:01a20631-328d-73a3-bcff-f85b1158e9d0"), "add --server"),
        (("what-can", "auditor", "domain:research"), "add --server"),
        (("matrix", "--scope", "domain:research"), "add --server"),
        (("matrix", "--entity", "spaceship"), "no entity 'spaceship'"),
        (("matrix", "--role", "cook"), "'cook' is no role"),
        (("matrix", "--version", "0" * 64), "add --server"),
        (("matrix", "--server", "--version", "0" * 64), "not about both"),
    ):
        assert hint in in_one_line(invoke("policy", *arguments, *FOLDER))
    assert "cannot be read as a folder" in in_one_line(invoke("policy", "matrix", "--folder", str(tmp_path / "gone")))


def test_both_doors_give_the_same_answer_about_roles(server: Installation) -> None:
    active = server.folder / "policies"
    for arguments in (("who-can", "domain_search_users"), ("what-can", "domain_admin+auditor"), ("matrix",)):
        asked = server.run("policy", *arguments, "--server", *JSON)
        assert asked.exit_code == 0, asked.output
        assert json.loads(asked.stdout) == told(*arguments, folder=active), arguments
        digest = told(*arguments, folder=active)["policy"]
        stored = server.run("policy", *arguments, "--server", "--version", digest[:12], *JSON)
        assert json.loads(stored.stdout) == told(*arguments, folder=active), arguments
        sent = server.run("policy", *arguments, "--server", *FOLDER, *JSON)
        assert json.loads(sent.stdout) == told(*arguments), arguments


def test_the_server_tells_of_people(server: Installation) -> None:
    who = server.api("GET", "/auth/whoami")
    root = json.loads(who.stdout)["id"]
    for number in range(3):
        given = ("-F", f"username=bee{number}", "-F", f"email=bee{number}@example.org", "-F", "password=a bee's comb")
        assert server.api("POST", "/domains/default/users", *given).exit_code == 0
    asked = ("policy", "who-can", "domain_lookup_user", "domain:default", "--server")
    answer = json.loads(server.run(*asked, *JSON).stdout)
    assert {one["username"] for one in answer["people"]} >= {"root", "bee0", "bee1", "bee2"}
    few = json.loads(server.run(*asked, "--limit", "2", *JSON).stdout)
    assert few["people"] == answer["people"][:2]
    assert few["next_cursor"]
    shown = server.run(*asked).stdout
    assert re.search(rf"● +{root} +root +domain_member, superadmin ", shown), shown
    reaches = json.loads(server.run("policy", "what-can", f"user:{root}", "--server", *JSON).stdout)["reaches"]
    assert [reach["scope"].partition(":")[0] for reach in reaches] == ["admin", "domain", "user"]
    shown = server.run("policy", "matrix", "--server", "--scope", "domain:default", "--entity", "user").stdout
    assert "The people of domain:default" in shown
    assert re.search(r"^ +(│ )*bee1$", shown, re.MULTILINE)


def test_a_question_that_means_nothing_ends_with_2_through_either_door(server: Installation) -> None:
    lost = server.run("policy", "who-can", "domain_search_users", "domain:atlantis", "--server")
    assert (lost.exit_code, lost.stdout) == (2, "")
    assert "policy-who-can-unknown-scope" in lost.stderr
