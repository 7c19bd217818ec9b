"""What a whole server withstands: a flood of strangers, the death of its database, and of a worker with work open."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
import pytest

from audit.lane import IN_FULL_TOGETHER
from server.cli.signing_client import SignatureAuth
from tests.e2e.house import House, Server, until

FLOOD = 3000
"""Requests of strangers."""
ADDRESSES = 20
_PLANT = """
    INSERT INTO audit_record (action_id, phase, at, action, result, principal, request_id, scope_type, leaf)
    SELECT gen_random_uuid(), 'intent', now() - interval '31 seconds', action, 'pending', principal, 'planted',
    scope_type, leaf FROM audit_record WHERE phase = 'done' LIMIT 1 RETURNING action_id
"""


@pytest.fixture(scope="module")
def server(shared_house: House) -> Iterator[Server]:
    with shared_house.serving() as server:
        yield server


def test_a_flood_of_bad_signatures_fills_no_log_and_shuts_no_honest_caller_out(server: Server) -> None:
    refused, honest = asyncio.run(_flood(server))
    assert set(refused) == {401, 429}
    assert refused.total() == FLOOD
    assert honest
    assert {status for status, _ in honest} == {200}
    assert sorted(seconds for _, seconds in honest)[int(len(honest) * 0.99)] < 1.0
    [row] = server.house.sql("SELECT count(*) FROM audit_record WHERE action = 'authenticate'")
    # Each worker has a lane of its own; the flood may have met two minutes.
    assert 0 < row["count"] <= IN_FULL_TOGETHER * 2 * 2 < FLOOD


async def _flood(server: Server) -> tuple[Counter[int], list[tuple[int, float]]]:
    root, refused, honest = server.root, Counter[int](), []
    wrong = SignatureAuth(root.access_key, "not the secret", sign_body=True, now=lambda: datetime.now(UTC))
    request = httpx.Request("GET", f"{server.http}/auth/whoami")
    next(wrong.auth_flow(request))
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    said = f"GET /auth/whoami HTTP/1.1\r\n{head}\r\n".encode()
    place = urlsplit(server.http)

    async def stranger(number: int) -> None:
        source = (f"127.0.1.{number % ADDRESSES + 1}", 0)
        reader, writer = await asyncio.open_connection(place.hostname, place.port, local_addr=source)
        for _ in range(FLOOD // (2 * ADDRESSES)):
            writer.write(said)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            refused[int(answer.split(b" ", 2)[1])] += 1
        writer.close()

    flooding = asyncio.gather(*(stranger(number) for number in range(2 * ADDRESSES)))
    async with httpx.AsyncClient(base_url=server.http, auth=root.signing(), timeout=30, trust_env=False) as caller:
        while not flooding.done():
            started = time.monotonic()
            answer = await caller.get("/auth/whoami")
            honest.append((answer.status_code, time.monotonic() - started))
    await flooding
    return refused, honest


def test_a_database_that_was_killed_is_back_without_a_restart(server: Server) -> None:
    cluster = (server.house.data / "postgres").resolve()
    os.kill(int((cluster / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    until(lambda: server.events("the embedded PostgreSQL was started again"), "another start of the database")
    until(lambda: _status(server) == 200, "an answer")


def _status(server: Server) -> int:
    line = server.line(1)
    return line.send(server.root, "GET", "/auth/whoami").status_code


def test_an_intent_whose_worker_was_killed_is_closed_as_unknown_within_a_minute(server: Server) -> None:
    """By whoever comes in its place, though the killed one was the housekeeper."""
    [planted] = server.house.sql(_PLANT)
    os.kill(server.workers()[1], signal.SIGKILL)

    def results() -> list[str]:
        rows = server.house.sql(
            "SELECT result FROM audit_record WHERE action_id = $1 AND phase = 'settled'", planted["action_id"]
        )
        return [row["result"] for row in rows]

    assert until(results, "the end of an open intent") == ["unknown"]
