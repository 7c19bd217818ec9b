"""Law 7: no record, no action. What is done commits with its record; what is answered is on disk before."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from starlette.types import Message, Receive, Scope, Send

from server.repositories.unit import Unit
from tests.faults import Line, another_worker, as_application, somebody_waits, until
from tests.world.client import Caller
from tests.world.world import World

LONE = b'"action":"admin_update_user"'
"""Stands in the one statement that changes a user, where its record is a parameter."""
COMMIT = b"COMMIT\x00"
TOLD_WITHIN = 3.0
"""Two seconds, and slack for a busy machine; a statement's own deadline would be five."""


@asynccontextmanager
async def locked_log(world: World) -> AsyncIterator[None]:
    """Nobody can write the log meanwhile: a statement that tries hangs."""
    connection = await asyncpg.connect(world.urls.migrator)
    try:
        await connection.execute("BEGIN; LOCK TABLE audit_record IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        await connection.close()


def user_path(world: World, name: str = "mia") -> str:
    return f"/admin/users/{world.id(name)}"


async def description(world: World, name: str = "mia") -> str:
    [row] = await world.sql("SELECT description FROM users WHERE id = $1", world.id(name))
    return str(row["description"])


# -- in its own transaction --


async def test_a_change_and_its_record_commit_in_one_transaction(world: World) -> None:
    await world.root.patch(user_path(world), {"description": "alone"})
    await world.root.post("/admin/domains", {"name": "together"}, expect=201)
    rows = await world.sql(
        "SELECT r.action, r.xid::text::numeric % 4294967296 AS recorded,"
        " coalesce(u.xmin, d.xmin)::text::numeric AS changed"
        " FROM audit_record r LEFT JOIN users u ON u.id::text = r.target_id"
        " LEFT JOIN domain d ON d.id::text = r.target_id"
        " WHERE r.action = 'admin_update_user' OR r.action = 'admin_create_domain' AND d.name = 'together'"
    )
    assert sorted(row["action"] for row in rows) == ["admin_create_domain", "admin_update_user"]
    assert all(row["recorded"] == row["changed"] for row in rows)


@pytest.mark.parametrize("mark", [LONE, COMMIT])
async def test_of_a_change_that_never_commits_there_is_no_record(world: World, mark: bytes) -> None:
    """Killed between the change and its commit: neither is there, and the caller is told to try again."""
    async with Line(world.urls.application) as line, another_worker(world, line.url) as faulty:
        line.cut_at(mark, deliver=False)
        response = await _mutate(faulty, mark)
        assert line.cut.is_set()
        assert (response.status_code, response.json()["type"]) == (503, "urn:chamberlain:problem:database-unavailable")
        assert response.headers["retry-after"]
        assert not await _took_place(world, mark)
        told = await world.records(_action(mark))
        assert [record["result"] for record in told if record["request"]["id"] == response.json()["request_id"]] == [
            "failed"
        ]
        # The same worker goes on as if nothing had been.
        assert (await _mutate(faulty, mark)).status_code in (200, 201)


@pytest.mark.parametrize("mark", [LONE, COMMIT])
async def test_a_commit_whose_answer_is_lost_is_told_as_the_success_that_it_was(world: World, mark: bytes) -> None:
    async with Line(world.urls.application) as line, another_worker(world, line.url) as faulty:
        line.cut_at(mark, deliver=True)
        response = await _mutate(faulty, mark)
        assert line.cut.is_set()
        assert response.status_code in (200, 201), response.text
        assert response.json()["description"] == "changed"
        assert await _took_place(world, mark)
        told = [
            record for record in await world.records(_action(mark)) if record["target"]["id"] == response.json()["id"]
        ]
        assert [record["result"] for record in told] == ["succeeded"]


@pytest.mark.parametrize(("mark", "took_place"), [(LONE, True), (COMMIT, False)])
async def test_a_commit_that_nobody_can_be_asked_about_is_unknown_until_it_is_swept(
    world: World, mark: bytes, took_place: bool
) -> None:
    async with Line(world.urls.application) as line, another_worker(world, line.url) as faulty:
        line.cut_at(mark, deliver=took_place, stay_down=True)
        response = await _mutate(faulty, mark)
        problem = response.json()
        assert (response.status_code, problem["type"]) == (503, "urn:chamberlain:problem:outcome-unknown")
        assert response.headers["retry-after"]
        line.restore()
        assert await faulty.app.units.fates.sweep() == 1
        told = [record for record in await world.records(_action(mark)) if record["id"] == problem["action_id"]]
        expected = ("done", "succeeded") if took_place else ("settled", "failed")
        assert [(record["phase"], record["result"]) for record in told] == [expected]
        assert await _took_place(world, mark) is took_place
        assert await faulty.app.units.fates.sweep() == 0


async def test_a_backend_that_is_ended_in_the_midst_of_a_transaction_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    committing = Unit.commit

    async def commit(self: Unit) -> None:
        assert await as_application(
            world,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'idle in transaction'",
        )
        await committing(self)

    monkeypatch.setattr(Unit, "commit", commit)
    response = await world.root.send("POST", "/admin/domains", {"name": "doomed"})
    monkeypatch.undo()
    assert (response.status_code, response.json()["type"]) == (503, "urn:chamberlain:problem:database-unavailable")
    assert not await world.sql("SELECT 1 FROM domain WHERE name = 'doomed'")
    await world.root.post("/admin/domains", {"name": "doomed"}, expect=201)


async def test_a_caller_who_hangs_up_during_the_commit_loses_no_record_and_doubles_none(world: World) -> None:
    """The row's lock holds the statement; the task is cancelled, twice, while it waits; then the lock is let go."""
    blocker = await asyncpg.connect(world.urls.migrator)
    try:
        for number in (1, 2, 3):
            await blocker.execute("BEGIN")
            await blocker.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", world.id("mia"))
            call = asyncio.create_task(world.root.patch(user_path(world), {"description": f"change {number}"}))
            await until(lambda: somebody_waits(world))
            call.cancel()
            await asyncio.sleep(0)
            call.cancel()
            await blocker.execute("COMMIT")
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await description(world) == f"change {number}"
            told = await world.records("admin_update_user")
            assert [record["result"] for record in told] == ["succeeded"] * number
    finally:
        await blocker.close()


async def _mutate(world: World, mark: bytes) -> Any:
    if mark == LONE:
        return await world.root.send("PATCH", user_path(world), {"description": "changed"})
    return await world.root.send("POST", "/admin/domains", {"name": "fresh", "description": "changed"})


def _action(mark: bytes) -> str:
    return "admin_update_user" if mark == LONE else "admin_create_domain"


async def _took_place(world: World, mark: bytes) -> bool:
    if mark == LONE:
        return await description(world) == "changed"
    return bool(await world.sql("SELECT FROM domain WHERE name = 'fresh'"))


# -- before the answer leaves --


async def test_reads_denials_and_failures_are_on_disk_before_the_answer_leaves(world: World) -> None:
    on_disk: list[int] = []

    async def watching(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                identity = dict(message["headers"])[b"x-request-id"].decode()
                on_disk.append(len(await world.sql("SELECT FROM audit_record WHERE request_id = $1", identity)))
            await send(message)

        await world.asgi(scope, receive, sending)

    root, mia = (Caller(watching, world.personas[name]) for name in ("root", "mia"))
    stranger = Caller(watching, None)
    answers = [
        await root.send("GET", user_path(world)),
        await mia.send("GET", user_path(world)),
        await mia.send("GET", "/domains/elsewhere/users"),
        await root.send("GET", f"/admin/users/{uuid4()}"),
        await root.send("PATCH", user_path(world), {"nonsense": 1}),
        await root.send("PATCH", user_path(world), {"description": "x"}),
        await stranger.send("GET", "/auth/whoami"),
    ]
    assert [answer.status_code for answer in answers] == [200, 403, 404, 404, 422, 200, 401]
    assert on_disk == [1] * len(answers)


# -- a log that cannot be written --


async def test_without_a_log_nothing_is_read_and_nothing_is_done(world: World) -> None:
    await world.root.get(user_path(world))
    await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    await _refuses_everything(world)
    await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")
    await _serves_again(world)


async def test_a_log_that_hangs_is_told_of_within_two_seconds(world: World) -> None:
    await world.root.get(user_path(world))
    async with locked_log(world):
        await _refuses_everything(world)
    await until(lambda: _answers(world))
    await _serves_again(world)


async def test_a_writer_whose_connection_is_cut_comes_back_by_itself(world: World) -> None:
    await world.root.get(user_path(world))
    assert await as_application(
        world,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE '%-audit-%'",
    )
    response = await world.root.send("GET", user_path(world))
    assert response.status_code in (200, 503)  # whether the end of the connection was noticed before it was used
    await _serves_again(world)


async def test_whose_key_cannot_be_had_cannot_be_recorded(world: World) -> None:
    """Sealing what a record says of a person needs the person's key; without it there is no record."""
    async with another_worker(world) as cold:
        await world.sql("REVOKE SELECT ON subject_key FROM chamberlain_app")
        response = await cold.mia.send("GET", "/auth/whoami")
        assert (response.status_code, response.json()["type"]) == (503, "urn:chamberlain:problem:audit-unavailable")
        await world.sql("GRANT SELECT ON subject_key TO chamberlain_app")
        await cold.mia.get("/auth/whoami")


async def _answers(world: World) -> bool:
    return (await world.root.send("GET", user_path(world))).status_code == 200


async def _refuses_everything(world: World) -> None:
    async def timed(method: str, path: str, body: object = None) -> tuple[int, str, str | None, float]:
        started = time.monotonic()
        response = await world.root.send(method, path, body)
        seconds = time.monotonic() - started
        return response.status_code, response.json()["type"], response.headers.get("retry-after"), seconds

    refused = await asyncio.gather(
        timed("GET", user_path(world)),
        timed("PATCH", user_path(world), {"description": "unrecorded"}),
        timed("POST", "/admin/domains", {"name": "unrecorded"}),
        timed("DELETE", "/admin/domains/00000000-0000-4000-8000-000000000000"),
    )
    for status, kind, retry_after, seconds in refused:
        assert (status, kind, retry_after) == (503, "urn:chamberlain:problem:audit-unavailable", "2")
        assert seconds < TOLD_WITHIN
    failed = await world.stranger().send("GET", "/auth/whoami")
    assert (failed.status_code, failed.json()["type"]) == (503, "urn:chamberlain:problem:audit-unavailable")
    [users] = await world.sql("SELECT count(*) FROM users WHERE description = 'unrecorded'")
    [domains] = await world.sql("SELECT count(*) FROM domain WHERE name = 'unrecorded'")
    assert (users["count"], domains["count"]) == (0, 0)


async def _serves_again(world: World) -> None:
    await world.root.get(user_path(world))
    await world.root.patch(user_path(world), {"description": "recorded"})
    record = (await world.records("admin_update_user"))[-1]
    assert record["result"] == "succeeded"
