"""Several workers are one server: what one of them takes away, none of them grants; and none is indispensable."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial

import httpx
import orjson
import pytest

from tests.e2e.house import House, Server, until
from tests.e2e.line import Bearer, Key, Line
from tests.e2e.people import Person, newcomer

WITHIN = 1.0
"""Seconds after the answer to a revocation, from which on every worker knows of it."""
REQUESTS = "chamberlain_http_server_requests_total"
Change = Callable[[Line, Server, Person], None]


@pytest.fixture(scope="module")
def server(shared_house: House) -> Iterator[Server]:
    # Refusals are what these tests look for, so the limiter of failed signatures stays out of their way.
    with shared_house.serving(authentication_failures_burst=100_000) as server:
        yield server


def rotate_key(line: Line, server: Server, who: Person) -> None:
    line.ask(server.root, "POST", f"/users/{who.id}/keypairs/{who.keypair_id}/rotate")


def deactivate_key(line: Line, server: Server, who: Person) -> None:
    line.ask(server.root, "POST", f"/domains/default/keypairs/{who.keypair_id}/deactivate")


def delete_key(line: Line, server: Server, who: Person) -> None:
    line.ask(server.root, "DELETE", f"/domains/default/keypairs/{who.keypair_id}")


def deactivate_user(line: Line, server: Server, who: Person) -> None:
    line.ask(server.root, "PATCH", f"/domains/default/users/{who.id}", {"status": "inactive"})


def revoke_binding(line: Line, server: Server, who: Person) -> None:
    held = line.ask(server.root, "GET", f"/users/{who.id}/role-bindings", filter={"role": {"equals": "auditor"}})
    line.ask(server.root, "DELETE", f"/admin/role-bindings/{held['items'][0]['id']}")


def log_out(line: Line, server: Server, who: Person) -> None:
    line.ask(carried(who), "POST", "/auth/logout")


def revoke_login(line: Line, server: Server, who: Person) -> None:
    line.ask(server.root, "DELETE", f"/domains/default/logins/{who.login_id}")


def reset_password(line: Line, server: Server, who: Person) -> None:
    given = {"password": "another long password"}
    line.ask(server.root, "POST", f"/domains/default/users/{who.id}/reset_password", given)


def retire_signing_key(line: Line, server: Server, who: Person) -> None:
    keys = line.ask(server.root, "GET", "/admin/signing-keys", filter={"deleted": {"equals": False}})["items"]
    for key in keys:
        line.ask(server.root, "DELETE", f"/admin/signing-keys/{key['id']}")


def signed(who: Person) -> Key | Bearer:
    return who.key


def carried(who: Person) -> Key | Bearer:
    return Bearer(who.token)


Proves = Callable[[Person], Key | Bearer]


@pytest.mark.parametrize(
    ("change", "refusals", "proves"),
    [
        (rotate_key, {401}, signed),
        (deactivate_key, {401}, signed),
        (delete_key, {401}, signed),
        (deactivate_user, {401}, signed),
        (revoke_binding, {403, 404}, signed),
        (log_out, {401}, carried),
        (revoke_login, {401}, carried),
        (reset_password, {401}, carried),
        (deactivate_user, {401}, carried),
        (retire_signing_key, {401}, carried),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_revoked_at_one_worker_is_refused_there_at_once_and_at_the_other_within_a_second(
    server: Server, change: Change, refusals: set[int], proves: Proves
) -> None:
    who = newcomer(server)
    credentials = proves(who)
    server.ask("POST", "/domains/default/role-bindings", {"user_id": who.id, "role": "auditor"}, expect=201)
    here, there = server.line(1), server.line(2)

    def status(line: Line) -> int:
        return line.send(credentials, "GET", "/domains/default/users").status_code

    for line in (here, there):
        assert {status(line) for _ in range(5)} == {200}  # both know the caller by heart
    change(here, server, who)
    answered = time.monotonic()
    assert status(here) in refusals
    heard: list[tuple[float, int]] = []
    while len(heard) < 20 or heard[-1][0] < WITHIN + 0.2:
        heard.append((time.monotonic() - answered, status(there)))
    late = [code for begun, code in heard if begun > WITHIN]
    assert late
    assert set(late) <= refusals
    assert {code for _, code in heard} <= {200, *refusals}
    assert status(here) in refusals


class Load:
    """Callers that never rest, in threads, each over a connection of its own and another when that breaks."""

    def __init__(self, server: Server, callers: int) -> None:
        self.answered = 0
        self.statuses: set[int] = set()
        self._server = server
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def has_answered(self, goal: int) -> bool:
        return self.answered >= goal

    def _call(self) -> None:
        while not self._over.is_set():
            with suppress(httpx.TransportError), closing(Line(self._server.http)) as line:  # its worker may die
                while not self._over.is_set():
                    status = line.send(self._server.root, "GET", "/auth/whoami").status_code
                    with self._lock:
                        self.answered += 1
                        self.statuses.add(status)


def test_a_worker_killed_under_load_is_replaced_and_no_count_ever_goes_down(server: Server) -> None:
    whoami = {"route": "/auth/whoami", "status_class": "2xx"}
    before = server.counted(REQUESTS, **whoami)
    restarts = server.counted("chamberlain_worker_restarts_total")
    seen = [before]
    with Load(server, 4) as load:
        for place in (2, 1):
            victim, goal = server.workers()[place], load.answered + 100
            until(partial(load.has_answered, goal), "some load")
            os.kill(victim, signal.SIGKILL)
            while not _replaced(server, place, victim):
                seen.append(server.counted(REQUESTS, **whoami))
    assert seen == sorted(seen)
    assert load.statuses == {200}
    assert server.counted("chamberlain_worker_restarts_total") == restarts + 2
    settled = server.counted(REQUESTS, **whoami)
    assert before < settled <= before + load.answered + 8  # with each worker, four callers may have lost an answer
    for _ in range(10):
        server.ask("GET", "/auth/whoami")
    assert server.counted(REQUESTS, **whoami) == settled + 10


def test_whoever_replaces_the_housekeeper_watches_the_policy_folder(server: Server) -> None:
    victim = server.workers()[1]
    os.kill(victim, signal.SIGKILL)
    until(lambda: _replaced(server, 1, victim), "a heir")
    [before] = _active(server)
    with (server.house.policies / "user.csv").open("a") as file:
        file.write("# Nothing but a comment, and yet another version.\n")
    until(lambda: _active(server) != [before], "a publication")
    assert _active(server)[0]["activated_by"] == "system:policy"


@pytest.mark.parametrize("said", [b"hello\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET / HTTP/1.1\r\nHost\r\n\r\n"])
def test_what_is_no_http_is_answered_with_a_problem(server: Server, said: bytes) -> None:
    address = httpx.URL(server.http)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as line:
        line.sendall(said)
        told = b"".join(iter(partial(line.recv, 4096), b""))
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    problem = orjson.loads(body)
    assert (problem["status"], problem["code"]) == (400, "request-handle-malformed-request")
    assert f"x-request-id: {problem['request_id']}".encode() in head


def _active(server: Server) -> list[dict[str, object]]:
    return list(server.ask("GET", "/admin/policies", filter={"active": {"equals": True}})["items"])


def _replaced(server: Server, place: int, victim: int) -> bool:
    return server.workers().get(place, victim) != victim and server.counted("chamberlain_workers", state="ready") == 2
