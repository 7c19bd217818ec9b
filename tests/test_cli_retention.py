"""``chamberlain audit partitions``, ``archive``, ``drop`` and ``erase``, against a server that runs."""

import json
import shlex
from pathlib import Path

import pytest

from audit.archive import Archive
from tests.commands import Installation, in_one_line, invoke, until


def listed(server: Installation) -> list[dict[str, object]]:
    done = server.run("audit", "partitions", "--format", "json")
    assert done.exit_code == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)["partitions"]
    return found


def test_the_parts_of_the_log_are_listed_and_one_is_archived(server: Installation, tmp_path: Path) -> None:
    table = server.run("audit", "partitions").stdout.splitlines()
    assert table[0].split() == ["partition", "since", "until", "records", "indexes", "size", "state"]
    assert [part["name"] for part in listed(server)] == [line.split()[0] for line in table[1:]]

    said: list[str] = []

    def numbered() -> bool:
        done = server.run("audit", "archive", "audit_record_start", "--to", str(tmp_path / "kept"))
        said[:] = done.stdout.splitlines()
        return done.exit_code == 0

    until(numbered)  # what was asked a moment ago gets its index within a second
    told, _, command = said[1].partition(": chamberlain ")
    assert told == "1. Verify it"
    verified = invoke(*shlex.split(command))
    assert (verified.exit_code, verified.stderr) == (0, ""), "what it says is to be run, and holds"
    assert "records are as they were signed" in verified.stdout
    head = Archive(tmp_path / "kept").head
    assert (head.first, head.end > 2) == (0, True)
    again = server.run("audit", "archive", "audit_record_start", "--to", str(tmp_path / "kept"))
    assert again.exit_code == 1
    assert "is there already, and nothing is written over" in again.stderr
    refused = server.run(
        "audit", "drop", "audit_record_start", "--archive", str(tmp_path / "kept"), "--older-than", "1", "--yes"
    )
    assert refused.exit_code == 1
    assert "not 1 days ago" in refused.stderr
    assert listed(server)[0]["name"] == "audit_record_start"


def test_the_name_is_asked_for_once_more(server: Installation, tmp_path: Path) -> None:
    def asked() -> int:
        return sum(record["action"] == "admin_drop_audit_partition" for record in server.tail())

    given, before = ("audit", "drop", "audit_record_start", "--archive", str(tmp_path)), asked()
    refused = invoke(*given, input="audit_record_default\n", **server.environment)
    assert refused.exit_code == 1
    assert "another name" in refused.stderr
    assert asked() == before


def test_what_is_not_there_is_told_in_one_line(server: Installation, tmp_path: Path) -> None:
    told = server.run("audit", "archive", "audit_record_1999_01", "--to", str(tmp_path / "none"))
    assert "no part audit_record_1999_01" in in_one_line(told)
    assert list(tmp_path.iterdir()) == []
    told = server.run("audit", "drop", "users", "--archive", str(tmp_path / "none"), "--yes")
    assert "partition: " in in_one_line(told)
    told = server.run("audit", "drop", "audit_record_start", "--archive", str(tmp_path / "none"), "--yes")
    assert (told.exit_code, "say it with older_than_days (--older-than), or by the setting" in told.stderr) == (1, True)


def test_a_person_is_erased(server: Installation) -> None:
    given = {"username": "leaver", "email": "leaver@example.org", "password": "a long enough password"}
    arguments = [part for name, value in given.items() for part in ("-F", f"{name}={value}")]
    user = json.loads(server.api("POST", "/domains/default/users", *arguments).stdout)["id"]
    refused = server.run("audit", "erase", user, "--yes")
    assert refused.exit_code == 1
    assert "audit-subject-erase-user-exists" in refused.stderr
    for purge in ((), ("-p", "purge=1")):
        assert server.api("DELETE", f"/admin/users/{user}", *purge).exit_code == 0
    done = invoke("audit", "erase", user, input=f"{user}\n", **server.environment)
    assert done.exit_code == 0, done.stderr
    assert '"readable": false' in done.stdout


def test_the_key_ring_is_renewed_under_a_running_server(server: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.cli.keys.SETTLED_SECONDS", 0.2)  # nothing else is under way
    nothing = server.run("keys", "retire")
    assert (nothing.exit_code, "has no key but k1" in nothing.stdout) == (0, True)
    assert "a new key, k2" in server.run("keys", "rotate").stdout
    done = server.run("keys", "retire")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "resealed with k2" in done.stdout
    assert "k1 is gone from" in done.stdout
    assert set(json.loads((server.folder / "data" / "keys.json").read_text())["keys"]) == {"k2"}
    for path in ("/users/me", "/admin/audit-records"):
        assert server.api("GET", path).exit_code == 0
    assert {"admin_reseal_installation"} <= {record["action"] for record in server.tail()}
