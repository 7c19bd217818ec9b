"""What was taken away is gone: at once on the worker that did it, within a second on every other."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg

from server.repositories import channel as channels
from tests.faults import another_worker, as_application, until
from tests.world.client import Caller
from tests.world.counted import registry
from tests.world.stage import Persona
from tests.world.world import World

TakeAway = Callable[[World, Persona, UUID], Awaitable[object]]
WITHIN = 3.0
"""Seconds: the one that is promised, and slack for a busy machine. What is not heard at all is trusted forever."""


async def _rotated(world: World, who: Persona, key: UUID) -> object:
    return await world.root.post(f"/admin/keypairs/{key}/rotate", {})


async def _key_deactivated(world: World, who: Persona, key: UUID) -> object:
    return await world.root.post(f"/admin/keypairs/{key}/deactivate", {})


async def _key_deleted(world: World, who: Persona, key: UUID) -> object:
    return await world.root.delete(f"/admin/keypairs/{key}")


async def _user_deactivated(world: World, who: Persona, key: UUID) -> object:
    return await world.root.patch(f"/admin/users/{who.id}", {"status": "inactive"})


async def _user_deleted(world: World, who: Persona, key: UUID) -> object:
    return await world.root.delete(f"/admin/users/{who.id}")


async def _domain_deleted(world: World, who: Persona, key: UUID) -> object:
    return await world.root.delete(f"/admin/domains/{world.places.research}")


async def _address_list_narrowed(world: World, who: Persona, key: UUID) -> object:
    return await world.root.patch(f"/admin/users/{who.id}", {"allowed_client_ip": ["192.0.2.1"]})


TAKING_AWAY: tuple[TakeAway, ...] = (
    _rotated,
    _key_deactivated,
    _key_deleted,
    _user_deactivated,
    _user_deleted,
    _address_list_narrowed,
    _domain_deleted,  # the last: it takes everyone along
)


async def test_who_was_shut_out_is_out_at_once_here_and_within_a_second_elsewhere(world: World) -> None:
    async with another_worker(world) as elsewhere:
        for number, take_away in enumerate(TAKING_AWAY):
            who = await world.newcomer(f"newcomer{number}")
            for where in (world, elsewhere):
                for _ in range(2):
                    await where.as_(who).get("/auth/whoami")  # remembered by both workers
            [keypair] = (await world.as_(who).get("/users/me/keypairs"))["items"]
            await take_away(world, who, UUID(keypair["id"]))
            await world.as_(who).get("/auth/whoami", expect=401)
            await until(lambda who=who: _shut_out(elsewhere.as_(who)), WITHIN)  # type: ignore[misc]


async def _shut_out(caller: Caller) -> bool:
    return (await caller.send("GET", "/auth/whoami")).status_code == 401


async def test_a_binding_that_was_revoked_allows_nothing_more(world: World) -> None:
    async with another_worker(world) as elsewhere:
        for where in (world, elsewhere):
            await where.dana.get("/domains/research/users")
        held = (await world.root.get("/domains/research/role-bindings"))["items"]
        [binding] = [one for one in held if one["role"] == "domain_admin"]
        await world.root.delete(f"/admin/role-bindings/{binding['id']}")
        await world.dana.get("/domains/research/users", expect=403)

        async def refused() -> bool:
            return (await elsewhere.dana.send("GET", "/domains/research/users")).status_code == 403

        await until(refused, WITHIN)


async def test_a_key_that_was_just_rotated_signs_at_once_everywhere(world: World) -> None:
    """Elsewhere the old secret may be remembered for a moment: a signature that fails is checked once more, afresh."""
    async with another_worker(world) as elsewhere:
        for where in (world, elsewhere):
            await where.mia.get("/auth/whoami")
        elsewhere.app.channel._listeners.clear()  # deaf: nothing but the second look can help
        [keypair] = (await world.mia.get("/users/me/keypairs"))["items"]
        issued = await world.mia.post(f"/users/me/keypairs/{keypair['id']}/rotate", {})
        renewed = Persona("mia", world.id("mia"), issued["access_key"], issued["secret_key"])
        for where in (world, elsewhere):
            await where.as_(renewed).get("/auth/whoami")


async def test_what_was_given_back_works_again(world: World) -> None:
    [keypair] = (await world.mia.get("/users/me/keypairs"))["items"]
    await world.root.post(f"/admin/keypairs/{keypair['id']}/deactivate", {})
    await world.mia.get("/auth/whoami", expect=401)
    await world.root.post(f"/admin/keypairs/{keypair['id']}/activate", {})
    await world.mia.get("/auth/whoami")


# -- the channel itself --


def test_silence_is_trusted_for_a_second_and_no_longer() -> None:
    assert channels.TRUST_SECONDS == 1.0
    assert channels._POLL_SECONDS + channels._ANSWER_SECONDS < channels.TRUST_SECONDS


async def test_while_the_channel_is_lost_every_answer_is_read_afresh(world: World) -> None:
    async with another_worker(world) as cut_off:
        await cut_off.mia.get("/auth/whoami")
        listening = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%-channel-%'"
        deaf = asyncio.Event()
        connecting = cut_off.app.channel._database.connect

        async def refused(purpose: str) -> "asyncpg.Connection[asyncpg.Record]":
            if purpose == "channel" and not deaf.is_set():
                raise OSError("the line is down")
            return await connecting(purpose)

        cut_off.app.channel._database.connect = refused  # type: ignore[method-assign]
        assert await as_application(world, f"{listening} AND datname = current_database()")
        await until(_holds(lambda: not cut_off.app.channel.trusted))
        before = _asked(cut_off, "credential", "hit"), _asked(cut_off, "bindings", "hit")
        # Changed behind everybody's back, triggers and all: only whoever asks the database can know.
        await world.sql("ALTER TABLE users DISABLE TRIGGER USER")
        await cut_off.mia.get("/auth/whoami")
        await world.sql("UPDATE users SET status = 'inactive' WHERE id = $1", world.id("mia"))
        await cut_off.mia.get("/auth/whoami", expect=401)
        assert (_asked(cut_off, "credential", "hit"), _asked(cut_off, "bindings", "hit")) == before
        deaf.set()
        await until(_holds(lambda: cut_off.app.channel.trusted))


async def test_a_version_that_moved_without_a_word_clears_every_answer(world: World) -> None:
    await world.mia.get("/auth/whoami")
    await world.mia.get("/auth/whoami")
    await world.sql("ALTER TABLE keypair DISABLE TRIGGER USER")
    await world.sql("UPDATE keypair SET is_active = false WHERE access_key = $1", world.personas["mia"].access_key)
    await world.mia.get("/auth/whoami")  # it is remembered, and nobody said a word
    await world.sql("SELECT nextval('directory_version')")

    async def noticed() -> bool:
        return (await world.mia.send("GET", "/auth/whoami")).status_code == 401

    await until(noticed)


async def test_a_change_that_was_heard_costs_no_more_than_what_it_names(world: World) -> None:
    """A slow commit may look like a lost word and clear everything, which does no harm; a quick one must not."""
    words: list[str] = []
    channel = world.app.channel
    channel.listen(words.append)
    for number in range(20):
        words.clear()
        status = ("inactive", "active")[number % 2]
        await world.root.patch(f"/admin/users/{world.id('nobody')}", {"status": status})
        changed = time.monotonic()
        await until(_holds(lambda changed=changed: channel._heard_at > changed))  # type: ignore[misc]
        await asyncio.sleep(0.1)  # what it would have made of a lost word
        if words == [f"user:{world.id('nobody')}"]:
            return
    raise AssertionError("every change cleared every answer")


def _asked(world: World, kind: str, result: str) -> float:
    labels = {"kind": kind, "result": result}
    return registry(world.app.metrics).get_sample_value("chamberlain_directory_cache_requests_total", labels) or 0.0


def _holds(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return condition()

    return holds
