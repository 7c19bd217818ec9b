"""``chamberlain policy test`` on a folder: what it says, and how it ends."""

import json
import shutil
from pathlib import Path

import pytest

from tests.commands import POLICIES, amend, in_one_line, invoke

SEARCH = "p, domain_member, domain, user, search, allow\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(POLICIES, tmp_path / "policies"))


def append(path: Path, text: str) -> int:
    """The number of the line that was added."""
    with path.open("a") as file:
        file.write(text)
    return path.read_text().count("\n")


def test_cases_that_hold_end_well(folder: Path) -> None:
    done = invoke("policy", "test", str(folder), "--coverage", "--mutation")
    assert (done.exit_code, done.stderr) == (0, "")
    whole, coverage, mutation = done.stdout.splitlines()
    assert whole.endswith("all hold")
    assert coverage.startswith("coverage: 100%")
    assert mutation.startswith("mutation: 100%")
    assert "all hold" in invoke("policy", "test", CHAMBERLAIN_POLICY_DIR=str(folder)).stdout


def test_a_failure_shows_what_was_wanted_what_came_and_by_which_rule(folder: Path) -> None:
    line = append(folder / "domain.csv", SEARCH)
    done = invoke("policy", "test", str(folder), "--mutation")
    assert done.exit_code == 1
    place, *about, whole, mutation = done.stdout.splitlines()
    assert place.startswith("tests/domain.yaml:")
    assert place.endswith(": domain_member, domain:user:search")
    assert [each.split(maxsplit=1) for each in about[1:]] == [
        ["expected", "not allowed"],
        ["got", f"allowed; domain.csv:{line}: {SEARCH.strip()}"],
    ]
    assert whole.endswith("1 failed")
    assert mutation == "mutation: not measured while a case fails"


def test_a_program_is_told_the_same(folder: Path) -> None:
    line = append(folder / "domain.csv", SEARCH)
    told = json.loads(invoke("policy", "test", str(folder), "--format", "json").stdout)
    (failure,) = told["failures"]
    assert failure["cell"] == {"scope": "domain", "entity": "user", "operation": "search"}
    assert (failure["expected"], failure["got"]) == ("refuse", "allow")
    assert failure["rule"] == {"file": "domain.csv", "line": line, "text": SEARCH.strip()}
    assert (told["coverage"], told["mutation"]) == (None, None)


def test_what_no_case_reaches_or_notices_is_named_and_a_threshold_decides(folder: Path) -> None:
    granted = (
        "audit_partition: [list, archive, drop]\n      audit_record: [tail, export]\n"
        "      installation: [reseal]\n      policy: [replay]"
    )
    whole = f"[admin, domain, project, user]\n    allow:\n      {granted}\n"
    amend(folder / "tests" / "system.yaml", whole, "[domain, project, user]\n")
    asked = ("policy", "test", str(folder))
    assert invoke(*asked).exit_code == 0
    unreached = invoke(*asked, "--coverage")
    assert unreached.exit_code == 1
    assert "no case reaches: p, system_operator,  admin, audit_record, tail,      allow" in unreached.stdout
    assert invoke(*asked, "--coverage", "--threshold", "95").exit_code == 0
    survived = invoke(*asked, "--mutation", "--mutation-threshold", "100")
    assert survived.exit_code == 1
    assert "no case fails with it left out: p, system_operator" in survived.stdout
    assert "no case fails with any action: p, system_operator" in survived.stdout
    assert invoke(*asked, "--mutation").exit_code == 0
    assert invoke(*asked, "--threshold", "101").exit_code == 2


def test_cases_that_cannot_be_read_are_no_failures(folder: Path) -> None:
    amend(folder / "tests" / "user.yaml", "whoami", "whoamI")
    done = invoke("policy", "test", str(folder))
    assert done.exit_code == 2
    mistake, hint = done.stdout.splitlines()
    assert mistake.startswith("tests/user.yaml:")
    assert mistake.endswith("'whoamI' is no known action of 'user' here")
    assert hint == "    Did you mean 'whoami'?"
    assert done.stderr == "chamberlain: the cases cannot be read, so none of them was asked\n"


def test_a_policy_without_cases_or_with_errors_is_not_tested(folder: Path) -> None:
    shutil.rmtree(folder / "tests")
    assert "there are no cases" in in_one_line(invoke("policy", "test", str(folder)))
    append(folder / "user.csv", "p, owner, user, user, gett, allow\n")
    assert "policy check" in in_one_line(invoke("policy", "test", str(folder)))
    assert "nowhere" in in_one_line(invoke("policy", "test", str(folder / "nowhere")))


def test_a_check_refuses_what_fails_a_case(folder: Path) -> None:
    line = append(folder / "domain.csv", SEARCH)
    done = invoke("policy", "check", str(folder))
    assert done.exit_code == 1
    assert f"domain.csv:{line} allows 'domain_member' domain:user:search" in done.stdout
    assert "may not go live: 1 error" in done.stdout
