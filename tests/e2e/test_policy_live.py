"""The watched policy folder: a good edit is in force on every worker, a bad one changes nothing but what is told."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from actions.authorization.source import CASES_FOLDER, POLICY_FILES
from tests.e2e.house import POLICIES, House, Server, until
from tests.e2e.line import Line
from tests.e2e.people import Person, newcomer

ALLOW = "p, domain_member, domain, user, search, allow\n"
MISSPELT = "p, domain_member, domain, user, search, alow\n"
SETTLES_IN = 0.2
"""Seconds for which a folder has to rest before it is a candidate."""
FAILURES = "chamberlain_policy_reload_failures_total"


@dataclass
class Running:
    """The module's server, and the one after it."""

    server: Server

    def restart(self) -> Server:
        assert self.server.stop() == 0
        self.server = self.server.house.start()
        return self.server


@pytest.fixture(scope="module")
def running(shared_house: House) -> Iterator[Running]:
    running = Running(shared_house.start())
    yield running
    assert running.server.stop() == 0


@pytest.fixture
def server(running: Running) -> Server:
    return running.server


@pytest.fixture(scope="module")
def mia(running: Running) -> Person:
    return newcomer(running.server)


@pytest.fixture(autouse=True)
def shipped(server: Server) -> str:
    """The version that is shipped, by digest: in force when a test begins, and in the folder."""
    restore(server)
    until(lambda: folder_agrees(server), "the shipped version to be in force")
    return str(active(server)["id"])


def restore(server: Server) -> None:
    shutil.rmtree(server.house.policies / CASES_FOLDER, ignore_errors=True)
    for name in POLICY_FILES:
        shutil.copy(POLICIES / name, server.house.policies / name)


def append(server: Server, name: str, text: str) -> None:
    with (server.house.policies / name).open("a") as file:
        file.write(text)


def active(server: Server) -> dict[str, Any]:
    [found] = server.ask("GET", "/admin/policies", filter={"active": {"equals": True}})["items"]
    return dict(found)


def versions(server: Server) -> set[str]:
    return {item["id"] for item in server.ask("GET", "/admin/policies", limit=100)["items"]}


def activate(server: Server, digest: str) -> None:
    server.ask("POST", f"/admin/policies/{digest}/activate", {"reason": "the tests say so"})


def note(server: Server) -> dict[str, Any]:
    """What ``/readyz?verbose`` tells of the folder. The server is ready, whatever it tells."""
    line = Line(server.http)
    try:
        answer = line.send(None, "GET", "/readyz", verbose="")
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["checks"]["policy_folder"])
    finally:
        line.close()


def folder_agrees(server: Server) -> bool:
    return bool(note(server)["ok"])


@pytest.fixture
def searches(server: Server, mia: Person) -> Callable[[], list[int]]:
    """What mia is answered, by one worker and by the other, when she searches the users of her domain."""
    lines = server.line(1), server.line(2)
    return lambda: [line.send(mia.key, "GET", "/domains/default/users").status_code for line in lines]


def test_a_new_allow_is_in_force_on_every_worker_and_its_publication_recorded(
    server: Server, searches: Callable[[], list[int]]
) -> None:
    assert searches() == [403, 403]
    append(server, "domain.csv", ALLOW)
    edited = time.monotonic()
    until(lambda: searches() == [200, 200], "the new allow")
    print(f"in force on every worker {time.monotonic() - edited:.2f} s after the edit")  # noqa: T201
    now = active(server)
    assert now["activated_by"] == "system:policy"
    [record] = server.house.sql(
        "SELECT principal, result, leaf FROM audit_record WHERE action = 'admin_publish_policy' AND target_id = $1",
        now["id"],
    )
    assert (record["principal"], record["result"]) == ("system:policy", "succeeded")
    restore(server)
    until(lambda: searches() == [403, 403], "the end of the new allow")


def test_a_misspelt_effect_changes_nothing_but_a_metric_a_log_line_and_readyz(
    server: Server, shipped: str, searches: Callable[[], list[int]]
) -> None:
    failures, refusals = server.counted(FAILURES), len(server.events("policy candidate refused"))
    known = versions(server)
    append(server, "domain.csv", MISSPELT)
    where = f"domain.csv:{len((server.house.policies / 'domain.csv').read_text().splitlines())}:"
    until(lambda: server.counted(FAILURES) > failures, "a refusal")
    [told] = server.events("policy candidate refused")[refusals:]
    assert [finding for finding in told["findings"] if finding.startswith(where) and "'alow'" in finding]
    until(lambda: where in note(server)["detail"], "the worker's own look at it")
    assert not note(server)["ok"]
    assert active(server)["id"] == shipped
    assert versions(server) == known
    assert searches() == [403, 403]
    restore(server)
    until(lambda: folder_agrees(server), "healing")
    assert active(server)["id"] == shipped
    assert server.counted(FAILURES) == failures + 1


