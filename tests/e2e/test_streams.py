"""A stream over a real connection: it goes on while both sides are there, and says it when the server leaves."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from server.cli.audit.events import Event, events
from server.cli.signing_client import Credentials, SignedClient
from tests.e2e.house import House, Server, until


@contextmanager
def watching(server: Server, last: str | None = None) -> Iterator[Iterator[Event]]:
    who = Credentials.from_file(server.house.credentials)
    headers = {} if last is None else {"last-event-id": last}
    with (
        SignedClient.of(who, timeout=60) as client,
        client.stream("/admin/audit-records/watch", {}, headers) as answer,
    ):
        assert answer.status_code == 200
        yield events(answer.iter_bytes())


def phases(server: Server) -> list[str]:
    rows = server.house.sql("SELECT phase FROM audit_record WHERE action = 'admin_watch_audit_record' ORDER BY at")
    return [row["phase"] for row in rows]


def test_a_stream_outlives_a_killed_worker_by_coming_back_and_ends_with_the_server(house: House) -> None:
    server = house.start(workers=1)
    with watching(server) as events:
        begun = next(events)
        server.ask("GET", "/domains/default/users")
        seen = [next(events)]
        while "domain_search_users" not in seen[-1].data:
            seen.append(next(events))
        killed = server.workers()[1]
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            seen.extend(events)
    assert phases(server) == ["opened"], "it reads as never closed"

    def replaced() -> bool:
        return server.workers().get(1, killed) != killed and server.counted("chamberlain_workers", state="ready") == 1

    until(replaced, "another worker")
    with watching(server, last=seen[-1].id) as events:
        while "admin_watch" not in seen[-1].data or seen[-1].name is None:
            seen.append(next(events))
        indexes = [int(event.id or "") for event in (begun, *seen) if event is begun or event.name == "record"]
        assert indexes == list(range(indexes[0], indexes[0] + len(indexes))), "none is missing, none comes twice"
        server.send(signal.SIGTERM)
        *_, end = events
        assert (end.name, end.data) == ("end", '{"reason":"stopping"}')
    assert server.ended() == 0
