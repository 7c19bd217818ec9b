"""The commands that need a server: ``api``, ``audit tail`` and ``recover``, against a real one."""

import asyncio
import json
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog.testing

from actions.authorization.source import read_folder
from audit.note import Verifier
from audit.proof import SUFFIX, Proof
from server.embedded import EmbeddedPostgres, urls_of_running
from server.settings import Settings, load
from server.setup import account, prepare
from tests.commands import (
    PATIENCE,
    POLICIES,
    PROGRAM,
    ROOT,
    Installation,
    amend,
    bare,
    in_one_line,
    installed,
    invoke,
    until,
)


@pytest.fixture(autouse=True)
def _untouched_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands that work on the database set up the logging of their process, which here is everybody's."""
    monkeypatch.setattr("server.cli.local.configure", lambda level: None)
    with structlog.testing.capture_logs():
        yield


# -- api ---------------------------------------------------------------------------------------------------------------


def test_the_three_commands_work_as_they_are_printed(server: Installation) -> None:
    commands = [line.strip() for line in server.said.partition("Try, in another terminal:")[2].splitlines() if line]
    assert len(commands) == 3
    answers = []
    for command in commands:
        done = subprocess.run(
            ["sh", "-c", command], cwd=ROOT, env=bare(), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        answers.append(done.stdout)
    assert json.loads(answers[0])["username"] == "root"
    assert [user["username"] for user in json.loads(answers[1])["items"]] == ["root"]
    assert "admin_search_users" in answers[2], "the one before"


def test_a_first_start_prints_the_credentials_that_it_keeps(server: Installation) -> None:
    for name in ("username", "password", "access_key", "secret_key"):
        assert re.search(rf"^  {name} +{re.escape(server.credentials[name])}$", server.said, re.MULTILINE)


def test_every_way_to_give_a_parameter_reaches_the_server(server: Installation) -> None:
    for number in range(3):
        given = ("-F", f"username=ant{number}", "-F", f"email=ant{number}@example.org", "-F", "password=an ant's nest")
        created = server.api("POST", "/domains/default/users", *given)
        assert created.exit_code == 0, created.stderr
    filter = '{"username": {"starts_with": "ant"}}'
    found = server.api("GET", "/admin/users?offset=1", "--filter", filter, "--order", "username:desc", "--limit", "1")
    page = json.loads(found.stdout)
    assert [user["username"] for user in page["items"]] == ["ant1"]
    assert page["total_count"] == 3
    assert (
        json.loads(server.api("GET", "/admin/users", "-p", f"filter={filter}", "--param", "limit=2").stdout)["limit"]
        == 2
    )


def test_a_field_is_json_if_it_can_be_and_a_text_otherwise(server: Installation) -> None:
    given = ("-F", "echo=true story")
    assert json.loads(server.api("POST", "/auth", *given).stdout) == {"authorized": "yes", "echo": "true story"}
    assert json.loads(server.api("post", "/auth", "-F", 'echo="5"').stdout)["echo"] == "5"
    assert json.loads(server.api("post", "/auth", "-F", "echo=null").stdout)["echo"] is None
    assert server.api("post", "/auth", "-F", "echo=5").exit_code == 1


def test_a_body_comes_from_a_file_or_from_standard_input(server: Installation, tmp_path: Path) -> None:
    body = json.dumps({"echo": "grüße"})
    (tmp_path / "body.json").write_text(body)
    for result in (
        server.api("POST", "/auth", "--input", str(tmp_path / "body.json")),
        server.api("POST", "/auth", "--input", "-", input=body),
    ):
        assert json.loads(result.stdout)["echo"] == "grüße"


def test_a_problem_goes_to_standard_error_with_1(server: Installation) -> None:
    result = server.api("GET", "/domains/nowhere/users")
    assert (result.exit_code, result.stdout) == (1, "")
    problem = json.loads(result.stderr)
    assert problem["status"] == 404
    assert problem["request_id"]


def test_status_and_headers_are_shown_on_request(server: Installation) -> None:
    head, _, body = server.api("GET", "/auth", "-i").stdout.partition("\n\n")
    assert head.startswith("HTTP/1.1 200 OK\n")
    assert "\nx-request-id: " in head
    assert json.loads(body)["authorized"] == "yes"
    refused = server.api("GET", "/domains/nowhere/users", "--include")
    assert refused.stdout == ""
    assert refused.stderr.startswith("HTTP/1.1 404 Not Found\n")


def test_a_head_has_no_body_and_is_a_success(server: Installation) -> None:
    result = server.api("HEAD", "/auth")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_credentials_in_the_environment_come_before_the_file(server: Installation, tmp_path: Path) -> None:
    told = server.credentials
    given = {
        "CHAMBERLAIN_ENDPOINT": told["endpoint"],
        "CHAMBERLAIN_ACCESS_KEY": told["access_key"],
        "CHAMBERLAIN_SECRET_KEY": told["secret_key"],
        "CHAMBERLAIN_DATA_DIR": str(tmp_path),
    }
    assert invoke("api", "GET", "/auth", **given).exit_code == 0
    wrong = invoke("api", "GET", "/auth", **{**given, "CHAMBERLAIN_SECRET_KEY": "not the secret"})
    assert wrong.exit_code == 1
    assert json.loads(wrong.stderr)["status"] == 401
    assert "not the secret" not in wrong.output


def test_an_endpoint_that_is_given_wins(server: Installation) -> None:
    elsewhere = "http://127.0.0.1:1"
    assert elsewhere in in_one_line(server.api("GET", "/auth", "--endpoint", elsewhere))
    assert elsewhere in in_one_line(server.api("GET", "/auth", CHAMBERLAIN_ENDPOINT=elsewhere))
    assert "must look like" in in_one_line(server.api("GET", "/auth", "--endpoint", "ftp://x"))
    here = server.credentials["endpoint"]
    assert server.api("GET", "/auth", "--endpoint", here, CHAMBERLAIN_ENDPOINT=elsewhere).exit_code == 0


def test_a_proxy_is_not_asked_for_this_machine(server: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert server.api("GET", "/auth").exit_code == 0


def test_a_credentials_file_that_others_can_read_is_refused(server: Installation, tmp_path: Path) -> None:
    copy = tmp_path / "credentials.json"
    shutil.copy(server.credentials_path, copy)
    copy.chmod(0o644)
    told = in_one_line(invoke("api", "GET", "/auth", CHAMBERLAIN_DATA_DIR=str(tmp_path)))
    assert "chmod 600" in told
    assert server.credentials["secret_key"] not in told


# -- policy shadow -----------------------------------------------------------------------------------------------------


def test_a_shadow_is_begun_looked_at_and_ended(server: Installation, tmp_path: Path) -> None:
    def versions() -> list[str]:
        found = json.loads(server.api("GET", "/admin/policies", "--order", "created_at:desc").stdout)["items"]
        return [item["id"] for item in sorted(found, key=lambda item: not item["active"])]

    def shadow(*arguments: str, code: int = 0) -> str:
        done = server.run("policy", "shadow", *arguments)
        assert done.exit_code == code, done.output
        return done.stdout

    (shipped,) = versions()
    assert shadow("report") == "No policy version has ever been shadowed.\n"
    assert server.run("policy", "shadow", "stop", "--reason", "there is none").exit_code == 1
    shape = POLICIES / "user.csv"
    shutil.copytree(server.folder / "policies", tmp_path / "candidate")
    with (tmp_path / "candidate" / "user.csv").open("a") as file:
        file.write("p, superadmin, user, user, get, deny\n")
    in_one_line(server.run("policy", "shadow", "start", "abcdef", "--reason", "nothing begins so"))
    in_one_line(server.run("policy", "shadow", "start", "no-such-folder", "--reason", "nothing is there"))
    stored = json.loads(shadow("start", str(tmp_path / "candidate"), "--reason", "never seen", "--format", "json"))
    (candidate,) = (version for version in versions() if version != shipped)
    assert stored["candidate"] == candidate
    version = json.loads(server.api("GET", f"/admin/policies/{candidate}").stdout)
    assert (version["upload_reason"], version["active"]) == ("never seen", False)

    assert server.run("policy", "shadow", "start", shipped[:8], "--reason", "it decides already").exit_code == 1
    begun = shadow("start", candidate[:8], "--reason", "whom [b]would[/b] it shut out?")
    assert begun.startswith(f"shadow of {candidate[:12]}, since ")
    assert "whom [b]would[/b] it shut out?" in begun
    again = json.loads(shadow("start", str(tmp_path / "candidate"), "--reason", "by its folder", "--format", "json"))
    assert (again["candidate"], again["ended_at"]) == (candidate, None)

    def seen() -> bool:
        assert server.api("GET", "/users/me").exit_code == 0
        told = json.loads(server.run("policy", "shadow", "report", "--format", "json").stdout)
        return bool(told["differences"])

    until(seen)
    place = f"user.csv:{len(shape.read_text().splitlines()) + 1}"
    told = shadow("report", code=1)
    (row,) = [line for line in told.splitlines() if "user:user:get" in line]
    assert re.match(
        rf"\s*\d+ +lost +domain_member \+ owner \+ superadmin +user:user:get +superadmin\.csv:\d+ +{place} ", row
    )
    assert re.search(r"^\d+ decisions compared: \d+ would be lost, 0 gained$", told, re.MULTILINE)
    ended = shadow("stop", "--reason", "seen enough")
    assert ended.splitlines()[-1].endswith(": seen enough")
    assert "ended " in shadow("report", code=1), "what it saw is kept"


# -- audit tail, recover -----------------------------------------------------------------------------------------------


def test_reading_the_log_is_recorded_as_the_operators_doing(server: Installation) -> None:
    server.tail()
    record = server.tail()[-1]
    assert record["action"] == "admin_tail_audit_record"
    assert record["principal"] == {"kind": "system", "name": "system:operator", "credential": account()}
    assert record["result"] == "succeeded"
    assert record["decision"]["rule"].startswith("superadmin.csv:")


def test_the_tail_is_the_latest_records_the_newest_last(server: Installation) -> None:
    assert server.api("GET", "/domains/nowhere/users").exit_code == 1
    assert len(server.run("audit", "tail", "-n", "3", "--format", "json").stdout.splitlines()) == 3
    *_, refused, read = records = server.tail(10)
    assert [record["at"] for record in records] == sorted(record["at"] for record in records)
    assert (refused["action"], refused["result"]) == ("domain_search_users", "denied")
    assert read["action"] == "admin_tail_audit_record"
    table = server.run("audit", "tail", "--count", "10").stdout
    assert re.search(r"user …\w{12} +domain_search_users +domain .*denied", table)
    assert "nowhere" not in table, "what leads nowhere may be anybody's name"


def test_the_server_answers_the_cases_of_a_folder_as_the_command_does_alone(server: Installation) -> None:
    asked = ("policy", "test", str(POLICIES), "--coverage", "--mutation", "--format", "json")
    alone, there = server.run(*asked), server.run(*asked, "--server")
    assert (alone.exit_code, there.exit_code) == (0, 0), there.stderr
    assert json.loads(there.stdout) == json.loads(alone.stdout)
    in_force = server.run("policy", "test", "--server")
    assert in_force.exit_code == 2
    assert in_force.stderr == "chamberlain: there are no cases: a policy keeps them in tests/*.yaml\n"
    unreachable = server.run("policy", "test", "--endpoint", "http://127.0.0.1:9")
    assert (unreachable.exit_code, unreachable.stdout) == (2, "")


def test_without_its_line_in_the_policy_even_the_operator_reads_nothing(server: Installation) -> None:
    rules = server.folder / "policies" / "superadmin.csv"
    shipped = rules.read_text()
    amend(rules, "p, system_operator,  admin, audit_record, tail,      allow\n", "")
    try:
        until(lambda: server.run("audit", "tail").exit_code == 1)
        done = server.run("audit", "tail")
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr == "chamberlain: the policy does not allow it: no rule allows it\n"
    finally:
        rules.write_text(shipped)
    until(lambda: server.run("audit", "tail").exit_code == 0)
    assert {"denied", "succeeded"} <= {
        record["result"] for record in server.tail() if record["action"] == "admin_tail_audit_record"
    }


def test_a_policy_is_checked_by_the_running_server(server: Installation, tmp_path: Path) -> None:
    folder = server.folder / "policies"
    active = server.run("policy", "check", "--server")
    assert active.exit_code == 0, active.stderr
    assert active.stdout.startswith("active: version ")
    here, there = (
        server.run("policy", "check", str(folder), *option, "--format", "json") for option in ((), ("--server",))
    )
    assert json.loads(here.stdout) == json.loads(there.stdout)
    named = server.run("policy", "check", "--server", "--version", json.loads(here.stdout)["digest"])
    assert named.exit_code == 0
    copy = Path(shutil.copytree(folder, tmp_path / "draft"))
    amend(copy / "user.csv", ", allow\n", ", Allow\n")
    wrong = server.run("policy", "check", str(copy), "--server")
    assert wrong.exit_code == 1
    assert "'Allow' is no known effect" in wrong.stdout
    refused = server.run("policy", "check", "--server", "--version", "0" * 64)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "policy-check-unknown-version" in refused.stderr


def test_the_running_server_explains_what_a_user_may_and_would_by_a_draft(server: Installation) -> None:
    given = ("-F", "username=ada", "-F", "email=ada@example.org", "-F", "password=a long enough one")
    ada = json.loads(server.api("POST", "/domains/default/users", *given).stdout)["id"]
    asked = ("policy", "explain", f"user:{ada}", "domain_search_users", "domain:default", "--server")
    denied = server.run(*asked)
    assert denied.exit_code == 1
    assert denied.stdout.startswith(f"DENIED  user:{ada}: domain:user:search in domain:default\n")
    assert re.search(
        r"lets in whoever holds domain_member: \d+ other users? here.*; at most \d+ anywhere", denied.stdout
    )
    told = json.loads(server.run(*asked, "--format", "json").stdout)
    draft = server.folder / "draft"
    shutil.copytree(server.folder / "policies", draft)
    (line,) = (grant for grant in told["grants"] if grant["kind"] == "line")
    with (draft / line["file"]).open("a") as rules:
        rules.write(f"{line['line']}\n")
    allowed = server.run(*asked, "--folder", str(draft))
    assert allowed.exit_code == 0
    assert f"by {draft}/domain.csv:" in allowed.stdout
    assert server.api("PATCH", f"/admin/users/{ada}", "-F", "status=inactive").exit_code == 0
    refused = server.run(*asked, "--folder", str(draft))
    assert refused.exit_code == 1
    assert refused.stdout.startswith("REFUSED ")
    assert "But: The user is inactive, so none of its credentials is good." in refused.stdout.splitlines()
    assert server.api("PATCH", f"/admin/users/{ada}", "-F", "status=active").exit_code == 0
    stored = json.loads(server.run(*asked, "--version", told["policy"], "--format", "json").stdout)
    assert stored == told
    unknown = server.run("policy", "explain", "user:ada", "domain_search_users", "domain:default", "--server")
    assert "policy-explain-unknown-principal" in in_one_line(unknown)


def test_recovery_gives_a_way_back_in_while_the_server_runs(server: Installation) -> None:
    given = ("-F", "username=bea", "-F", "email=bea@example.org", "-F", "password=busy as a bee")
    bea = json.loads(server.api("POST", "/domains/default/users", *given).stdout)["id"]
    assert server.api("PATCH", f"/admin/users/{bea}", "-F", "status=inactive").exit_code == 0
    before = server.credentials_path.read_bytes()
    try:
        done = server.run("recover", "bea")
        assert (done.exit_code, done.stderr) == (0, "")
        told = server.credentials
        assert stat.S_IMODE(server.credentials_path.stat().st_mode) == 0o600
        assert told["username"] == "bea"
        assert all(told[name] in done.stdout for name in ("username", "password", "access_key", "secret_key"))
        who = json.loads(server.api("GET", "/auth/whoami").stdout)
    finally:
        server.credentials_path.write_bytes(before)
    assert (who["username"], "superadmin" in [binding["role"] for binding in who["bindings"]]) == ("bea", True)
    records = server.tail()
    (recovery,) = (record for record in records if record["action"] == "admin_recover_installation")
    assert recovery["principal"]["name"] == "system:recovery"
    assert recovery["target"]["id"] == bea
    assert not any(told[name] in json.dumps(records) for name in ("password", "secret_key"))


def test_nobody_is_recovered_who_does_not_exist(server: Installation) -> None:
    before = server.credentials
    done = server.run("recover", "ghost")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "chamberlain: There is no user of that name.\n"
    assert server.credentials == before


@pytest.mark.e2e
def test_a_stopped_server_has_no_tail_but_a_way_back_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with installed() as installation:
        for name, value in installation.environment.items():
            monkeypatch.setenv(name, value)
        asyncio.run(set_up(load()))
        old = installation.credentials
        assert "Start it with `chamberlain serve`" in in_one_line(installation.run("audit", "tail"))
        assert installation.run("recover", "root").exit_code == 0
        assert installation.credentials["secret_key"] != old["secret_key"]
        assert asyncio.run(urls_of_running(load().data_dir)) is None, "recovery left its database running"


async def set_up(settings: Settings) -> None:
    """What the first start does before its workers."""
    postgres = EmbeddedPostgres(settings.data_dir, system_dir=settings.system_dir)
    urls = await postgres.start()
    try:
        assert await prepare(settings, urls.migrator, urls.application)
        assert await urls_of_running(settings.data_dir) == urls
    finally:
        await postgres.stop()


# -- audit show, audit tail -f ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def change(server: Installation) -> dict[str, str]:
    """A change of two personal fields of a user, and a reset of its password."""
    given = ("-F", "username=cleo", "-F", "email=cleo@example.org", "-F", "password=a long enough one")
    cleo = json.loads(server.api("POST", "/domains/default/users", *given).stdout)["id"]
    path = f"/domains/default/users/{cleo}"
    assert server.api("PATCH", path, "-F", "description=Night shift", "-F", "full_name=Cleo\u202e Fox").exit_code == 0
    assert server.api("POST", f"{path}/reset_password", "-F", "password=a PLANTED password").exit_code == 0
    told = {record["action"]: record["id"] for record in server.tail()}
    return {"user": cleo, "update": told["domain_update_user"], "reset": told["domain_reset_password_user"]}


def test_an_action_is_told_as_a_person_wants_to_hear_it(server: Installation, change: dict[str, str]) -> None:
    done = server.run("audit", "show", change["update"])
    assert (done.exit_code, done.stderr) == (0, "")
    head, *lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert head == "domain_update_user  succeeded"
    told = [(line[:9].strip(), line[9:]) for line in lines]
    first = {name: text for name, text in told if name}
    assert first["what"] == "Change a user in a domain."
    assert re.fullmatch(rf"user [0-9a-f-]{{36}}, with the credential {server.credentials['access_key']}", first["who"])
    assert first["from"] == "127.0.0.1"
    assert first["where"].startswith("domain ")
    assert re.fullmatch(rf"user {change['user']}, of domain [0-9a-f-]{{36}}", first["on"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} UTC", first["when"])
    assert re.fullmatch(r"allowed by superadmin\.csv:\d+, as domain_member, superadmin", first["decided"])
    assert re.fullmatch(r"[0-9a-f]{64}", first["policy"])
    assert first["ended"] == "succeeded"
    place = [name for name, _ in told].index("changed")
    assert sorted(text for _, text in told[place : place + 2]) == [
        'description  "" \N{RIGHTWARDS ARROW} "Night shift" (personal)',
        'full_name    "" \N{RIGHTWARDS ARROW} "Cleo\N{REPLACEMENT CHARACTER} Fox" (personal)',
    ]
    assert "\x1b" not in done.stdout, "colour is for terminals"


def test_a_secret_is_told_to_have_changed_and_no_more(server: Installation, change: dict[str, str]) -> None:
    done = server.run("audit", "show", change["reset"])
    assert re.search(r"password_hash +changed; what it was and is stands nowhere", done.stdout)
    assert "PLANTED" not in done.stdout


def test_an_action_is_told_to_programs_as_it_is_answered(server: Installation, change: dict[str, str]) -> None:
    shown = json.loads(server.run("audit", "show", change["update"], "--format", "json").stdout)
    assert shown == json.loads(server.api("GET", f"/admin/audit-records/{change['update']}").stdout)
    within = json.loads(server.run("audit", "show", change["update"], "--domain", "default", "--format", "json").stdout)
    assert within["id"] == change["update"]


def test_an_action_that_is_not_there_is_a_problem_with_1(server: Installation, change: dict[str, str]) -> None:
    for arguments in (("no-id",), ("../users",), (change["update"], "--domain", "nowhere")):
        done = server.run("audit", "show", *arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert json.loads(done.stderr)["status"] == 404


def test_an_action_is_told_with_its_proof_and_who_vouches_for_it(server: Installation, change: dict[str, str]) -> None:
    lines = server.run("audit", "show", change["update"]).stdout.splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("proof"))
    assert re.fullmatch(r"proof    record \d+ of \d+ in chamberlain/[0-9a-f]{16}, checked here", lines[place].rstrip())
    assert re.fullmatch(r" {9}signed by chamberlain/[0-9a-f]{16}, key [0-9a-f]{8}", lines[place + 1].rstrip())
    within = server.run("audit", "show", change["update"], "--domain", "default").stdout
    assert "proof" not in within


def test_a_record_is_proven_by_a_file_that_needs_nobody(
    server: Installation, change: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / f"update{SUFFIX}"
    done = server.run("audit", "prove", change["update"], "-o", str(file))
    assert (done.exit_code, done.stdout) == (0, "")
    proof = Proof.read(file.read_bytes().decode())
    assert proof.holds()
    assert json.loads(proof.leaf)["id"] == change["update"]
    assert re.match(rf"record {proof.index} of {proof.checkpoint.size} in ", done.stderr)
    keys = server.run("audit", "keys")
    assert (keys.exit_code, keys.stderr) == (0, "")
    told = [Verifier.read(line) for line in keys.stdout.splitlines()]
    assert [vouched.by for vouched in proof.note.vouched(told)] == told
    for named in (change["update"], str(proof.index), f"#{proof.index}"):
        shown = server.run("audit", "prove", named)
        assert json.loads(Proof.read(shown.stdout).leaf)["id"] == change["update"]


def test_what_cannot_be_proven_is_a_problem_with_1(server: Installation, tmp_path: Path) -> None:
    file = tmp_path / "nothing"
    done = server.run("audit", "prove", "01a2062f-e864-7466-8cc7-a775a97811ca", "-o", str(file))
    assert (done.exit_code, done.stdout) == (1, "")
    assert json.loads(done.stderr)["status"] == 404
    assert not file.exists()
    lost = server.run("audit", "prove", server.tail(20)[-1]["id"], "-o", str(tmp_path / "no" / "where"))
    assert lost.exit_code == 2
    assert "cannot be written" in lost.stderr


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_tail_goes_on_until_it_is_interrupted_and_says_when_it_ends(server: Installation, form: str) -> None:
    following = subprocess.Popen(
        [PROGRAM, "audit", "tail", "-n", "1", "-f", "--format", form],
        env=bare(**server.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    try:
        if form == "table":
            assert following.stdout.readline().startswith("time (UTC) ")
        assert following.stdout.readline().startswith("{") is (form == "json")
        assert server.api("GET", "/domains/default/users").exit_code == 0
        while "domain_search_users" not in (line := following.stdout.readline()):
            assert line, "it ended by itself"
        following.send_signal(signal.SIGINT)
        assert following.wait(PATIENCE) == 0
        assert following.stderr is not None
        assert following.stderr.read() == ""
    finally:
        following.kill()
        following.wait()
        following.stdout.close()
        if following.stderr is not None:
            following.stderr.close()
    ends = [record for record in server.tail() if record["phase"] in ("opened", "closed")][-2:]
    assert [record["phase"] for record in ends] == ["opened", "closed"]
    assert ends[1]["stream"]["parts"] >= 2
    assert ends[0]["id"] == ends[1]["id"]


# -- evidence ----------------------------------------------------------------------------------------------------------


def started(server: Installation) -> str:
    """A moment at which everything of the first start was there: when it said so."""
    return datetime.fromtimestamp((server.folder / "said").stat().st_mtime, UTC).isoformat()


def test_evidence_is_handed_out_and_checked_without_a_server(server: Installation, tmp_path: Path) -> None:
    folder, question, moment = tmp_path / "evidence", ("admin_create_user", "admin"), started(server)

    def handed_out() -> bool:
        asked = server.run("policy", "who-could", *question, "--at", moment, "--out", str(folder))
        assert asked.exit_code == 0 or "not-in-history" in asked.stderr, asked.stderr
        return asked.exit_code == 0

    until(handed_out)  # once the moment is settled
    told = server.run("policy", "who-could", *question, "--at", moment)
    assert re.search(r"^ user:\S+ +superadmin\.csv:\d+ +superadmin \(admin\) *$", told.stdout, re.MULTILINE)
    again = server.run("policy", "who-could", *question, "--at", moment, "--format", "json")
    assert again.stdout == (folder / "who-could.json").read_text()

    assert invoke("policy", "verify", str(folder)).exit_code == 0
    key = tmp_path / "trusted.pub"
    (folder / "evidence.pub").rename(key)
    assert invoke("policy", "verify", str(folder), "--key", str(key)).exit_code == 0
    assert "cannot be read" in in_one_line(invoke("policy", "verify", str(folder)))
    amend(folder / "who-could.csv", "admin_create_user", "admin_delete_user")
    tampered = invoke("policy", "verify", str(folder), "--key", str(key))
    assert tampered.exit_code == 1
    assert "who-could.csv is NOT what" in tampered.stderr
    key.write_text("no key\n")
    assert "holds no evidence key" in in_one_line(invoke("policy", "verify", str(folder), "--key", str(key)))


def test_evidence_replaces_nothing(server: Installation, tmp_path: Path) -> None:
    (tmp_path / "who-could.json").write_text("mine")
    question = ("admin_publish_policy", "admin", "--at", started(server), "--out", str(tmp_path))
    until(lambda: server.run("policy", "who-could", *question).exit_code == 2)
    assert (tmp_path / "who-could.json").read_text() == "mine"


# -- policy diff -------------------------------------------------------------------------------------------------------


def test_the_server_tells_the_same_difference_and_whom_it_touches(server: Installation, tmp_path: Path) -> None:
    candidate = shutil.copytree(POLICIES, tmp_path / "candidate")
    with (candidate / "user.csv").open("a") as rules:
        rules.write("p, owner, user, keypair, create, deny\n")
    folders = ("policy", "diff", str(POLICIES), str(candidate), "--format", "json")
    told = [json.loads(server.run(*folders, *more).stdout) for more in ((), ("--server",))]
    users, root = told[1].pop("users"), json.loads(server.api("GET", "/auth/whoami").stdout)["id"]
    assert users["lose"]["count"] >= 1
    assert root in users["lose"]["first"]
    (effect,) = (effect for group in told[1]["groups"] for effect in group["effects"])
    assert effect.pop("users") == users["lose"]
    for answer in told:
        answer.pop("users", None)
    told[0]["groups"][0]["effects"][0].pop("users")
    assert told[0] == told[1]
    shown = server.run("policy", "diff", "active", str(candidate))
    assert shown.exit_code == 1
    assert f"1 cell lost; no user may do more somewhere, {users['lose']['count']} user" in shown.stdout
    assert root in shown.stdout


def test_a_stored_version_is_named_by_its_digest_or_the_beginning_of_it(server: Installation) -> None:
    folder = server.folder / "policies"
    digest = read_folder(folder).digest
    until(lambda: json.loads(server.api("GET", f"/admin/policies/{digest}").stdout)["active"])
    for arguments in (("active", digest), (digest[:8], str(folder), "--server"), ("active", digest[:20], "--server")):
        done = server.run("policy", "diff", *arguments, "--format", "json")
        assert done.exit_code == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["old"], told["new"]) == (digest, digest)
    unknown = server.run("policy", "diff", "active", "0" * 64)
    assert "policy-diff-unknown-version" in in_one_line(unknown)
    neither = server.run("policy", "diff", "0" * 20, "active", "--server", "--folder", str(folder))
    assert "is in no git repository" in in_one_line(neither)


# -- what is answered from the log -------------------------------------------------------------------------------------


def test_a_replay_on_the_machine_and_one_by_the_server_give_the_same_answer(
    server: Installation, tmp_path: Path
) -> None:
    candidate = tmp_path / "candidate"
    shutil.copytree(server.folder / "policies", candidate)
    amend(candidate / "superadmin.csv", "p, superadmin, *, *, *, allow", "p, superadmin, admin, domain, get, allow")
    since = datetime.now(UTC).isoformat()  # what other tests have had denied is not counted
    assert server.api("GET", "/admin/users").exit_code == 0
    until = datetime.now(UTC).isoformat()
    asked = ("policy", "replay", str(candidate), "--since", since, "--until", until, "--format", "json")
    here, there = server.run(*asked), server.run(*asked, "--server")
    assert (here.exit_code, here.stderr, there.stderr) == (1, "", "")
    assert there.exit_code == 1
    told = json.loads(here.stdout)
    assert told == json.loads(there.stdout)
    assert told["lost"] > 0
    *_, opened, closed, asked_for = server.tail()
    assert {record["action"] for record in (opened, closed, asked_for)} == {"admin_replay_policy"}
    assert {record["principal"]["name"] for record in (opened, closed)} == {"system:operator"}
    assert (opened["phase"], closed["phase"], opened["principal"]["credential"]) == ("opened", "closed", account())
    assert asked_for["principal"]["kind"] == "user"


def test_the_draft_that_the_machine_makes_of_its_own_log_loses_nothing(server: Installation, tmp_path: Path) -> None:
    for number, more in enumerate(((), ("--server",))):
        out = tmp_path / str(number)
        made = server.run("policy", "draft", "--out", str(out), *more)
        assert (made.exit_code, made.stderr) == (0, "")
        replayed = json.loads(server.run("policy", "replay", str(out), "--format", "json", *more).stdout)
        assert replayed["policy"][:12] in made.stdout
        # What is new since is what was asked of the log itself: nobody had done that before.
        lost = {change["action"] for change in replayed["changes"] if change["turn"] == "loss"}
        assert lost <= {"admin_draft_policy", "admin_replay_policy"}
        unused = server.run("policy", "unused", "--days", "1", "--format", "json", *more)
        assert (unused.exit_code, unused.stderr) == (1, "")
        assert {idle["role"]: idle["bindings"] for idle in json.loads(unused.stdout)["roles"]}["auditor"] == 0


def test_whoever_may_not_read_the_log_gets_no_answer(server: Installation, tmp_path: Path) -> None:
    given = ("-F", "username=cat", "-F", "email=cat@example.org", "-F", "password=curious as a cat")
    cat = json.loads(server.api("POST", "/domains/default/users", *given).stdout)
    issued = json.loads(server.api("POST", f"/users/{cat['id']}/keypairs").stdout)
    key = {f"CHAMBERLAIN_{name.upper()}": issued[name] for name in ("access_key", "secret_key")}
    endpoint = {"CHAMBERLAIN_ENDPOINT": server.credentials["endpoint"]}
    for command in (("replay",), ("unused",), ("draft", "--out", str(tmp_path / "out"))):
        refused = invoke("policy", *command, "--server", **server.environment, **key, **endpoint)
        assert f"403 policy-{command[0]}-forbidden" in in_one_line(refused)
    assert not (tmp_path / "out").exists()