def test_a_change_that_fails_a_case_goes_live_once_the_case_is_changed_too(
    server: Server, searches: Callable[[], list[int]]
) -> None:
    cases = server.house.policies / CASES_FOLDER
    shutil.copytree(POLICIES / CASES_FOLDER, cases)
    until(lambda: folder_agrees(server), "the shipped version with its cases")
    with_cases, failures = active(server)["id"], server.counted(FAILURES)
    append(server, "domain.csv", ALLOW)
    until(lambda: server.counted(FAILURES) > failures, "a refusal")
    case = r"tests/domain\.yaml:.*allows 'domain_member' domain:user:search"
    until(lambda: re.search(case, note(server)["detail"]), "the worker's own look at it")
    assert active(server)["id"] == with_cases
    table = cases / "domain.yaml"
    table.write_text(table.read_text().replace("user: [lookup]", "user: [lookup, search]"))
    until(lambda: searches() == [200, 200], "the change with its case")
    restore(server)
    until(lambda: searches() == [403, 403], "the end of the change")


def test_a_folder_that_is_gone_changes_nothing(server: Server, shipped: str) -> None:
    failures = server.counted(FAILURES)
    away = server.house.policies.with_name("away")
    server.house.policies.rename(away)
    until(lambda: server.counted(FAILURES) > failures, "a refusal")
    assert active(server)["id"] == shipped
    away.rename(server.house.policies)
    until(lambda: folder_agrees(server), "healing")


def test_of_two_edits_in_quick_succession_the_last_is_in_force(
    server: Server, searches: Callable[[], list[int]]
) -> None:
    append(server, "domain.csv", ALLOW)
    append(server, "domain.csv", "p, domain_member, domain, user, search, deny\n")
    append(server, "user.csv", "# The end of the second edit.\n")
    until(lambda: folder_agrees(server), "the last edit")
    assert searches() == [403, 403]
    assert active(server)["activated_by"] == "system:policy"


def test_files_that_arrive_one_by_one_never_go_live_half(server: Server, shipped: str) -> None:
    """Every part of this change would be a good policy, and they keep coming for longer than the watcher looks away."""
    for attempt in range(20):
        known = versions(server)
        gap = 0.0
        for part in range(12):
            began = time.monotonic()
            name = ("domain.csv", "project.csv", "user.csv", "superadmin.csv")[part % 4]
            arrive(server.house.policies / name, f"# Part {part} of attempt {attempt}.\n".encode())
            time.sleep(0.08)
            gap = max(gap, time.monotonic() - began)
        until(lambda: folder_agrees(server), "the whole change")
        if gap < SETTLES_IN * 0.9:  # on a busy machine a pause may have been longer than a folder has to rest
            assert versions(server) - known == {active(server)["id"]}
            return
        restore(server)
        until(lambda: folder_agrees(server), "the shipped version again")
    raise AssertionError("the machine was too busy to write twelve files in time")


def arrive(path: Path, more: bytes) -> None:
    """Put a longer file in the place of ``path``, as git does."""
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_bytes(path.read_bytes() + more)
    os.replace(draft, path)


def test_a_version_left_by_a_rollback_stays_away_until_it_is_activated_by_name_also_after_a_restart(
    running: Running, server: Server, shipped: str
) -> None:
    append(server, "domain.csv", f"# Soon rolled back.\n{ALLOW}")
    until(lambda: active(server)["id"] != shipped, "a publication")
    new = active(server)["id"]
    until(lambda: folder_agrees(server), "the publication on the worker that answers")
    assert server.ask("POST", "/admin/policies/rollback", {"reason": "the tests say so"})["id"] == shipped
    assert active(server)["activated_by"].startswith("user:")
    server = running.restart()
    told = until(lambda: server.events("policy candidate refused"), "a look at the folder")
    assert told[0]["policy"] == new
    assert active(server)["id"] == shipped
    assert not note(server)["ok"]
    activate(server, new)
    until(lambda: folder_agrees(server), "the new version")
    assert active(server)["id"] == new
    assert not active(server)["refused"]
