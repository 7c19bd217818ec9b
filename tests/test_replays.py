"""A signature authorizes one change: whoever sends it again changes nothing."""

import asyncio

import pytest

from tests.faults import another_worker
from tests.original_client import client, code, failures
from tests.world.world import World


async def test_a_replayed_mutation_is_refused_and_changes_nothing(world: World) -> None:
    mia, root = client(world), client(world, "root")
    patch = mia.signed("PATCH", "/users/me", "application/json")
    make = root.signed("POST", "/admin/domains", "application/json")
    mint = mia.signed("POST", "/users/me/keypairs", "application/json")
    counted = "SELECT (SELECT count(*) FROM keypair), (SELECT max(version) FROM users), (SELECT count(*) FROM domain)"
    for caller, method, target, headers, content in (
        (mia, "PATCH", "/users/me", patch, b'{"full_name":"First"}'),  # one statement
        (root, "POST", "/admin/domains", make, b'{"name":"made-once"}'),  # a name that is taken the second time
        (mia, "POST", "/users/me/keypairs", mint, b"{}"),  # a transaction
    ):
        first = await caller.send(method, target, headers=headers, content=content)
        assert first.status_code in (200, 201), first.text
        kept = await world.sql(counted)
        for body in (content, b'{"full_name":"Second"}' if method == "PATCH" else content):
            again = await caller.send(method, target, headers=headers, content=body)
            assert (again.status_code, code(again)) == (401, "authentication-verify-signature-replayed")
        assert kept == await world.sql(counted)
    assert (await world.mia.get("/users/me"))["full_name"] == "First"
    told = await world.records()
    replays = [record for record in told if (record.get("error") or {}).get("reason") == "signature-replayed"]
    assert len(replays) == 6
    assert {record["result"] for record in replays} == {"failed"}
    assert failures(world, "signature-replayed") == 6


async def test_a_replay_spelt_otherwise_is_a_replay(world: World) -> None:
    mia = client(world)
    headers = mia.signed("PATCH", "/users/me", "application/json")
    assert (await mia.send("PATCH", "/users/me", headers=headers, content=b'{"full_name":"A"}')).status_code == 200
    spelt = headers["Authorization"]
    for other in (spelt.replace("BackendAI ", "sorna  "), spelt[:-64] + spelt[-64:].upper(), spelt.replace(", ", " ,")):
        again = await mia.send(
            "PATCH", "/users/me", headers={**headers, "Authorization": other}, content=b'{"full_name":"B"}'
        )
        assert (again.status_code, code(again)) == (401, "authentication-verify-signature-replayed")


@pytest.mark.parametrize(("target", "content"), [("/users/me", b'{"full_name":"Once"}'), ("/users/me/keypairs", b"{}")])
async def test_of_two_at_once_exactly_one_wins(world: World, target: str, content: bytes) -> None:
    method = "PATCH" if target == "/users/me" else "POST"
    async with another_worker(world) as other:
        for _ in range(3):
            here, there = client(world), client(other)
            headers = here.signed(method, target, "application/json")
            answers = await asyncio.gather(
                *(
                    caller.send(method, target, headers=headers, content=content)
                    for caller in (here, there, here, there)
                )
            )
            assert sorted(answer.status_code // 100 for answer in answers) == [2, 4, 4, 4]
            refused = {code(answer) for answer in answers if answer.is_error}
            assert refused == {"authentication-verify-signature-replayed"}


async def test_what_reads_may_be_asked_again(world: World) -> None:
    mia = client(world)
    headers = mia.signed("GET", "/users/me", None)
    spent = await world.sql("SELECT digest FROM request_signature")
    for _ in range(3):
        assert (await mia.send("GET", "/users/me", headers=headers)).status_code == 200
    assert await world.sql("SELECT digest FROM request_signature") == spent


async def test_a_mutation_that_failed_may_be_sent_again_as_it_is_and_happens_at_most_once(world: World) -> None:
    """Its signature was not spent: the caller may retry after a 503 or once the conflict is gone."""
    root = client(world, "root")
    await world.root.post("/admin/domains", {"name": "wanted"}, expect=201)
    headers = root.signed("POST", "/admin/domains", "application/json")
    content = b'{"name":"wanted"}'
    assert (await root.send("POST", "/admin/domains", headers=headers, content=content)).status_code == 409
    await world.sql("DELETE FROM domain WHERE name = 'wanted'")
    assert (await root.send("POST", "/admin/domains", headers=headers, content=content)).status_code == 201
    assert (await root.send("POST", "/admin/domains", headers=headers, content=content)).status_code == 401
