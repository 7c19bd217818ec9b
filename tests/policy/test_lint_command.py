"""``chamberlain policy check``: what it prints for people, editors and programs, and the hooks on its page."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from rich.cells import cell_len
from rich.console import Console

from actions.authorization.check import CheckResult, check
from actions.authorization.check_answer import FINDINGS_AT_MOST, PolicyCheck, answer_of
from actions.authorization.linting.all_rules import LINT_RULES
from actions.authorization.source import PolicySource
from actions.entities import whole_vocabulary
from server.cli.policy.check_view import excerpt, show_table
from server.cli.policy.sarif import sarif
from tests.commands import POLICIES, PROGRAM, ROOT, in_one_line, invoke
from tests.policy.lint_examples import BASE

SPOILT = "p, domain_admin, domain, user, delete, alow\n# 한국어 turned \u202e\n"


def keep(folder: Path, **appended: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in BASE.files.items():
        (folder / name).write_bytes(content + appended.get(name.partition(".")[0], "").encode())
    return folder


def checked(**appended: str) -> PolicyCheck:
    files = {name: content + appended.get(name.partition(".")[0], "").encode() for name, content in BASE.files.items()}
    source = PolicySource(files)
    return answer_of(check(source, whole_vocabulary()), source)


# -- for people --------------------------------------------------------------------------------------------------------


def shown(answer: PolicyCheck, width: int) -> list[str]:
    out = io.StringIO()
    show_table(Console(file=out, width=width, force_terminal=True, no_color=True, highlight=False), "policies", answer)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()


@pytest.mark.parametrize("width", [40, 60, 200])
def test_a_terminal_shows_the_line_with_a_mark_under_the_place(width: int) -> None:
    lines = shown(checked(domain=SPOILT), width)
    assert lines[0] == "policies/domain.csv"
    assert all(cell_len(line) <= width for line in lines[:-1])
    for place, wanted in (("4:40 error", "alow"), ("5:14 error", "\N{REPLACEMENT CHARACTER}")):
        head = next(number for number, line in enumerate(lines) if place in line)
        mark = next(number for number, line in enumerate(lines) if number > head and line.strip() == "^")
        before = cell_len(lines[mark]) - 1
        above = lines[mark - 1]
        start = next(index for index in range(len(above)) if cell_len(above[:index]) == before)
        assert above[start:].startswith(wanted)
    assert "may not go live: 2 errors, 0 warnings" in lines[-1]


@pytest.mark.parametrize("width", [20, 33, 60])
def test_a_long_line_is_shown_where_the_mistake_is(width: int) -> None:
    for text in ("한글 " * 60 + "wrong" + " word" * 60, "x" * 200 + "wrong"):
        column = text.index("wrong") + 1
        part = excerpt(text, column, width)
        assert part is not None
        assert cell_len(part[0]) <= width
        index = next(index for index in range(len(part[0])) if cell_len(part[0][:index]) == part[1])
        assert part[0][index:].startswith("wrong")


def test_nothing_in_a_file_can_steer_the_terminal() -> None:
    answer = checked(domain="p, \x1b[2Jadmin, \x9b2J, \u202e, x, y\n", roles='"a\\e[2J\\nb": {}\n')
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", "".join(shown(answer, 80)))
    for finding in answer.findings:
        assert (finding.message + finding.hint).isprintable()


def test_without_a_terminal_there_is_one_line_for_each_finding(tmp_path: Path) -> None:
    folder = keep(tmp_path / "policies", domain=SPOILT)
    for option in ((), ("--format", "text")):
        result = invoke("policy", "check", str(folder), *option)
        assert result.exit_code == 1
        first, hint, second, _, last = result.stdout.splitlines()
        assert first == f"{folder}/domain.csv:4:40: error: 'alow' is no known effect [effect]"
        assert hint == "    Did you mean 'allow'?"
        assert second.startswith(f"{folder}/domain.csv:5:14: error: There is a character that turns text around")
        assert "may not go live: 2 errors, 0 warnings" in last


def test_a_strict_check_takes_a_warning_for_a_no(tmp_path: Path) -> None:
    folder = keep(tmp_path / "policies", domain="p, domain_admin, domain, user, lookup, allow\n")
    assert invoke("policy", "check", str(folder)).exit_code == 0
    assert invoke("policy", "check", str(folder), "--strict").exit_code == 1
    assert invoke("policy", "check", str(POLICIES), "--strict").exit_code == 0


def test_options_that_exclude_each_other_end_in_one_line(tmp_path: Path) -> None:
    assert "--oracle" in in_one_line(invoke("policy", "check", "--server", "--oracle"))
    assert "--version" in in_one_line(invoke("policy", "check", "--server", str(tmp_path), "--version", "f" * 64))
    assert "--server" in in_one_line(invoke("policy", "check", "--version", "f" * 64))


def test_a_file_whose_name_is_no_text_is_named_all_the_same(tmp_path: Path) -> None:
    folder = keep(tmp_path / "policies")
    (folder / os.fsdecode(b"d\xe9\x1b.csv")).write_text("p\n")
    for format in ("text", "json", "sarif"):
        result = invoke("policy", "check", str(folder), "--format", format)
        assert result.exit_code == 1
        assert "unknown-file" in result.stdout


def test_more_findings_than_anybody_reads_are_counted() -> None:
    answer = checked(domain="p, domain_admin, domain, user, create, allow\n" * (FINDINGS_AT_MOST + 5))
    assert (answer.warnings, len(answer.findings)) == (FINDINGS_AT_MOST + 5, FINDINGS_AT_MOST)
    assert "policies: ... and 5 more" in shown(answer, 80)


# -- for programs ------------------------------------------------------------------------------------------------------


def test_json_is_the_answer_and_says_the_same_at_each_run(tmp_path: Path) -> None:
    folder = keep(tmp_path / "policies", domain=SPOILT)
    printed = {invoke("policy", "check", str(folder), "--format", "json").stdout for _ in range(2)}
    told = PolicyCheck.model_validate_json(printed.pop())
    assert not printed
    assert told == checked(domain=SPOILT)
    assert [(found.line, found.rule_id) for found in told.findings] == [(4, "effect"), (5, "reordering")]
    assert told.findings[0].text == SPOILT.splitlines()[0]
    sound = PolicyCheck.model_validate_json(invoke("policy", "check", str(POLICIES), "--format", "json").stdout)
    assert sound.compared > 0
    assert sound.may_go_live


def assert_is_sarif(log: dict[str, Any]) -> dict[str, Any]:
    """What the standard asks of a log, as far as this one makes use of it. Returns its run."""
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert run["columnKind"] == "unicodeCodePoints"
    driver = run["tool"]["driver"]
    rules = driver["rules"]
    assert driver["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", driver["semanticVersion"])
    assert [rule["id"] for rule in rules] == list(LINT_RULES)
    for rule in rules:
        assert rule["shortDescription"]["text"]
        assert rule["fullDescription"]["text"]
        assert f"docs/policy-lint.md#{rule['id']}" in rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("error", "warning")
    assert [set(invocation) for invocation in run["invocations"]] == [
        {"executionSuccessful", "toolExecutionNotifications"}
    ]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning")
        assert result["message"]["text"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["region"]["startLine"] >= 1
        assert place["region"]["startColumn"] >= 1
        artifact = place["artifactLocation"]
        assert not re.match(r"[a-z]+:|/", artifact["uri"]), "it is relative to its base"
        assert artifact["uriBaseId"] == "%SRCROOT%" or artifact["uriBaseId"] in run["originalUriBaseIds"]
    for base in run.get("originalUriBaseIds", {}).values():
        assert re.match(r"file:///.*/$", base["uri"])
    return run  # type: ignore[no-any-return]


def test_sarif_names_each_finding_by_rule_and_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path / "my policies", domain=SPOILT)
    monkeypatch.chdir(tmp_path)
    for folder, root in (("my policies", "%SRCROOT%"), (str(tmp_path / "my policies"), "%SRCROOT%")):
        result = invoke("policy", "check", folder, "--format", "sarif")
        assert result.exit_code == 1
        found = assert_is_sarif(json.loads(result.stdout))["results"]
        assert [one["ruleId"] for one in found] == ["effect", "reordering"]
        place = found[0]["locations"][0]["physicalLocation"]
        assert unquote(place["artifactLocation"]["uri"]) == "my policies/domain.csv"
        assert place["artifactLocation"]["uriBaseId"] == root
        assert place["region"] == {"startLine": 4, "startColumn": 40, "snippet": {"text": SPOILT.splitlines()[0]}}


def test_sarif_of_a_folder_elsewhere_says_where_that_is(tmp_path: Path) -> None:
    run = assert_is_sarif(sarif(checked(domain=SPOILT), tmp_path / "policies", ROOT))
    artifact = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact == {"uri": "domain.csv", "uriBaseId": "POLICIES"}
    assert run["originalUriBaseIds"]["POLICIES"]["uri"] == f"{(tmp_path / 'policies').as_uri()}/"


def test_sarif_tells_what_no_line_is_to_blame_for(tmp_path: Path) -> None:
    result = CheckResult("0" * 64, differences=("one",), failure="too slow")
    run = assert_is_sarif(sarif(answer_of(result, PolicySource({})), tmp_path, tmp_path))
    (invocation,) = run["invocations"]
    assert not invocation["executionSuccessful"]
    assert ["one" in note["message"]["text"] for note in invocation["toolExecutionNotifications"]] == [True, False]
    assert [note["level"] for note in invocation["toolExecutionNotifications"]] == ["error", "error"]


# -- the hooks of the page ---------------------------------------------------------------------------------------------


def block(name: str) -> str:
    page = (ROOT / "docs" / "policy-lint.md").read_text()
    (text,) = re.findall(rf"<!-- {name} -->\n```\w+\n(.*?)```", page, flags=re.DOTALL)
    return str(text)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    shutil.copytree(POLICIES, folder / "policies")
    git(folder, "init", "--quiet")
    hook = folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(block("pre-commit hook"))
    hook.chmod(0o755)
    git(folder, "add", ".")
    assert git(folder, "commit", "-m", "The shipped policy").returncode == 0
    return folder


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Git as on a fresh machine: with nobody's settings."""
    environment = {
        "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
        "HOME": str(folder.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "dana@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_hook_refuses_a_commit_of_what_could_not_go_live(repository: Path) -> None:
    rules = repository / "policies" / "user.csv"
    good = rules.read_text()
    rules.write_text(f"{good}p, owner, user, user, get, Deny\n")
    git(repository, "add", ".")
    rules.write_text(good)  # what is committed counts, not what lies in the folder
    refused = git(repository, "commit", "-m", "Deny it")
    assert refused.returncode != 0
    assert "'Deny' is no known effect [effect]" in refused.stdout + refused.stderr
    assert git(repository, "log", "--format=%s").stdout == "The shipped policy\n"
    rules.write_text(f"{good}# what is one's own, and no more\n")
    git(repository, "add", ".")
    assert git(repository, "commit", "-m", "Deny it").returncode == 0
    (repository / "README").write_text("no policy\n")
    git(repository, "add", ".")
    assert git(repository, "commit", "-m", "Say something else").returncode == 0
    assert git(repository, "log", "--format=%s").stdout.splitlines()[:2] == ["Say something else", "Deny it"]


def test_the_other_hooks_of_the_page_run_the_command(repository: Path) -> None:
    (hook,) = yaml.safe_load(block("pre-commit entry"))["repos"][0]["hooks"]
    steps = yaml.safe_load(block("workflow"))["jobs"]["policy"]["steps"]
    (job,) = (step["run"] for step in steps if step.get("run", "").startswith("chamberlain"))
    environment = {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "HOME": str(repository)}
    for command in (hook["entry"], job):
        words = [word for word in shlex.split(command.partition(" > ")[0]) if word != "--oracle"]  # it takes its time
        done = subprocess.run(
            words, cwd=repository, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
    assert re.match(hook["files"], "policies/user.csv")
    assert_is_sarif(json.loads(done.stdout))
    assert sys.executable.startswith(str(PROGRAM.parent))
