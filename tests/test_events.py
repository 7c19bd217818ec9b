"""Streams over HTTP: what they show, that nothing is missed, and how they begin and end."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta, tzinfo
from typing import Any

import pytest

from actions import processor as processing
from server.app import http_app
from server.http import events
from server.http.middleware import authentication
from server.services import audit_following
from tests.faults import until
from tests.signing_in import bearer, log_in
from tests.world.client import Caller
from tests.world.counted import registry
from tests.world.listener import Listener, listen
from tests.world.world import World

ADMIN, RESEARCH = "/admin/audit-records", "/domains/research/audit-records"
WATCH = f"{ADMIN}/watch"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_following, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(processing, "LOOK_AGAIN_SECONDS", 0.05)


@pytest.fixture
async def numbered(world: World) -> World:
    await world.app.sequencer.catch_up()
    return world


async def _changed(world: World, times: int = 1) -> list[str]:
    """Ids of changes of mia that are numbered now."""
    before = len(await world.records("admin_update_user"))
    for number in range(times):
        await world.root.patch(f"/admin/users/{world.id('mia')}", {"description": f"{before} {number}"})
    await world.app.sequencer.catch_up()
    return [one["id"] for one in (await world.records("admin_update_user"))[before:]]


async def _told(world: World, action: str = "admin_watch_audit_record") -> list[tuple[str, str]]:
    return [(one["phase"], one["result"]) for one in await world.records(action)]


async def _comes(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    async def there() -> bool:
        return await ask() == expected

    await until(there)


UPDATES = {"action": {"equals": "admin_update_user"}}
OPEN, RUN = ("opened", "pending"), [("opened", "pending"), ("closed", "succeeded")]
BROKEN = [OPEN, ("closed", "broken-off")]


# -- what it shows --


async def test_a_watch_shows_each_record_as_a_search_does_once_it_is_numbered(numbered: World) -> None:
    async with listen(numbered.olga, WATCH) as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        begun = await stream.read()
        assert (begun.name, begun.data) == (None, None), "it says where it begins"
        changed = await _changed(numbered, 3)
        [opened, *updates] = await stream.things(4)
        assert opened.data["action"] == "admin_watch_audit_record", "it sees itself begin"
        assert [one.data["id"] for one in updates] == changed
        assert [int(one.id or "") for one in (opened, *updates)] == [int(begun.id or "") + k for k in range(1, 5)]
        asked = {"index": {"greater_than": int(begun.id or "")}}
        found = (await numbered.olga.get(ADMIN, filter=asked, order="index"))["items"]
        assert [one.data for one in (opened, *updates)] == found
        assert {one.name for one in (opened, *updates)} == {"record"}


async def test_whoever_comes_back_goes_on_after_what_was_read_last(numbered: World) -> None:
    async with listen(numbered.olga, WATCH, filter=UPDATES) as stream:
        assert (await stream.read()).name is None
        changed = await _changed(numbered, 2)
        first, _ = await stream.things(2)
    missed = await _changed(numbered, 2)
    for again in (
        listen(numbered.olga, WATCH, filter=UPDATES, last=first.id),
        listen(numbered.olga, WATCH, filter=UPDATES, after="0", last=first.id),
        listen(numbered.olga, WATCH, filter=UPDATES, after=first.id),
    ):
        async with again as stream:
            assert [one.data["id"] for one in await stream.things(3)] == [changed[1], *missed]
        *_, opened, _ = await numbered.records("admin_watch_audit_record")
        asked = {"field": "after", "value": int(first.id or "")}
        assert asked in opened["asked"], "what a reader says it has had is recorded"
    async with listen(numbered.olga, WATCH, after="-1") as stream:
        assert [one.id for one in await stream.things(5)] == ["0", "1", "2", "3", "4"]


async def test_a_filter_that_matches_little_is_told_how_far_it_has_come(
    numbered: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_following, "STRETCH", 4)
    never = {"action": {"equals": "never"}}
    async with listen(numbered.olga, WATCH, filter=never, after="-1") as stream:
        come = [await stream.read() for _ in range(3)]
        assert [(one.id, one.name) for one in come] == [("3", None), ("7", None), ("11", None)]


async def test_a_domain_watches_what_it_may_search_and_sees_it_as_it_may_see_it(numbered: World) -> None:
    await numbered.root.patch(f"/admin/users/{numbered.id('mia')}", {"description": "x"})
    await numbered.root.get("/domains/elsewhere/users")
    await numbered.app.sequencer.catch_up()
    shown: list[Any] = []
    async with listen(numbered.olga, f"{RESEARCH}/watch", after="-1") as stream:
        searched = (await numbered.olga.get(RESEARCH, order="index", limit=100))["items"]
        shown = [one.data for one in await stream.things(len(searched))]
    assert shown == searched
    assert len(shown) > 5
    everything = (await numbered.olga.get(ADMIN, order="index", limit=100, total="exact"))["total_count"]
    assert len(shown) < everything
    [seen] = [one for one in shown if one["action"] == "admin_update_user"]
    assert seen["principal"]["credential"] is None, "root is not of research"


# -- before it opens --


async def test_what_is_wrong_before_it_opens_is_a_problem_as_everywhere(numbered: World) -> None:
    for caller, path, params, status in (
        (numbered.stranger(), WATCH, {}, 401),
        (numbered.mia, WATCH, {}, 403),
        (numbered.dana, f"{RESEARCH}/watch", {}, 403),
        (numbered.dana, "/domains/elsewhere/audit-records/watch", {}, 404),
        (numbered.olga, "/domains/nowhere/audit-records/watch", {}, 404),
        (numbered.olga, WATCH, {"after": "-2"}, 422),
        (numbered.olga, WATCH, {"after": "soon"}, 422),
        (numbered.olga, WATCH, {"after": "1.5"}, 422),
        (numbered.olga, WATCH, {"after": "9" * 30}, 422),
        (numbered.olga, WATCH, {"last": "x"}, 422),
        (numbered.olga, WATCH, {"order": "id"}, 422),
        (numbered.olga, WATCH, {"filter": {"colour": {"equals": "red"}}}, 422),
        (numbered.olga, WATCH, {"filter": {"OR": [UPDATES] * 20, "AND": [UPDATES] * 20, "NOT": [UPDATES] * 20}}, 422),
        (numbered.olga, WATCH, {"filter": "{"}, 400),
        (numbered.olga, f"{RESEARCH}/watch", {"filter": {"scope_domain_id": {"equals": str(numbered.id("mia"))}}}, 422),
    ):
        before = len(await numbered.records())
        async with listen(caller, path, **params) as stream:
            problem = await stream.problem()
            assert (stream.status, problem["status"]) == (status, status), problem
            assert stream.headers["content-type"] == "application/problem+json"
        [record] = (await numbered.records())[before:]
        assert (record["phase"], record["error"]["status"]) == ("done", status)
    for method in ("HEAD", "POST", "DELETE"):
        async with listen(numbered.olga, WATCH, method=method) as stream:
            assert (stream.status, stream.headers["allow"]) == (405, "GET")


async def test_one_principal_has_only_so_many_streams(numbered: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_STREAMS", 2)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(listen(numbered.olga, WATCH))
        await stack.enter_async_context(listen(numbered.olga, f"{RESEARCH}/watch"))
        async with listen(numbered.olga, WATCH) as refused:
            problem = await refused.problem()
            assert (refused.status, problem["code"]) == (429, "audit-record-watch-too-many-streams")
        assert (await numbered.records("admin_watch_audit_record"))[-1]["error"]["reason"] == "too-many-streams"
        assert _counted(numbered, "chamberlain_rate_limited_total", policy="too-many-streams") == 1
        assert _counted(numbered, "chamberlain_event_streams") == 2
        async with listen(numbered.mia, WATCH) as other:
            assert other.status == 403, "who may not watch does not learn how many may"
        async with listen(numbered.root, WATCH) as other:
            assert other.status == 200
        await one.hang_up()
        async with listen(numbered.olga, WATCH) as again:
            assert again.status == 200


# -- how it ends --


def _counted(world: World, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in registry(world.app.metrics).collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def _requests(world: World) -> float:
    return _counted(world, "chamberlain_http_server_requests_total", route=WATCH)


async def test_a_client_that_hangs_up_has_had_its_stream_which_is_counted_once(numbered: World) -> None:
    async with listen(numbered.olga, WATCH) as stream:
        await stream.read()
        assert await _told(numbered) == [OPEN]
        assert _requests(numbered) == 0
    assert await _told(numbered) == RUN
    assert _requests(numbered) == 1
    assert _counted(numbered, "chamberlain_event_streams") == 0
    closed = await _closed(numbered)
    assert closed["stream"] == {"parts": 1}
    assert "error" not in closed


async def _closed(world: World) -> Any:
    return (await world.records("admin_watch_audit_record"))[-1]


async def test_how_much_of_the_log_a_reader_was_sent_is_recorded(numbered: World) -> None:
    async with listen(numbered.olga, WATCH, filter=UPDATES) as stream:
        await stream.read()
        await _changed(numbered, 3)
        last = int((await stream.things(3))[-1].id or "")
    sent = {"field": "sent", "new": {"records": 3, "last": last}, "old": None}
    assert sent in (await _closed(numbered))["changes"]


async def test_a_stream_that_is_torn_off_is_closed_all_the_same(numbered: World) -> None:
    async with listen(numbered.olga, WATCH) as stream:
        await stream.read()
        await stream.killed()
        await _comes(lambda: _told(numbered), BROKEN)
    assert (await _closed(numbered))["error"]["reason"] == "torn-off"
    assert _requests(numbered) == 1


async def test_a_server_that_stops_ends_its_streams_and_opens_none(numbered: World) -> None:
    draining = asyncio.Event()
    caller = Caller(http_app(numbered.app, draining), numbered.personas["olga"])
    async with listen(caller, WATCH) as stream:
        assert (await stream.read()).name is None
        draining.set()
        [end] = await stream.rest()
        assert (end.name, end.data) == ("end", {"reason": "stopping"})
    assert await _told(numbered) == BROKEN
    assert (await _closed(numbered))["error"]["reason"] == "stopping"
    async with listen(caller, WATCH) as refused:
        problem = await refused.problem()
        assert (refused.status, problem["code"]) == (503, "audit-record-watch-stopping")
        assert refused.headers["retry-after"]


async def test_rights_that_are_revoked_end_it_with_a_problem(numbered: World) -> None:
    [held] = (await numbered.root.get("/admin/role-bindings", filter={"role": {"equals": "auditor"}}))["items"]
    async with listen(numbered.olga, WATCH) as stream:
        await stream.read()
        await numbered.root.delete(f"/admin/role-bindings/{held['id']}")
        *_, last = await stream.rest()
        assert (last.name, last.data["status"]) == ("problem", 403)
        assert (last.data["code"], last.data["request_id"]) == (
            "audit-record-watch-forbidden",
            stream.headers["x-request-id"],
        )
    assert await _told(numbered) == [OPEN, ("closed", "denied")]


async def test_a_mark_that_the_log_has_not_come_to_is_no_place_to_wait_at(numbered: World) -> None:
    async with listen(numbered.olga, WATCH, after="100000") as stream:
        [last] = await stream.rest()
        assert (last.name, last.data["code"]) == ("problem", "audit-record-watch-beyond-the-end")
        assert last.data["errors"][0]["pointer"] == "/after"


async def test_an_end_that_cannot_be_recorded_is_told(numbered: World) -> None:
    draining = asyncio.Event()
    caller = Caller(http_app(numbered.app, draining), numbered.personas["olga"])
    async with listen(caller, WATCH) as stream:
        await stream.read()
        await numbered.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
        draining.set()
        [last] = await stream.rest()
        await numbered.sql("GRANT INSERT ON audit_record TO chamberlain_app")
        assert (last.name, last.data["code"]) == ("problem", "audit-record-watch-audit-unavailable")
    assert await _told(numbered) == [OPEN], "it reads as never closed"


async def test_a_silent_stream_is_kept_warm(numbered: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.02)
    async with listen(numbered.olga, WATCH, filter=UPDATES) as stream:
        assert (await stream.read()).name is None

        async def warm() -> bool:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await stream.read()
            return stream.heartbeats >= 3

        await until(warm)
        [changed] = await _changed(numbered)
        [one] = await stream.things(1)
        assert one.data["id"] == changed


async def test_a_reader_that_takes_nothing_is_cut_off(numbered: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SLOW_SECONDS", 0.1)
    async with listen(numbered.olga, WATCH) as stream:
        await stream.read()
        stream.reads.clear()
        await _changed(numbered)
        await _comes(lambda: _value(stream.aborted), True)
        await _comes(lambda: _told(numbered), BROKEN)
    assert (await _closed(numbered))["error"]["reason"] == "reader-too-slow"


async def _value(value: object) -> object:
    return value


# -- who it is, is asked again --


async def _key_deactivated(world: World) -> None:
    [key] = (await world.root.get(f"/users/{world.id('olga')}/keypairs"))["items"]
    await world.root.post(f"/admin/keypairs/{key['id']}/deactivate", {})


async def _key_rotated(world: World) -> None:
    [key] = (await world.olga.get("/users/me/keypairs"))["items"]
    await world.olga.post(f"/users/me/keypairs/{key['id']}/rotate", {})


async def _user_deleted(world: World) -> None:
    await world.root.delete(f"/admin/users/{world.id('olga')}")


async def _user_inactive(world: World) -> None:
    await world.root.patch(f"/admin/users/{world.id('olga')}", {"status": "inactive"})


async def _address_left_out(world: World) -> None:
    await world.root.patch(f"/admin/users/{world.id('olga')}", {"allowed_client_ip": ["192.0.2.1"]})


async def _login_ended(world: World) -> None:
    for login in (await world.root.get(f"/users/{world.id('olga')}/logins"))["items"]:
        await world.root.delete(f"/admin/logins/{login['id']}")


ENDS = {
    "its key pair is deactivated": (_key_deactivated, False),
    "its key pair is rotated": (_key_rotated, False),
    "its user is deleted": (_user_deleted, False),
    "its user is made inactive": (_user_inactive, True),
    "its address is not allowed any more": (_address_left_out, True),
    "its login is ended": (_login_ended, True),
}


@pytest.mark.parametrize("why", ENDS)
async def test_a_stream_ends_when_its_credentials_would_be_refused(numbered: World, why: str) -> None:
    end, by_token = ENDS[why]
    caller = bearer(numbered, await log_in(numbered, "olga")) if by_token else numbered.olga
    async with listen(caller, WATCH) as stream:
        assert (await stream.read()).name is None
        await end(numbered)
        *_, last = await stream.rest()
        assert (last.name, last.data["status"]) == ("problem", 401)
        assert last.data["detail"] == "The credentials are no longer good."
    *_, closed = await numbered.records("admin_watch_audit_record")
    assert (closed["phase"], closed["result"], closed["error"]["status"]) == ("closed", "failed", 401)


class _InAnHour(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "_InAnHour":
        return super().now(tz) + timedelta(hours=1)


async def test_a_stream_outlives_the_moment_of_its_signature_and_not_the_token_that_opened_it(
    numbered: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bearer(numbered, await log_in(numbered, "olga"))
    async with listen(numbered.olga, WATCH) as signed, listen(token, WATCH) as carried:
        await signed.read()
        await carried.read()
        monkeypatch.setattr(authentication, "datetime", _InAnHour)
        *_, last = await carried.rest()
        assert (last.name, last.data["status"]) == ("problem", 401)
        [changed] = await _changed(numbered)
        while (await signed.read()).data["id"] != changed:
            pass


async def test_followers_of_one_worker_do_not_hold_its_connections(numbered: World) -> None:
    async with AsyncExitStack() as stack:
        streams: list[Listener] = []
        for _ in range(events.MOST_STREAMS):
            streams.append(await stack.enter_async_context(listen(numbered.olga, WATCH, filter=UPDATES)))
        [changed] = await _changed(numbered)
        for stream in streams:
            [one] = await stream.things(1)
            assert one.data["id"] == changed
        await _comes(lambda: _value(numbered.app.database.occupancy()[0]), 0)
    assert sorted(await _told(numbered)) == sorted(RUN * events.MOST_STREAMS)
