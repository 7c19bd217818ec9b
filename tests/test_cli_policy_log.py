"""The commands that answer from a file of the audit log: ``policy replay``, ``policy unused`` and ``policy draft``."""

import gzip
import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actions.authorization.source import read_folder
from actions.entities import permissions_by_action, whole_vocabulary
from audit.record import canonical
from tests.commands import POLICIES, amend, in_one_line, invoke
from tests.policy.support import index_of

INDEX = index_of(read_folder(POLICIES), whole_vocabulary())
NOW = datetime.now(UTC)


def record(action: str, *roles: str, who: str = "user:mia", at: datetime = NOW) -> dict[str, Any]:
    said = INDEX.decide(frozenset(roles), permissions_by_action()[action])
    return {
        "at": at,
        "phase": "done",
        "action": action,
        "principal": {"kind": "user", "name": who},
        "scope": {"type": permissions_by_action()[action].scope},
        "decision": {"allowed": said.allowed, "rule": said.rule, "policy": said.policy, "roles": sorted(roles)},
        "uses": [],
    }


LOG = [
    record("user_user", "owner"),
    record("user_user", "owner", at=NOW - timedelta(days=10)),
    record("domain_search_users", "domain_member"),
    record("domain_search_users", "domain_admin", "domain_member", who="user:dana"),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(canonical(each) + b"\n" for each in LOG))
    return path


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    folder = tmp_path / "candidate"
    shutil.copytree(POLICIES, folder)
    amend(folder / "user.csv", "p, owner, user, user, get,             allow\n", "")
    return folder


def answer(*arguments: str, code: int = 0, **more: Any) -> Mapping[str, Any]:
    done = invoke("policy", *arguments, "--format", "json", **more)
    assert (done.exit_code, done.stderr) == (code, "")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_without_a_difference_replay_ends_with_0(log: Path) -> None:
    done = invoke("policy", "replay", str(POLICIES), "--log", str(log))
    assert (done.exit_code, done.stderr) == (0, "")
    assert "every one of them is decided as it was" in done.stdout
    assert answer("replay", str(POLICIES), "--log", str(log))["same"] == 4


def test_a_difference_is_told_and_ends_with_1(log: Path, candidate: Path) -> None:
    done = invoke("policy", "replay", str(candidate), "--log", str(log))
    assert (done.exit_code, done.stderr) == (1, "")
    assert "2 lost, 0 gained, 2 as before" in done.stdout
    (row,) = [line.split() for line in done.stdout.splitlines() if line.strip().startswith("loss")]
    assert row[1] == "2"
    assert row[-3:] == [LOG[0]["decision"]["rule"], "no", "rule"]
    told = answer("replay", str(candidate), "--log", str(log), code=1)
    (change,) = told["changes"]
    assert (change["turn"], change["principal"], change["action"]) == ("loss", "user:mia", "user_user")


def test_a_log_may_be_packed_or_come_from_standard_input(log: Path, tmp_path: Path) -> None:
    plain = answer("replay", str(POLICIES), "--log", str(log))
    packed = tmp_path / "log.jsonl.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert answer("replay", str(POLICIES), "--log", str(packed)) == plain
    assert answer("replay", str(POLICIES), "--log", "-", input=log.read_text()) == plain


def test_only_the_records_of_a_stretch_of_time_are_replayed(log: Path) -> None:
    for since, count in (("7d", 3), ("2w", 4), ((NOW - timedelta(hours=1)).isoformat(), 3)):
        assert answer("replay", str(POLICIES), "--log", str(log), "--since", since)["reach"]["records"] == count
    assert answer("replay", str(POLICIES), "--log", str(log), "--until", "7d")["reach"]["records"] == 1


@pytest.mark.parametrize("span", [("--since", "9999-12-30"), ("--since", "2d", "--until", "3d")])
def test_nothing_to_go_by_is_no_answer(log: Path, span: tuple[str, ...], tmp_path: Path) -> None:
    """A broken export must not look like a policy that changes nothing."""
    told = in_one_line(invoke("policy", "replay", str(POLICIES), "--log", str(log), *span))
    assert "there is nothing" in told
    told = in_one_line(invoke("policy", "draft", "--log", str(log), *span, "--out", str(tmp_path / "out")))
    assert "there is nothing" in told
    assert not (tmp_path / "out").exists()
    assert "there is nothing to go by" in in_one_line(invoke("policy", "unused", "--log", "/dev/null"))


