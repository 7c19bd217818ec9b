"""Law 7, when the database says nothing at all: whoever waits is told in time, and nobody is told a lie."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from httpx import Response

from server.logging import configure
from tests.faults import Line, another_worker, until
from tests.laws.test_law_7_recording import COMMIT, LONE, TOLD_WITHIN, user_path
from tests.world.world import World

RENAME = 'mutation ($id: ID!) { adminUpdateUser(id: $id, input: {fullName: "Silent"}) { id } }'
AT_ONCE = 1.0
"""Less than finding out anew would take."""


@asynccontextmanager
async def behind_a_line(world: World) -> AsyncIterator[tuple[Line, World]]:
    configure("warning")  # as a worker does: a trace for people's eyes takes seconds to draw
    async with Line(world.urls.application) as line, another_worker(world, line.url) as faulty:
        await faulty.root.get(user_path(world))
        yield line, faulty
        line.speak()  # lest its end wait for the silence to end


@dataclass(frozen=True)
class Timed:
    response: Response
    seconds: float

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def kind(self) -> str:
        return str(self.response.json()["type"]).removeprefix("urn:chamberlain:problem:")


async def timed(call: Any) -> Timed:
    started = time.monotonic()
    response = await call
    return Timed(response, time.monotonic() - started)


async def answers(world: World) -> bool:
    return (await world.root.send("GET", user_path(world))).status_code == 200


async def test_whoever_waits_for_a_silent_database_is_told_within_two_seconds(world: World) -> None:
    async with behind_a_line(world) as (line, faulty):
        line.fall_silent()
        *rest, graphql = await asyncio.gather(
            timed(faulty.root.send("GET", user_path(world))),
            timed(faulty.root.send("GET", "/admin/users")),
            timed(faulty.root.send("POST", "/admin/domains", {"name": "unrecorded"})),
            timed(faulty.mia.send("GET", "/admin/users")),
            timed(faulty.stranger().send("GET", "/auth/whoami")),
            timed(faulty.root.send("POST", "/graphql", {"query": "{ adminSearchUsers { totalCount } }"})),
        )
        for told in rest:
            assert (told.status, told.kind) == (503, "audit-unavailable")
            assert told.response.headers["retry-after"] == "2"
        assert "audit-unavailable" in graphql.response.text
        assert max(told.seconds for told in (*rest, graphql)) < TOLD_WITHIN
        # It is known by now, so nobody is kept waiting to find out again.
        assert faulty.app.pulse.silent
        again = await timed(faulty.root.send("PATCH", user_path(world), {"description": "unrecorded"}))
        assert (again.status, again.kind) == (503, "audit-unavailable")
        assert again.seconds < AT_ONCE
        line.speak()
        await until(lambda: answers(faulty), 5.0)
        [row] = await world.sql("SELECT count(*) FROM users WHERE description = 'unrecorded'")
        assert row["count"] == 0


@pytest.mark.parametrize("known", [False, True], ids=["not known yet", "known"])
async def test_a_change_that_was_sent_when_silence_fell_is_unknown_until_somebody_can_be_asked(
    world: World, *, known: bool
) -> None:
    """It was sent and may be made yet, so nobody may say that nothing was done. Once the silence is known, nobody waits
    for it either."""
    for mark, method, path, body in (
        (LONE, "PATCH", user_path(world), {"description": "sent"}),
        (COMMIT, "POST", "/admin/domains", {"name": "sent"}),
    ):
        async with behind_a_line(world) as (line, faulty):
            line.fall_silent_at(mark)
            asking = asyncio.create_task(timed(faulty.root.send(method, path, body)))
            await line.cut.wait()
            line.cut.clear()
            if known:
                faulty.app.pulse.hangs(silent=True)
            told = await asking
            assert (told.status, told.kind) == (503, "outcome-unknown")
            assert not known or told.seconds < AT_ONCE
            assert told.response.headers["retry-after"] == "2"
            assert told.seconds < TOLD_WITHIN
            line.speak()
            await until(lambda faulty=faulty: answers(faulty), 5.0)  # type: ignore[misc]
            assert await faulty.app.units.fates.sweep() == 1
            found = await world.sql(
                "SELECT phase, result FROM audit_record WHERE action_id = $1::text::uuid",
                told.response.json()["action_id"],
            )
            assert [tuple(row) for row in found] in ([("done", "succeeded")], [("settled", "failed")])
            changed = await world.sql(
                "SELECT FROM users WHERE description = 'sent' UNION ALL SELECT FROM domain WHERE name = 'sent'"
            )
            made = {("done", "succeeded"): 1, ("settled", "failed"): 0}[tuple(found[0])]
            assert len(changed) == made
            await world.sql("UPDATE users SET description = ''")


async def test_a_log_that_says_no_is_not_silent(world: World) -> None:
    """Each who asks is told at once, and served at once when the cause has ended."""
    async with another_worker(world) as faulty:
        await faulty.root.get(user_path(world))
        await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
        told = await timed(faulty.root.send("GET", user_path(world)))
        assert (told.status, told.kind) == (503, "audit-unavailable")
        assert not faulty.app.pulse.hanging
        await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")
        await faulty.root.get(user_path(world))
