"""The order of the log: by index, in which nothing comes later below what somebody has read already."""

import asyncio
import random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from audit.record import new_id
from tests.documents import post
from tests.world.world import World

ADMIN, RESEARCH = "/admin/audit-records", "/domains/research/audit-records"
WRITERS, ROUNDS = 6, 8


def _written(key: UUID, phase: str) -> str:
    leaf = f'{{"id": "{key}", "phase": "{phase}", "at": "2026-01-01T00:00:00Z", "action": "held", "result": "succeeded"'
    leaf += ', "principal": {"kind": "system", "name": "x", "credential": null}}'
    return (
        "INSERT INTO audit_record (action_id, phase, at, action, result, principal, request_id, scope_type, leaf)"
        f" VALUES ('{key}', '{phase}', now(), 'held', 'succeeded', 'x', '', 'admin', '{leaf}')"
    )


class Writers:
    """Many at once, each in transactions that are held open for a while; some give up at the end."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self.committed: set[tuple[str, str]] = set()

    async def write(self) -> None:
        connection = await asyncpg.connect(self._world.urls.migrator)
        try:
            for _ in range(ROUNDS):
                records = {(str(new_id()), "done") for _ in range(self._random.randint(1, 3))}
                transaction = connection.transaction()
                await transaction.start()
                for key, phase in records:
                    await connection.execute(_written(UUID(key), phase))
                    await asyncio.sleep(self._random.random() / 50)
                if self._random.random() < 0.2:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    self.committed |= records
        finally:
            await connection.close()


class Poller:
    """Reads on from the index that it has read last; or by cursor, for as long as a page has one."""

    def __init__(self, world: World, limit: int, **params: Any) -> None:
        self._world, self._limit, self._params = world, limit, params
        self.seen: list[tuple[int, str, str]] = []

    async def poll(self, *, by_cursor: bool) -> int:
        after = self.seen[-1][0] if self.seen else -1
        told: dict[str, Any] = {"filter": {"index": {"greater_than": after}}, "order": "index:asc", **self._params}
        found = 0
        while True:
            page = await self._world.olga.get(ADMIN, limit=self._limit, **told)
            self.seen += [(one["index"], one["id"], one["phase"]) for one in page["items"]]
            found += len(page["items"])
            if page["next_cursor"] is None or not by_cursor:
                return found
            told["cursor"] = page["next_cursor"]


async def test_pollers_see_every_record_once_and_in_the_same_order_whatever_commits_late(world: World) -> None:
    writers = Writers(world, seed=11)
    writing = asyncio.gather(*(writers.write() for _ in range(WRITERS)))
    one, other = Poller(world, 5, total="none"), Poller(world, 3)
    while not writing.done():
        await world.app.sequencer.step()
        await one.poll(by_cursor=False)
        await other.poll(by_cursor=True)
    await writing
    assert len(other.seen) > 20, "it has read while they wrote"
    await world.app.sequencer.catch_up()
    [numbered] = await world.sql("SELECT max(index) AS last FROM audit_leaf")
    for poller, by_cursor in ((one, False), (other, True)):
        while poller.seen[-1][0] < numbered["last"]:
            assert await poller.poll(by_cursor=by_cursor)
    shared = min(len(one.seen), len(other.seen))
    assert one.seen[:shared] == other.seen[:shared]
    for poller in (one, other):
        assert [index for index, *_ in poller.seen] == list(range(len(poller.seen)))
        read = [(key, phase) for _, key, phase in poller.seen]
        assert len(read) == len(set(read))
        assert writers.committed <= set(read)


async def test_a_record_has_no_index_until_it_is_numbered_and_no_place_in_their_order(world: World) -> None:
    await world.app.sequencer.catch_up()
    await world.root.get("/auth/whoami")
    [newest] = (await world.olga.get(ADMIN, limit=1))["items"]
    assert (newest["action"], newest["index"]) == ("user_whoami_user", None)
    other = {"index": {"not_equals": 0}, "id": {"equals": newest["id"]}}
    assert (await world.olga.get(ADMIN, filter=other))["items"] == [newest], "it has another index, in that it has none"
    assert (await world.olga.get(ADMIN, filter=other, order="index"))["items"] == []
    [last] = (await world.olga.get(ADMIN, limit=1, order="index:desc"))["items"]
    assert last["id"] < newest["id"]
    [leaf] = await world.sql("SELECT action_id, index FROM audit_leaf ORDER BY index DESC LIMIT 1")
    assert (last["id"], last["index"]) == (str(leaf["action_id"]), leaf["index"])
    await world.app.sequencer.catch_up()
    whole = await world.olga.get(f"{ADMIN}/{newest['id']}")
    [found] = (await world.olga.get(ADMIN, filter={"index": {"equals": whole["records"][0]["index"]}}))["items"]
    assert (found["id"], found["index"]) == (newest["id"], leaf["index"] + 1)


async def test_the_index_orders_and_filters_in_a_domain_too_beside_any_other_field(world: World) -> None:
    await world.root.patch(f"/domains/research/users/{world.id('mia')}", {"description": "x"})
    await world.root.get("/domains/elsewhere/users")
    await world.app.sequencer.catch_up()
    whole = {(one["index"], one["id"]) for one in await _all(world, ADMIN, order="index:asc")}
    mine = [(one["index"], one["id"]) for one in await _all(world, RESEARCH, order="index:asc")]
    assert set(mine) < whole
    assert mine == sorted(mine)
    assert [(one["index"], one["id"]) for one in await _all(world, RESEARCH, order="index:desc")] == mine[::-1]
    for order in ("index:desc,id:asc", "id:asc,index:desc"):
        assert sorted((one["index"], one["id"]) for one in await _all(world, RESEARCH, order=order)) == mine
    changed = {"action": {"equals": "domain_update_user"}}
    [only] = await _all(world, RESEARCH, order="index", filter=changed)
    at = {"index": {"greater_than_or_equal": only["index"], "less_than": only["index"] + 1}}
    for order in ("index", "id"):
        assert [one["id"] for one in await _all(world, RESEARCH, order=order, filter={**changed, **at})] == [only["id"]]
        assert await _all(world, RESEARCH, order=order, filter={"NOT": [at], **changed}) == []


async def _all(world: World, path: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = await world.olga.get(path, limit=7, **params)
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        params["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("total", [None, "exact", "none"])
async def test_totals_in_the_order_of_the_index_are_those_of_what_is_numbered(world: World, total: str | None) -> None:
    await world.app.sequencer.catch_up()
    [there] = await world.sql("SELECT count(*) FROM audit_leaf")
    asked: dict[str, Any] = {"total": total} if total else {}
    page = await world.olga.get(ADMIN, order="index", limit=3, **asked)
    assert [one["index"] for one in page["items"]] == [0, 1, 2]
    assert page["next_cursor"] is not None
    if total != "none":
        assert (page["total_count"], page["total_count_exact"]) == (there["count"], True)
    else:
        assert not page["total_count_exact"]


async def test_graphql_knows_the_index_and_its_order(world: World) -> None:
    await world.app.sequencer.catch_up()
    query = """{ told: adminSearchAuditRecords(filter: {index: {lessThan: 5}}, order: [{field: INDEX, direction: DESC}])
      { totalCount edges { node { index id } } } }"""
    told = (await post(world.olga, query)).json()["data"]["told"]
    assert [edge["node"]["index"] for edge in told["edges"]] == [4, 3, 2, 1, 0]
    assert told["totalCount"] == 5
