"""The commands that need no server, what the welcome proposes, and the mistakes that a person can make."""

import json
import re
import shutil
import stat
import sys
from pathlib import Path

import pytest

from actions.entities import ALL_SPECS
from server.cli.output import show_json
from server.cli.welcome import next_commands
from server.http.graphql.schema import build
from server.keyring import KeyRing
from server.settings import Settings
from tests.commands import POLICIES, PROGRAM, amend, in_one_line, invoke


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("GET", "users"), "begins with /"),
        (("GET", "/users#x"), "has no #"),
        (("GET", "/users/{user}"), "braces"),
        (("GE T", "/users"), "is no method"),
        (("GET", "/admin/users", "--filter", "{username"), "--filter is not JSON"),
        (("GET", "/admin/users", "--filter", "[" * 100_000), "--filter"),
        (("GET", "/admin/users", "-p", "limit"), "takes name=value"),
        (("POST", "/auth", "-F", "echo"), "takes name=value"),
        (("POST", "/auth", "-F", "echo=1", "-F", "echo=2"), "twice"),
        (("POST", "/auth", "-F", "echo=1", "--input", "-"), "not from both"),
        (("POST", "/auth", "--input", "/nonexistent"), "cannot be read"),
        (("POST", "/auth", "--input", "-"), "--input is not JSON"),
        (("GET", "/auth"), "cannot be read"),
    ],
)
def test_a_mistake_ends_in_one_line(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    result = invoke("api", *arguments, CHAMBERLAIN_DATA_DIR=str(tmp_path), CHAMBERLAIN_ACCESS_KEY="")
    assert told in in_one_line(result)


def test_a_wrong_setting_is_named_by_every_command(tmp_path: Path) -> None:
    for command in (
        ("api", "GET", "/"),
        ("audit", "tail"),
        ("recover", "root"),
        ("keys", "rotate"),
        ("policy", "check"),
    ):
        assert "CHAMBERLAIN_WORKERS" in in_one_line(invoke(*command, CHAMBERLAIN_WORKERS="many"))


@pytest.mark.parametrize(
    "url", ["postgresql://app:hunter2/w@db/x", "postgresql://app:hunter2@[::1/x", "mysql://app:hunter2@db/x", "hunter2"]
)
def test_no_part_of_a_database_address_is_repeated(url: str, tmp_path: Path) -> None:
    for command in (("audit", "tail"), ("recover", "root"), ("api", "GET", "/")):
        told = in_one_line(invoke(*command, CHAMBERLAIN_DATABASE_URL=url, CHAMBERLAIN_DATA_DIR=str(tmp_path)))
        assert "CHAMBERLAIN_DATABASE_URL: must look like postgresql://" in told
        assert "hunter2" not in told


def test_nothing_printed_can_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "\x1b[2J \x9b2J \u202egnp.exe \x7f"}
    show_json(value)
    shown = capsys.readouterr().out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert json.loads(shown) == value


# -- actions, policy, keys ---------------------------------------------------------------------------------------------


def test_the_catalogue_lists_every_action() -> None:
    table = invoke("actions").stdout
    told = {entry["name"]: entry for entry in json.loads(invoke("actions", "--format", "json").stdout)}
    assert told.keys() == {spec.name for spec in ALL_SPECS}
    for spec in ALL_SPECS:
        (line,) = (line for line in table.splitlines() if line.split()[:1] == [spec.name])
        assert str(spec.permission) in line
        assert spec.sentence in line
        assert told[spec.name]["route"] == (None if spec.internal else spec.route)
        assert ("(internal)" if spec.internal else spec.route) in line


def test_the_catalogue_can_be_narrowed() -> None:
    chosen = json.loads(invoke("actions", "--format", "json", "--scope", "user", "--entity", "keypair").stdout)
    assert {(entry["scope"], entry["entity"]) for entry in chosen} == {("user", "keypair")}
    assert "keypair" in in_one_line(invoke("actions", "--entity", "dragon"))


def test_the_schema_is_printed_as_it_is_served() -> None:
    printed = invoke("schema")
    assert printed.exit_code == 0
    assert printed.stdout == build(ALL_SPECS).sdl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(POLICIES, tmp_path / "policies"))


@pytest.mark.parametrize("option", [(), ("--oracle",)])
def test_a_good_policy_may_go_live(folder: Path, option: tuple[str, ...]) -> None:
    result = invoke("policy", "check", str(folder), *option)
    assert result.exit_code == 0
    assert "may go live: 0 errors, 0 warnings" in result.stdout