@pytest.mark.parametrize("bad", ["yesterday", "7y", "100000w", "-1d", "2026-13-01"])
def test_what_is_no_time_cannot_be_asked_for(log: Path, bad: str) -> None:
    assert "is no time like" in in_one_line(
        invoke("policy", "replay", str(POLICIES), "--log", str(log), f"--since={bad}")
    )


@pytest.mark.parametrize("line", ["{", "[]", "null", '{"at": 3}', '{"at": "2999-01-01T00:00:00Z"}', "\x00"])
def test_a_line_that_is_no_record_is_named_by_its_number(log: Path, line: str, tmp_path: Path) -> None:
    with log.open("a") as file:
        file.write(f"\n{line}\n")
    for command in (("replay", str(POLICIES)), ("unused", "--folder", str(POLICIES))):
        told = in_one_line(invoke("policy", *command, "--log", str(log)))
        assert f"line 6 of {log} is no audit record: " in told
    out = tmp_path / "out"
    in_one_line(invoke("policy", "draft", "--folder", str(POLICIES), "--log", str(log), "--out", str(out)))
    assert not out.exists()


def test_a_log_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    torn = tmp_path / "torn.gz"
    torn.write_bytes(gzip.compress(canonical(LOG[0]) * 1000)[:-20])
    plain = tmp_path / "plain.gz"
    plain.write_bytes(canonical(LOG[0]))
    for name, why in (
        ("nowhere", "cannot be read: No such file"),
        ("torn.gz", "cannot be read"),
        ("plain.gz", "cannot be"),
    ):
        assert why in in_one_line(invoke("policy", "replay", str(POLICIES), "--log", str(tmp_path / name)))
    assert "cannot be read" in in_one_line(invoke("policy", "replay", str(POLICIES), "--log", str(tmp_path)))


def test_a_candidate_with_errors_cannot_be_replayed(log: Path, candidate: Path) -> None:
    amend(candidate / "user.csv", "p, owner", "p, ovner")
    told = in_one_line(invoke("policy", "replay", str(candidate), "--log", str(log)))
    assert "user.csv" in told
    assert "Did you mean" not in told


def test_the_log_comes_by_one_door(log: Path) -> None:
    for command in (("replay",), ("unused",), ("draft", "--out", "nowhere")):
        told = in_one_line(invoke("policy", *command, "--log", str(log), "--server"))
        assert "not by both" in told


def test_what_nobody_needed_is_listed_and_ends_with_1(log: Path) -> None:
    told = answer("unused", "--folder", str(POLICIES), "--log", str(log), code=1)
    standing = {idle["rule"]["text"].replace(" ", ""): idle["standing"] for idle in told["rules"]}
    assert "p,owner,user,user,get,allow" not in standing
    assert standing["p,owner,user,user,update,allow"] == "unused"
    assert standing["p,anonymous,admin,login,authorize,allow"] == "relied_on"
    assert {idle["role"] for idle in told["roles"]} >= {"auditor", "domain_member"}
    assert told["reach"]["records"] == 4
    assert (
        answer("unused", "--days", "5", "--folder", str(POLICIES), "--log", str(log), code=1)["reach"]["records"] == 3
    )
    shown = invoke("policy", "unused", "--folder", str(POLICIES), "--log", str(log))
    assert shown.exit_code == 1
    assert "a deny that refused nobody, which is no reason to remove it" in shown.stdout
    assert "domain_member" in shown.stdout


def test_a_draft_is_a_folder_that_could_go_live_and_loses_nothing(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "draft"
    told = answer("draft", "--folder", str(POLICIES), "--log", str(log), "--out", str(out))
    assert read_folder(out).digest == told["digest"]
    assert invoke("policy", "check", str(out)).exit_code == 0
    assert answer("replay", str(out), "--log", str(log))["same"] == 4
    shown = invoke("policy", "draft", "--folder", str(POLICIES), "--log", str(log), "--out", str(tmp_path / "second"))
    assert shown.exit_code == 0
    assert f"version {told['digest'][:12]}" in shown.stdout


def test_a_draft_never_overwrites_anything(log: Path, tmp_path: Path) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "mine").write_text("kept")
    arguments = ("policy", "draft", "--folder", str(POLICIES), "--log", str(log), "--out")
    for place in (full, full / "mine"):
        assert "is there already" in in_one_line(invoke(*arguments, str(place)))
    assert [path.name for path in full.iterdir()] == ["mine"]
    assert invoke(*arguments, str(empty)).exit_code == 0
