"""How a server comes and goes: what it shows, what it keeps, what it leaves, and how it fails."""

import os
import re
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.cli.signing_client import Credentials
from tests.e2e.house import House, Server, until

FIELDS = ("endpoint", "access_key", "secret_key", "username", "password")


@dataclass(frozen=True)
class FirstStart:
    """A house whose server was started once, used, and stopped with SIGTERM."""

    house: House
    shown: str
    log: str
    credentials: Credentials
    exit_code: int


def works(server: Server) -> bool:
    """Whether the credentials that are kept are those of a superadmin of this server."""
    me = server.ask("GET", "/auth/whoami")
    assert Credentials.from_file(server.house.credentials).endpoint == server.http
    return me["username"] == "root" and "superadmin" in [binding["role"] for binding in me["bindings"]]


@pytest.fixture(scope="module")
def first(shared_house: House) -> FirstStart:
    server = shared_house.start()
    assert works(server)
    exit_code = server.stop(signal.SIGTERM)
    kept = Credentials.from_file(shared_house.credentials)
    return FirstStart(shared_house, server.shown, server.log, kept, exit_code)


def test_a_first_start_shows_where_it_serves_its_credentials_and_three_commands(first: FirstStart) -> None:
    kept = first.credentials
    assert re.match(
        r"Chamberlain serves http://127\.0\.0\.1:\d+, metrics at http://127\.0\.0\.1:\d+/metrics", first.shown
    )
    for name in FIELDS[1:]:
        assert first.shown.count(str(getattr(kept, name))) >= 1, name
    for secret in (kept.secret_key, kept.password):
        assert secret is not None
        assert first.shown.count(secret) == 1
        assert secret not in first.log
    commands = first.shown.partition("Try, in another terminal:")[2].split("\n")
    assert sum("chamberlain " in line for line in commands) == 3


def test_the_credentials_are_kept_in_a_file_for_its_owner_alone(first: FirstStart) -> None:
    info = first.house.credentials.stat()
    assert stat.S_IMODE(info.st_mode) == 0o600
    assert all(getattr(first.credentials, name) for name in FIELDS)
    assert stat.S_IMODE(first.house.data.stat().st_mode) == 0o700


def test_sigterm_ends_everything_with_exit_code_0(first: FirstStart) -> None:
    assert first.exit_code == 0
    assert not first.house.processes()


def test_a_second_start_reuses_everything_and_shows_no_secret(first: FirstStart) -> None:
    server = first.house.start(drain_seconds=1)
    assert works(server)
    kept = Credentials.from_file(first.house.credentials)
    assert (kept.access_key, kept.secret_key) == (first.credentials.access_key, first.credentials.secret_key)
    for secret in (kept.secret_key, str(kept.password), "password"):
        assert secret not in server.shown + server.log
    assert server.ask("GET", "/admin/users")["total_count"] == 1
    assert server.ask("GET", "/admin/policies")["total_count"] == 1

    line = server.line(1)
    server.send(signal.SIGINT)
    until(lambda: line.send(None, "GET", "/readyz").status_code == 503, "the announcement of the end")
    assert line.ask(server.root, "GET", "/auth/whoami")["username"] == "root"  # who is served is served to the end
    assert server.ended() == 0
    assert server.stop() == 0  # it has: this closes the line and waits for the last process


def test_after_a_killed_supervisor_the_workers_leave_and_the_next_start_takes_the_database_over(
    first: FirstStart,
) -> None:
    server = first.house.start()
    workers = set(server.workers().values())
    [postgres] = [pid for pid in first.house.processes() if _is_postmaster(pid)]
    server.send(signal.SIGKILL)
    assert server.ended() == -signal.SIGKILL
    until(lambda: not workers & set(first.house.processes()), "the end of the orphaned workers")
    assert first.house.processes() == [postgres]
    with first.house.serving() as successor:
        assert works(successor)
        assert postgres not in first.house.processes()


def test_wherever_a_first_start_is_cut_off_the_next_one_finishes_it(house: House) -> None:
    stopped = house.launch()
    until(lambda: any(map(_is_postmaster, house.processes())), "the start of the database")
    assert stopped.stop() == 0
    assert "Traceback" not in stopped.log

    shipped = (house.policies / "domain.csv").read_bytes()
    (house.policies / "domain.csv").write_bytes(shipped + b"p, domain_member, domain, user, search, alow\n")
    refused = house.launch()
    assert refused.ended() == 1
    reason = r"the policy folder /\S+/policies cannot be used: domain\.csv:\d+:\d+: error: 'alow' is no known effect"
    assert re.match(reason, _reason(refused))
    assert not house.processes()
    (house.policies / "domain.csv").write_bytes(shipped)

    (house.data / "credentials.new").mkdir()  # in the way of the draft: it fails after its transaction
    crashed = house.launch()
    assert crashed.ended() == 1
    assert _reason(crashed) == f"{house.data}/credentials.new: Is a directory"
    assert not house.processes()
    (house.data / "credentials.new").rmdir()

    with house.serving() as server:
        assert works(server)
        kept = Credentials.from_file(house.credentials)
        assert server.shown.count(kept.secret_key) == 1
        assert server.ask("GET", "/admin/users")["total_count"] == 1
        told = house.sql("SELECT action, result FROM audit_record WHERE principal = 'system:recovery'")
        assert [tuple(row) for row in told] == [("admin_recover_installation", "succeeded")]
    assert not (house.data / "first-start").exists()


@contextmanager
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_that_is_taken_is_named_before_anything_is_started(house: House) -> None:
    with taken() as port:
        server = house.launch(http_port=port)
        assert server.ended() == 1
    assert _reason(server) == f"cannot listen on 127.0.0.1:{port}: Address already in use"
    assert not house.data.exists()


def test_a_wrong_setting_is_named(house: House) -> None:
    server = house.launch(workers="many")
    assert server.ended() == 2
    assert server.log.startswith("chamberlain: CHAMBERLAIN_WORKERS: Input should be a valid integer")
    assert server.log.count("\n") == 1
    assert not house.data.exists()


def test_a_data_folder_that_cannot_be_used_is_named(house: House) -> None:
    if os.geteuid() == 0:  # who may read everything
        house.data.write_text("")
    else:
        house.data.mkdir(mode=0)
    server = house.launch()
    assert server.ended() == 1
    assert str(house.data) in _reason(server)


def test_a_key_ring_that_others_can_read_is_named(first: FirstStart) -> None:
    ring = first.house.data / "keys.json"
    ring.chmod(0o644)
    try:
        server = first.house.launch()
        assert server.ended() == 1
        assert _reason(server) == f"{ring} can be read by others; its mode must be 0600"
        assert not first.house.processes()
    finally:
        ring.chmod(0o600)


def test_a_database_that_cannot_be_reached_is_said_in_one_line(house: House) -> None:
    with taken() as port:
        pass
    server = house.launch(database_url=f"postgresql://somebody:planted-secret@127.0.0.1:{port}/somewhere")
    assert server.ended() == 1
    assert _reason(server).startswith("the database cannot be reached: ")
    assert "planted-secret" not in server.log


def _reason(server: Server) -> str:
    """Why the start failed: the one line that it logged."""
    [line] = server.log.splitlines()
    [event] = server.events("start-failed")
    assert "Traceback" not in line
    return str(event["reason"])


def _is_postmaster(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return command.split(b"\0")[0].endswith(b"/postgres") and b"-D" in command