def test_without_a_folder_the_settings_say_which(folder: Path) -> None:
    assert str(folder) in invoke("policy", "check", CHAMBERLAIN_POLICY_DIR=str(folder)).stdout


def test_a_mistake_in_a_policy_is_named_by_file_line_and_column(folder: Path) -> None:
    amend(folder / "user.csv", ", allow\n", ", Allow\n")
    line = 1 + (folder / "user.csv").read_text().partition(", Allow\n")[0].count("\n")
    result = invoke("policy", "check", str(folder))
    assert result.exit_code == 1
    first, hint, *_ = result.stdout.splitlines()
    assert re.match(rf"{folder}/user\.csv:{line}:\d+: error: .*Allow", first)
    assert hint.startswith("    ")
    assert "may not go live: 1 error, 0 warnings" in result.stdout
    told = json.loads(invoke("policy", "check", str(folder), "--format", "json").stdout)
    assert [(finding["file"], finding["line"]) for finding in told["findings"]] == [("user.csv", line)]


def test_warnings_alone_do_not_hinder(folder: Path) -> None:
    rules = folder / "user.csv"
    rules.write_text(rules.read_text() + "p, owner, user, user, get, allow\n")
    result = invoke("policy", "check", str(folder))
    assert result.exit_code == 0
    assert ": warning: " in result.stdout
    assert "may go live: 0 errors, 1 warning" in result.stdout


def test_a_folder_that_cannot_be_read_is_no_policy(tmp_path: Path) -> None:
    assert "nowhere" in in_one_line(invoke("policy", "check", str(tmp_path / "nowhere")))
    assert invoke("policy", "check", str(tmp_path), "--format", "xml").exit_code == 2


def test_a_rotated_key_ring_seals_with_the_new_key_and_opens_what_the_old_one_sealed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    before = KeyRing.load(path).seal(b"a secret", "a test")
    result = invoke("keys", "rotate", CHAMBERLAIN_DATA_DIR=str(tmp_path))
    assert result.exit_code == 0
    assert "has a new key, k2, which seals from now on" in result.stdout
    ring = KeyRing.load(path)
    assert ring.open(before, "a test") == b"a secret"
    assert ring.seal(b"a secret", "a test").startswith(b"k2:")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for key in json.loads(path.read_text())["keys"].values():
        assert key not in result.output


def test_no_key_ring_is_made_where_there_is_none(tmp_path: Path) -> None:
    for command in (("keys", "rotate"), ("audit", "tail"), ("recover", "root")):
        assert "keys.json" in in_one_line(invoke(*command, CHAMBERLAIN_DATA_DIR=str(tmp_path)))
    assert not list(tmp_path.iterdir())


# -- the welcome -------------------------------------------------------------------------------------------------------


def said_next(settings: Settings, endpoint: str = "http://127.0.0.1:8080") -> list[str]:
    return next_commands(settings, endpoint)


def test_with_default_settings_the_commands_need_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), "serve"])
    monkeypatch.setenv("PATH", str(PROGRAM.parent))
    (tmp_path / "chamberlain").mkdir()
    (tmp_path / "chamberlain" / "credentials.json").write_text('{"endpoint": "http://127.0.0.1:8080"}')
    assert said_next(Settings()) == [
        "chamberlain api GET /auth/whoami",
        """chamberlain api GET /admin/users --filter '{"username": {"equals": "root"}}'""",
        "chamberlain audit tail",
    ]


def test_the_commands_name_what_differs_from_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / ".venv" / "bin" / "chamberlain"
    program.parent.mkdir(parents=True)
    program.write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [".venv/bin/chamberlain", "serve"])
    data = tmp_path / "my data"
    data.mkdir()
    (data / "credentials.json").write_text('{"endpoint": "http://127.0.0.1:9"}')
    whoami, _, tail = said_next(Settings(data_dir=data, key_file=tmp_path / "keys"))
    assert whoami == (
        f"CHAMBERLAIN_DATA_DIR='{data}' CHAMBERLAIN_ENDPOINT=http://127.0.0.1:8080 "
        ".venv/bin/chamberlain api GET /auth/whoami"
    )
    assert tail == (
        f"CHAMBERLAIN_DATA_DIR='{data}' CHAMBERLAIN_KEY_FILE={tmp_path / 'keys'} .venv/bin/chamberlain audit tail"
    )
