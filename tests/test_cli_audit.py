"""Searching and following the log from the command line, as one who has credentials and not the machine."""

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from pydantic import SecretStr

from actions.entities.audit_record import Tailed
from server.cli import local
from server.cli.audit import events, watching
from server.cli.output import Format
from server.cli.signing_client import Credentials
from tests import waiting
from tests.commands import PATIENCE, PROGRAM, Installation, bare, in_one_line, until
from tests.world.world import World


@pytest.fixture(scope="module")
def lou(server: Installation) -> str:
    """The id of a user who was made and changed."""
    given = ("-F", "username=lou", "-F", "email=lou@example.org", "-F", "password=a long enough one")
    key: str = json.loads(server.api("POST", "/domains/default/users", *given).stdout)["id"]
    assert server.api("PATCH", f"/admin/users/{key}", "-F", "description=Night shift").exit_code == 0
    assert server.api("GET", "/domains/nowhere/users").exit_code == 1
    return key


def found(server: Installation, *asked: str) -> list[dict[str, object]]:
    done = server.run("audit", "search", "-n", "100", "--format", "json", *asked)
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_log_is_searched_by_who_what_on_what_and_when(server: Installation, lou: str) -> None:
    until(lambda: found(server, "--on", lou)[-1]["index"] is not None)
    [made, changed] = found(server, "--on", "lou", "--since", "1h")
    assert (made["action"], changed["action"]) == ("domain_create_user", "admin_update_user")
    assert found(server, "--on", lou) == [made, changed]
    assert found(server, "--on", "lou", "--action", "update") == [changed]
    assert found(server, "--on", "lou", "--who", "root", "--result", "succeeded") == [made, changed]
    assert found(server, "--on", "lou", "--domain", "default", "--action", "create") == [
        {**made, "principal": found(server, "--on", "lou", "--domain", "default")[0]["principal"]}
    ]
    for nothing in (("--who", "lou"), ("--result", "denied"), ("--until", "2026-01-01")):
        assert found(server, "--on", lou, *nothing) == []
    assert found(server, "--on", "nobody-at-all") == []
    assert {one["result"] for one in found(server, "--result", "denied")} == {"denied"}
    assert {one["principal"]["name"] for one in found(server, "--who", "system:sweeper")} == {"system:sweeper"}  # type: ignore[index]


def test_what_is_found_is_a_table_with_the_newest_last(server: Installation, lou: str) -> None:
    until(lambda: found(server, "--on", lou)[-1]["index"] is not None)
    table = server.run("audit", "search", "--on", "lou").stdout.splitlines()
    assert table[0].split()[:3] == ["index", "time", "(UTC)"]
    assert re.search(r"^ *\d+ .*domain_create_user", table[-2])
    assert re.search(r"^ *\d+ .*admin_update_user .*succeeded", table[-1])


def test_one_record_is_shown_by_its_index_as_by_its_id(server: Installation, lou: str) -> None:
    until(lambda: found(server, "--on", lou)[-1]["index"] is not None)
    changed = found(server, "--on", lou)[-1]
    index, key = str(changed["index"]), str(changed["id"])
    assert found(server, "--index", index) == [changed]
    span = found(server, "--index", f"{int(index) - 1}..{index}")
    assert [one["index"] for one in span] == [int(index) - 1, int(index)]
    by_id, by_index, by_sign = (
        re.sub(r" of \d+ in ", " in ", server.run("audit", "show", name).stdout)  # the log grows meanwhile
        for name in (key, index, f"#{index}")
    )
    assert key in by_id
    assert by_id == by_index == by_sign
    none = server.run("audit", "show", "#999999999")
    assert (none.exit_code, none.stderr.count("\n")) == (1, 1)


def test_words_that_say_nothing_are_told_in_a_line(server: Installation) -> None:
    for words in (("--since", "yesterday"), ("--until", "3 days"), ("--index", "last"), ("--index", "5-9")):
        assert words[0] in in_one_line(server.run("audit", "search", *words))
    unknown = server.run("audit", "search", "--who", "nobody-at-all")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "no user called nobody-at-all" in unknown.stderr
    nowhere = server.run("audit", "search", "--domain", "nowhere")
    assert (nowhere.exit_code, json.loads(nowhere.stderr)["status"]) == (1, 404)
    assert "cannot be reached" in in_one_line(server.run("audit", "tail", "--endpoint", "http://127.0.0.1:9"))


@contextmanager
def following(server: Installation, *options: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [PROGRAM, "audit", "tail", "-f", *options],
        env=bare(**server.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_log_is_followed_through_the_server_until_interrupted(server: Installation, lou: str) -> None:
    with following(server, "--server", "-n", "2", "--format", "json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        seen = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert server.api("PATCH", f"/admin/users/{lou}", "-F", "description=Day shift").exit_code == 0
        while seen[-1]["action"] != "admin_update_user" or seen[-1]["target"]["id"] != lou:
            seen.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""
    assert [one["index"] for one in seen] == list(range(seen[0]["index"], seen[0]["index"] + len(seen)))
    until(lambda: {"opened", "closed"} <= {str(one["phase"]) for one in found(server, "--action", "watch")})


async def test_where_no_server_runs_whoever_follows_on_the_machine_numbers_the_log(world: World) -> None:
    settings = world.stage.settings(database_url=SecretStr(world.urls.application))
    assert await world.sql("SELECT FROM audit_leaf") == []
    seen: list[Tailed] = []
    task = asyncio.create_task(local.follow(settings, 5, seen.append))
    await waiting.until(lambda: bool(seen))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert await world.sql("SELECT FROM audit_leaf") != []
    opened, closed = await world.records("admin_tail_audit_record")
    assert (opened["phase"], closed["phase"], closed["result"]) == ("opened", "closed", "succeeded")


def test_who_may_not_watch_is_told_so(server: Installation, lou: str) -> None:
    issued = json.loads(server.api("POST", f"/users/{lou}/keypairs").stdout)
    key = {f"CHAMBERLAIN_{name.upper()}": issued[name] for name in ("access_key", "secret_key")}
    told = Installation(server.folder, environment={**server.environment, **key})
    for options in ((), ("-f",)):
        done = told.run("audit", "tail", "--endpoint", server.credentials["endpoint"], *options)
        assert (done.exit_code, json.loads(done.stderr)["status"]) == (1, 403)


def test_a_stream_that_breaks_off_is_taken_up_after_what_was_shown(
    server: Installation, lou: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server's stream, of which each time only the first piece arrives."""
    who, whole = Credentials.from_file(server.credentials_path), events.events
    pauses: list[float] = []

    def first_of(pieces: Iterator[bytes]) -> Iterator[events.Event]:
        for event in whole(pieces):
            yield event
            if event.name == "record":
                return

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(events, "events", first_of)
    monkeypatch.setattr(watching, "sleep", wait)
    with pytest.raises(KeyboardInterrupt):
        watching._follow(who, "/admin/audit-records", -1, Format.JSON)
    shown = capsys.readouterr()
    assert [json.loads(line)["index"] for line in shown.out.splitlines()] == [0, 1, 2, 3]
    assert shown.err.count("has ended the stream; going on after the record") == 4
    assert pauses == [1.0] * 4
