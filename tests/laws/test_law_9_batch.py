"""Law 9: a batch is decided once and recorded one by one; done whole, or item by item; and locked in id order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from asyncpg.connection import LoggedQuery
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.action import PermitMisused
from actions.batch import Batch, ChangeItem
from actions.errors import Internal, Invalid
from actions.hooks import Outcome
from actions.model import Input
from actions.processor import Given
from actions.vocabulary import Use
from audit.redaction import unseal
from server.repositories.batch import Items
from server.repositories.subject_keys import SubjectKeys
from server.repositories.unit import Unit
from server.repositories.users import UserRepository
from tests.faults import Line, another_worker
from tests.laws.support import action, edited, persona, pipeline, snapshot, spec_named
from tests.world.counted import registry
from tests.world.world import World

USERS = "/domains/research/users"


async def people(world: World, count: int, domain: str = "research") -> list[UUID]:
    """Users of a domain, in the order of their ids. Made by hand: a hundred passwords take their time."""
    rows = await world.sql(
        """INSERT INTO users (id, domain_id, username, email, status, password_hash)
           SELECT gen_random_uuid(), d.id, 'p' || n || '-' || $2, 'p' || n || '@' || $2 || '.example', 'active', 'none'
             FROM generate_series(1, $3) n, domain d WHERE d.name = $1 RETURNING id""",
        domain,
        uuid4().hex[:8],
        count,
    )
    return sorted(UUID(str(row["id"])) for row in rows)


def changes(keys: list[UUID], **change: object) -> list[dict[str, object]]:
    return [{"id": str(key), "change": change} for key in keys]


def plain(keys: list[UUID]) -> list[dict[str, object]]:
    return [{"id": str(key)} for key in keys]


def pointers(problem: dict[str, Any]) -> list[str]:
    return [fault["pointer"] for fault in problem["errors"]]


async def column(world: World, name: str, keys: list[UUID]) -> list[Any]:
    rows = await world.sql(f"SELECT id, {name} AS told FROM users WHERE id = ANY($1)", keys)
    told = {row["id"]: row["told"] for row in rows}
    return [told.get(key) for key in keys]


def recorded(world: World, outcome: str) -> float:
    """How many records the metrics count."""
    return sum(
        sample.value
        for family in registry(world.app.metrics).collect()
        for sample in family.samples
        if sample.name.endswith("audit_records_total") and sample.labels["outcome"] == outcome
    )


# -- records --


async def test_a_batch_has_a_record_and_so_has_each_of_its_items_in_one_transaction(world: World) -> None:
    keys = await people(world, 3)
    asked = [keys[2], keys[0], keys[1]]
    await world.dana.post(f"{USERS}/batch_update", {"items": changes(asked, description="x", full_name="Ada")})
    (parent,) = await world.records("domain_batch_update_users")
    items = await world.records("domain_update_user")
    assert (parent["result"], parent["target"]) == ("succeeded", None)
    assert parent["batch"] == {"mode": "atomic", "items": 3}
    assert (parent["operation"], parent["changes"]) == ("batch_update", [])
    told = {UUID(record["target"]["id"]): record for record in items}
    assert sorted(told) == keys
    for place, key in enumerate(asked):
        record = told[key]
        assert record["batch"] == {"id": parent["id"], "place": place}
        assert record["result"] == "succeeded"
        for same in ("decision", "principal", "scope", "request"):
            assert record[same] == parent[same]
        assert {"field": "description", "confidential": "personal"} in record["changes"]
        assert {"field": "full_name", "confidential": "personal"} in record["changes"]
        assert {"type": "user", "id": str(key)} in record["target"]["lineage"]
        assert record["row"]["target_user_id"] == key
    assert len({record["id"] for record in (parent, *items)}) == 4
    assert len({record["row"]["xid"] for record in (parent, *items)}) == 1
    (changed,) = await world.sql("SELECT DISTINCT xmin::text::bigint AS xid FROM users WHERE id = ANY($1)", keys)
    assert changed["xid"] == parent["row"]["xid"] % 2**32


async def test_what_a_batch_says_of_people_is_sealed_under_the_key_of_each(world: World) -> None:
    """The batch's own record says where the request came from; its items' speak of nobody but their subjects."""
    keys = await people(world, 2)
    ring = SubjectKeys(world.app.database, world.app.ring)
    await world.dana.post(f"{USERS}/batch_update", {"items": changes(keys, full_name="Ada Lovelace")})
    for record in await world.records("domain_update_user"):
        subject = UUID(record["target"]["id"])
        assert b"Lovelace" not in record["row"]["leaf"]
        opened = unseal(record["row"]["leaf"], record["row"]["sealed"], await ring.subject_keys([subject]))
        assert opened == {subject: {"changes": {"full_name": ["", "Ada Lovelace"]}}}
        assert [UUID(promise["subject"]) for promise in record["sealed"]] == [subject]
    (parent,) = await world.records("domain_batch_update_users")
    assert [UUID(promise["subject"]) for promise in parent["sealed"]] == [world.id("dana")]


async def test_a_batch_is_decided_once_and_its_signature_spent_once(world: World) -> None:
    def decided() -> float:
        return sum(
            sample.value
            for family in registry(world.app.metrics).collect()
            for sample in family.samples
            if sample.name.endswith("policy_decisions_total")
        )

    keys = await people(world, 5)
    spent, before = len(await world.sql("SELECT * FROM request_signature")), decided()
    await world.dana.post(f"{USERS}/batch_update", {"items": changes(keys, description="x")})
    assert decided() == before + 1
    assert len(await world.sql("SELECT * FROM request_signature")) == spent + 1


async def test_an_atomic_batch_that_fails_leaves_one_record_that_names_its_first_failing_item(world: World) -> None:
    keys = await people(world, 4)
    await world.sql("UPDATE users SET deleted_at = now() WHERE id = ANY($1)", keys[1:3])
    before = await snapshot(world)
    asked = [keys[3], keys[2], keys[1], keys[0]]
    problem = await world.dana.post(f"{USERS}/batch_update", {"items": changes(asked, description="x")}, expect=409)
    assert (problem["code"], pointers(problem)) == ("user-batch-update-deleted", ["/items/2/id"])
    assert await snapshot(world) == before
    assert await world.records("domain_update_user") == []
    (record,) = await world.records("domain_batch_update_users")
    assert (record["result"], record["error"]["reason"]) == ("failed", "deleted")
    assert record["batch"] == {"mode": "atomic", "items": 4}
    assert record["target"]["id"] == str(keys[1]), "the first in the order of the ids, in which they are done"
    assert record["row"]["target_domain_id"] == world.places.research


@pytest.mark.parametrize(
    ("change", "status", "code", "pointer"),
    [
        ({"email": "mia@example.org"}, 409, "already-exists", "/items/1/change/email"),
        ({"description": None}, 422, "invalid", "/items/1/change/description"),
        ({"username": "Not A Name"}, 422, "invalid", "/items/1/change/username"),
    ],
)
async def test_a_batch_that_fails_says_which_item_and_which_of_its_fields(
    world: World, change: dict[str, object], status: int, code: str, pointer: str
) -> None:
    keys = await people(world, 2)
    items = [*changes(keys[:1], description="x"), *changes(keys[1:], **change)]
    problem = await world.dana.post(f"{USERS}/batch_update", {"items": items}, expect=status)
    assert (problem["code"], pointers(problem)) == (f"user-batch-update-{code}", [pointer])
    assert await column(world, "description", keys) == ["", ""]


async def test_what_the_database_refuses_in_an_atomic_batch_is_told_of_the_item_that_it_is(world: World) -> None:
    """One statement changes all items; who of them it failed for, they tell one after another."""
    keys = await people(world, 5)
    await world.sql("ALTER TABLE users ADD CONSTRAINT no_secrets CHECK (description <> 'refused')")
    before = await snapshot(world)
    items = changes(keys, description="x")
    for place in (3, 4):
        items[place]["change"] = {"description": "refused"}
    problem = await world.dana.post(f"{USERS}/batch_update", {"items": items}, expect=422)
    assert pointers(problem) == ["/items/3/id"]
    assert await snapshot(world) == before
    (record,) = await world.records("domain_batch_update_users")
    assert (record["result"], record["target"]["id"]) == ("failed", str(keys[3]))


async def test_items_that_pass_on_what_only_one_may_have_are_done_in_the_order_of_their_ids(world: World) -> None:
    keys = await people(world, 2)
    names = await column(world, "username", keys)
    first, second = str(keys[0]), str(keys[1])
    freed = [{"id": first, "change": {"username": "fresh"}}, {"id": second, "change": {"username": names[0]}}]
    await world.dana.post(f"{USERS}/batch_update", {"items": freed})
    assert await column(world, "username", keys) == ["fresh", names[0]]
    taken = [{"id": first, "change": {"username": names[0]}}, {"id": second, "change": {"username": "free"}}]
    await world.dana.post(f"{USERS}/batch_update", {"items": taken}, expect=409)
    assert await column(world, "username", keys) == ["fresh", names[0]]


# -- partial --


async def test_of_a_partial_batch_each_item_stands_for_itself_and_has_its_record(world: World) -> None:
    keys = await people(world, 3)
    await world.sql("UPDATE users SET deleted_at = now() WHERE id = $1", keys[1])
    gone = uuid4()
    items = changes([keys[2], keys[1], gone, keys[0]], description="x")
    items[0]["change"] = {"email": "mia@example.org"}
    failed, succeeded = recorded(world, "failed"), recorded(world, "succeeded")
    told = (await world.dana.post(f"{USERS}/batch_update", {"items": items, "mode": "partial"}))["items"]
    assert [item["id"] for item in told] == [item["id"] for item in items]
    assert [item["status"] for item in told] == [409, 409, 404, 200]
    assert recorded(world, "failed") - failed == 3
    assert recorded(world, "succeeded") - succeeded == 2
    codes = [item["problem"] and item["problem"]["code"] for item in told]
    assert codes == ["user-update-already-exists", "user-update-deleted", "user-update-not-found", None]
    assert pointers(told[0]["problem"]) == ["/items/0/change/email"]
    assert told[3]["result"]["description"] == "x"
    assert await column(world, "description", keys) == ["x", "", ""]
    (parent,) = await world.records("domain_batch_update_users")
    assert (parent["result"], parent["batch"]) == ("succeeded", {"mode": "partial", "items": 4})
    records = {record["batch"]["place"]: record for record in await world.records("domain_update_user")}
    assert [records[place]["result"] for place in range(4)] == ["failed", "failed", "failed", "succeeded"]
    assert [records[place]["error"]["status"] for place in range(3)] == [409, 409, 404]
    assert {record["row"]["xid"] for record in records.values()} == {parent["row"]["xid"]}


async def test_a_partial_batch_of_which_nothing_is_done_is_recorded_all_the_same(world: World) -> None:
    asked = {"items": plain([uuid4(), uuid4()]), "mode": "partial"}
    told = await world.dana.post(f"{USERS}/batch_delete", asked)
    assert [item["status"] for item in told["items"]] == [404, 404]
    (parent,) = await world.records("domain_batch_delete_users")
    items = await world.records("domain_delete_user")
    assert (parent["result"], [item["result"] for item in items]) == ("succeeded", ["failed", "failed"])


async def test_what_an_item_had_done_before_it_failed_is_undone_and_made_nobody_forget(world: World) -> None:
    """The last superadmin is found out only after its row was changed. Mia, beside it, is out at once."""
    await world.mia.get("/users/me")
    await world.root.get("/users/me")
    keys = [world.id("root"), world.id("mia")]
    asked = {"items": changes(keys, status="inactive"), "mode": "partial"}
    told = await world.root.post("/admin/users/batch_update", asked)
    assert [item["status"] for item in told["items"]] == [409, 200]
    assert told["items"][0]["problem"]["code"] == "user-update-last-superadmin"
    assert await column(world, "status", keys) == ["active", "inactive"]
    await world.mia.get("/users/me", expect=401)
    await world.root.get("/users/me")


# -- law 4 and law 5, item by item --


class Moving(Input):
    description: str | None = None
    friend_id: UUID | None = None


async def test_what_an_item_names_is_authorized_item_by_item(world: World) -> None:
    """Dana may use mia, and not nobody, who lives elsewhere."""
    each = replace(spec_named("domain_update_user"), input=Moving, uses={"friend_id": Use("user", "get")})
    spec = replace(spec_named("domain_batch_update_users"), each=each, input=Batch[ChangeItem[Moving]])
    keys = await people(world, 2)
    users = UserRepository()

    async def look(unit: Unit, given: Given[Any]) -> Any:
        return users.item(unit, await users.own(unit, given.target_id))

    async def batch(unit: Unit, given: Given[Any]) -> Any:
        await unit.begin()
        run = Items(unit, await users.own_all(unit, [item.id for item in given.input.items]))
        for place, item in enumerate(given.input.items):
            if unit.outcome.parts[place].error is None:
                await run.do(place, look, Given(item.change, str(item.id)))
        return Input()

    good, bad = (
        {"id": str(key), "change": {"friend_id": str(named)}}
        for key, named in zip(keys, (world.id("mia"), world.id("nobody")), strict=True)
    )
    run = pipeline(world, {spec: batch})
    dana = persona(world, "dana")
    with pytest.raises(Invalid) as refused:
        await run.execute(action(spec, dana, "research", given={"items": [good, bad]}))
    assert refused.value.reason == "unknown-reference"
    assert [fault.pointer for fault in refused.value.errors] == ["/items/1/change/friend_id"]
    (record,) = await world.records("domain_batch_update_users")
    assert record["target"]["id"] == str(keys[1])
    assert [(used["field"], used["allowed"]) for used in record["uses"]] == [
        ("items/0/change/friend_id", True),
        ("items/1/change/friend_id", False),
    ]
    await run.execute(action(spec, dana, "research", given={"items": [good, bad], "mode": "partial"}))
    records = {record["batch"]["place"]: record for record in await world.records("domain_update_user")}
    assert [records[place]["result"] for place in range(2)] == ["succeeded", "failed"]
    assert [[(used["field"], used["allowed"]) for used in records[place]["uses"]] for place in range(2)] == [
        [("friend_id", True)],
        [("friend_id", False)],
    ]


@pytest.mark.parametrize("operation", ["batch_update", "batch_delete", "batch_purge"])
async def test_a_batch_reaches_no_account_that_one_request_could_not(world: World, operation: str) -> None:
    """Dana runs the domain that root lives in. Root among others is refused as root alone is, and takes them along."""
    given = {"user_id": str(world.id("dana")), "role": "domain_admin"}
    await world.root.post("/domains/default/role-bindings", given, expect=201)
    await world.app.policy.use(edited(world, domain="p, domain_admin, domain, user, purge, allow"))
    keys = [*await people(world, 2, "default"), world.id("root")]
    if operation == "batch_purge":
        await world.sql("UPDATE users SET deleted_at = now() WHERE id = ANY($1)", keys[:2])
    items = changes(keys, description="x") if operation == "batch_update" else plain(keys)
    path, before = f"/domains/default/users/{operation}", await snapshot(world)
    problem = await world.dana.post(path, {"items": items}, expect=403)
    assert pointers(problem) == ["/items/2/id"]
    assert await snapshot(world) == before
    told = (await world.dana.post(path, {"items": items, "mode": "partial"}))["items"]
    assert [item["status"] for item in told] == [200, 200, 403]
    (record,) = [
        record for record in await world.records() if record["result"] == "denied" and "place" in record["batch"]
    ]
    assert (record["target"]["id"], record["error"]["cause"]) == (
        str(world.id("root")),
        "the target reaches further than the caller",
    )


async def test_a_batch_that_forgets_to_ask_for_an_account_is_stopped(world: World) -> None:
    users, spec = UserRepository(), spec_named("domain_batch_update_users")

    async def forgets(unit: Unit, given: Given[Any]) -> Any:
        row = await users.own(unit, given.target_id)
        return await users.change(unit, row, given.input.model_dump(exclude_unset=True))

    async def in_an_item(unit: Unit, given: Given[Any]) -> Any:
        await unit.begin()
        for place, item in enumerate(given.input.items):
            await Items(unit, {}).do(place, forgets, Given(item.change, str(item.id)))

    async def beside_them(unit: Unit, given: Given[Any]) -> Any:
        await unit.begin()
        for item in given.input.items:
            await forgets(unit, Given(item.change, str(item.id)))

    keys = await people(world, 2)
    for handler in (in_an_item, beside_them):
        asked = action(spec, persona(world, "dana"), "research", given={"items": changes(keys, description="x")})
        with pytest.raises(Internal) as stopped:
            await pipeline(world, {spec: handler}).execute(asked)
        assert isinstance(stopped.value.__cause__, PermitMisused)
        assert await column(world, "description", keys) == ["", ""]


async def test_a_part_belongs_to_its_own_batch(world: World) -> None:
    spec, kept = spec_named("domain_batch_delete_users"), list[Outcome]()

    async def takes(unit: Unit, given: Given[Any]) -> Any:
        with pytest.raises(PermitMisused):
            unit.part(unit.outcome.parts[0], {}, unit.directory)  # no transaction yet
        await unit.begin()
        for stranger in (unit.outcome, *kept):
            with pytest.raises(PermitMisused):
                unit.part(stranger, {}, unit.directory)
        kept.append(unit.outcome.parts[0])

    for _ in range(2):
        asked = action(spec, persona(world, "dana"), "research", given={"items": plain([uuid4()])})
        await pipeline(world, {spec: takes}).execute(asked)
    assert len(kept) == 2


# -- order, locks and cost --


async def test_a_batch_locks_its_rows_in_the_order_of_their_ids(world: World) -> None:
    """Somebody holds the middle one. As long as the batch waits, it has those before it and none of those after it."""
    keys = await people(world, 7)
    for key in keys[::-1]:  # as they lie in the table, they come in the opposite order
        await world.sql("UPDATE users SET description = 'moved' WHERE id = $1", key)
    free = "SELECT id FROM users WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED"
    asked, seen = {"items": changes([*keys[4:], *keys[:4]], description="x")}, list[list[UUID]]()
    holder = await asyncpg.connect(world.urls.migrator)
    try:
        async with holder.transaction(), asyncio.timeout(30):
            await holder.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", keys[3])
            while keys[4:] not in seen:  # a batch waits for a second; then another one tries
                batch = asyncio.create_task(world.dana.send("POST", f"{USERS}/batch_update", asked))
                while not batch.done() and keys[4:] not in seen:
                    seen.append([row["id"] for row in await world.sql(free, keys)])
        await batch
    finally:
        await holder.close()
    for left in seen:
        assert left[-3:] == keys[4:], "a later one was held while an earlier one was waited for"


async def test_an_item_sees_what_the_items_before_it_have_done(world: World) -> None:
    """A default that is chosen takes the place of another, which comes later in the same batch."""
    user = (await world.newcomer("ada")).id
    made = [await world.root.post(f"/users/{user}/keypairs", {"is_default": True}, expect=201) for _ in range(2)]
    first, second = (keypair["id"] for keypair in made)
    items = [{"id": first, "change": {"is_default": True}}, {"id": second, "change": {}}]
    told = (await world.root.post("/admin/keypairs/batch_update", {"items": items}))["items"]
    assert [(item["result"]["is_default"], item["result"]["version"]) for item in told] == [(True, 3), (False, 2)]
    items = [{"id": second, "version": 2, "change": {"is_default": True}}, {"id": first, "version": 3, "change": {}}]
    told = (await world.root.post("/admin/keypairs/batch_update", {"items": items}))["items"]
    assert [item["result"]["is_default"] for item in told] == [True, True], "the first was done first"


async def test_what_is_no_item_s_fault_ends_a_partial_batch_too(world: World) -> None:
    """Somebody is about to take a name, and does not say whether they will."""
    keys = await people(world, 2)
    items = [*changes(keys[:1], description="x"), *changes(keys[1:], username="taken-soon")]
    holder = await asyncpg.connect(world.urls.migrator)
    try:
        async with holder.transaction():
            await holder.execute("UPDATE users SET username = 'taken-soon' WHERE id = $1", world.id("mia"))
            asked = {"items": items, "mode": "partial"}
            problem = await world.dana.post(f"{USERS}/batch_update", asked, expect=503)
    finally:
        await holder.close()
    assert problem["code"] == "user-batch-update-deadline-exceeded"
    assert await column(world, "description", keys) == ["", ""]
    (record,) = await world.records("domain_batch_update_users")
    assert (record["result"], record["target"]["id"]) == ("failed", str(keys[1]))


async def test_a_batch_that_is_sent_again_is_not_done_again(world: World) -> None:
    keys, now = await people(world, 2), datetime.now(UTC)
    same = world.as_("dana", now=lambda: now)
    asked = {"items": changes(keys, description="x")}
    await same.post(f"{USERS}/batch_update", asked)
    await same.post(f"{USERS}/batch_update", asked, expect=401)
    await same.post(f"{USERS}/batch_delete", {"items": plain(keys)})
    await same.post(f"{USERS}/batch_delete", {"items": plain(keys)}, expect=401)
    assert await column(world, "version", keys) == [3, 3]


async def test_batches_that_overlap_in_opposite_orders_all_come_about(world: World) -> None:
    """With single requests among them. Whoever waits, waits for one who does not wait for them."""
    keys = await people(world, 16)
    for turn in range(4):
        answers = await asyncio.gather(
            *(
                world.dana.send("POST", f"{USERS}/batch_update", {"items": changes(some, **change)})
                for some in (keys, keys[::-1], keys[8:] + keys[:8], keys[3:12])
                for change in ({"description": f"turn {turn}"}, {"status": "active", "description": f"{turn}"})
            ),
            *(world.dana.send("PATCH", f"{USERS}/{key}", {"full_name": f"{turn}"}) for key in keys[::5]),
        )
        for answer in answers:
            if answer.request.method == "POST":
                assert answer.status_code == 200, answer.text
            else:
                assert answer.status_code == 200 or answer.json()["code"].endswith("version-clash"), answer.text


async def test_batches_that_choose_defaults_across_users_all_come_about(world: World) -> None:
    """A default that is chosen changes the one before it, which may stand in another batch."""
    ada, bob = [key for name in ("ada", "bob") for key in [(await world.newcomer(name)).id]]
    made = {
        user: [(await world.root.post(f"/users/{user}/keypairs", {}, expect=201))["id"] for _ in range(2)]
        for user in (ada, bob)
    }
    for turn in range(6):
        first, second = turn % 2, 1 - turn % 2

        def items(chosen: UUID, other: UUID, first: int = first, second: int = second) -> Any:
            return [
                {"id": made[chosen][first], "change": {"is_default": True}},
                {"id": made[other][second], "change": {"rate_limit": 7}},
            ]

        answers = await asyncio.gather(
            *(
                world.root.send("POST", "/admin/keypairs/batch_update", {"items": items(*users)})
                for users in ((ada, bob), (bob, ada))
            ),
            *(world.root.send("PATCH", f"/admin/keypairs/{made[u][second]}", {"is_default": True}) for u in (ada, bob)),
        )
        assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]
        defaults = await world.sql("SELECT user_id FROM keypair WHERE is_default AND user_id = ANY($1)", [ada, bob])
        assert len(defaults) == 2


async def test_people_who_granted_each_other_roles_are_purged_side_by_side(world: World) -> None:
    """Whom one purges was granted something by whom the other purges, and the other way round."""
    for _ in range(4):
        keys = await people(world, 8)
        await world.sql(
            """INSERT INTO role_binding (id, user_id, role, scope_type, domain_id, granted_by)
               SELECT gen_random_uuid(), u, 'domain_member', 'domain', $2, g
                 FROM unnest($1::uuid[], $3::uuid[]) AS t (u, g)""",
            keys,
            world.places.research,
            keys[::-1],
        )
        await world.sql("UPDATE users SET deleted_at = now() WHERE id = ANY($1)", keys)
        answers = await asyncio.gather(
            *(
                world.root.send("POST", "/admin/users/batch_purge", {"items": plain(some)})
                for some in (keys[0:6:2], keys[7:2:-2])
            ),
            world.root.send("DELETE", f"/admin/users/{keys[1]}", params={"purge": "1"}),
            world.root.send("DELETE", f"/admin/users/{keys[6]}", params={"purge": "1"}),
        )
        assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]


async def test_logins_end_with_their_users_and_by_themselves_side_by_side(world: World) -> None:
    """The first user has the last login: who ends those of many users locks them in one order all the same."""
    for operation, of_users in (("delete", "update"), ("purge", "purge")) * 2:
        keys = await people(world, 24)
        logins = sorted(uuid4() for _ in keys)
        await world.sql(
            """INSERT INTO login (id, user_id, domain_id, expires_at, client_address, client_network,
                                  refresh_digest, family_digest, deleted_at)
               SELECT l, u, $3, now() + interval '1 day', '', '', '', '', CASE WHEN $4 THEN now() END
                 FROM unnest($1::uuid[], $2::uuid[]) AS t (l, u)""",
            logins[::-1],
            keys,
            world.places.research,
            operation == "purge",
        )
        if of_users == "purge":
            await world.sql("UPDATE users SET deleted_at = now() WHERE id = ANY($1)", keys)
        items = plain(keys) if of_users == "purge" else changes(keys, status="inactive")
        answers = await asyncio.gather(
            world.root.send("POST", f"/admin/users/batch_{of_users}", {"items": items}),
            *(
                world.root.send("POST", f"/admin/logins/batch_{operation}", {"items": plain(some), "mode": "partial"})
                for some in ([logins[0], logins[place]] for place in (8, 12, 16, 20))
            ),
        )
        assert [answer.status_code for answer in answers] == [200] * 5, [answer.text for answer in answers]
        left = await world.sql("SELECT 1 FROM login WHERE id = ANY($1) AND deleted_at IS NULL", logins)
        assert left == []


@asynccontextmanager
async def counted(world: World) -> AsyncIterator[list[str]]:
    """Every statement that the application runs meanwhile, whichever of its connections it runs on."""
    told: list[str] = []

    def note(query: LoggedQuery) -> None:
        told.append(query.query)

    async with AsyncExitStack() as stack:
        pools = ((world.app.database, 5), (world.app.directory._database, 3))
        async with AsyncExitStack() as lent:
            connections = [
                await lent.enter_async_context(pool.connection()) for pool, size in pools for _ in range(size)
            ]
        for connection in connections:
            stack.enter_context(connection.query_logger(note))
        yield told


@pytest.mark.parametrize(
    ("operation", "change", "mode", "each"),
    [
        ("batch_update", {"description": "x", "full_name": "Ada"}, "atomic", 0),  # one statement changes them all
        ("batch_update", {"description": "x", "full_name": "Ada"}, "partial", 2),
        ("batch_update", {"status": "inactive"}, "atomic", 3),  # who is left in charge, and the logins that end
        ("batch_delete", None, "atomic", 3),
    ],
)
async def test_a_batch_asks_the_database_once_for_what_its_items_share(
    world: World, operation: str, change: dict[str, object] | None, mode: str, each: int
) -> None:
    """``each`` statements for each item, and beside them as many for a hundred items as for ten."""
    shared = []
    for count in (1, 10, 100):  # the first one warms what is asked once in a lifetime
        keys = await people(world, count)
        items = plain(keys) if change is None else changes(keys, **change)
        async with counted(world) as statements:
            await world.dana.post(f"{USERS}/{operation}", {"items": items, "mode": mode})
        shared.append(len(statements) - each * count)
    assert shared[1] == shared[2] <= 10, shared


@pytest.mark.parametrize("operation", ["batch_update", "batch_delete", "batch_purge"])
async def test_the_logins_of_all_users_of_a_batch_are_locked_at_once_and_before_the_first_ends(
    world: World, operation: str
) -> None:
    keys = await people(world, 3)
    if operation == "batch_purge":
        await world.sql("UPDATE users SET deleted_at = now() WHERE id = ANY($1)", keys)
    items = changes(keys, status="inactive") if operation == "batch_update" else plain(keys)
    async with counted(world) as statements:
        await world.root.post(f"/admin/users/{operation}", {"items": items})
    asked = [" ".join(sql.split()) for sql in statements]
    (lock,) = [place for place, sql in enumerate(asked) if "ANY" in sql and "FROM login" in sql]
    assert asked[lock].endswith("ORDER BY login.id FOR UPDATE")
    ending = [place for place, sql in enumerate(asked) if "UPDATE login" in sql or "DELETE FROM login" in sql]
    rows = [place for place, sql in enumerate(asked) if sql.endswith("ORDER BY users.id FOR UPDATE OF users")]
    assert len(ending) == 3
    assert rows[0] < lock < ending[0]
    assert all("UPDATE login" not in asked[place] or "ORDER BY login.id" in asked[place] for place in ending)


async def test_of_a_batch_whose_commit_gets_no_answer_it_is_found_out_what_became(world: World) -> None:
    keys = await people(world, 3)
    async with Line(world.urls.application) as line, another_worker(world, line.url) as faulty:
        for deliver, status, text in ((False, 503, ""), (True, 200, "x")):
            line.cut_at(b"COMMIT\x00", deliver=deliver)
            asked = {"items": changes(keys, description="x")}
            answer = await faulty.dana.send("POST", f"{USERS}/batch_update", asked)
            assert line.cut.is_set()
            assert answer.status_code == status, answer.text
            assert await column(world, "description", keys) == [text] * 3
    results = [record["result"] for record in await world.records("domain_batch_update_users")]
    assert results == ["failed", "succeeded"]
    assert len(await world.records("domain_update_user")) == 3


# -- a batch is what its items are --

NAMES = [f"name-{n}" for n in range(3)]
one_change = st.fixed_dictionaries(
    {},
    optional={
        "username": st.sampled_from(NAMES),
        "status": st.sampled_from(["active", "inactive"]),
        "description": st.sampled_from(["", "x", "y"]),
        "email": st.sampled_from(["mia@example.org", "a@example.org", "b@example.org"]),
    },
)
one_item = st.fixed_dictionaries({"change": one_change}, optional={"version": st.sampled_from([1, 1, 1, 2])})
batches = st.dictionaries(st.integers(0, 5), one_item, min_size=1, max_size=6).flatmap(
    lambda wanted: st.permutations(sorted(wanted.items()))
)
STATE = "username, status, description, email, version, deleted_at IS NULL AS lives"


async def test_a_batch_is_the_same_single_requests_in_the_order_of_the_ids_or_nothing(world: World) -> None:
    """Twins in two domains: in one they are changed by a batch, in the other one by one. The first of them is deleted,
    the last was never there."""
    loop = asyncio.get_running_loop()
    await world.sql("UPDATE users SET email = 'mia@example.org' WHERE username = 'nobody'")
    twins = {domain: [*await people(world, 5, domain), UUID(int=2**128 - 1)] for domain in ("research", "elsewhere")}

    async def renew(domain: str) -> None:
        await world.sql(
            """UPDATE users SET username = 'u' || n, email = 'u' || n || '@example.org', status = 'active', version = 1,
                      description = '', deleted_at = CASE WHEN n = 1 THEN timestamptz '2020-01-01' END
                 FROM unnest($1::uuid[]) WITH ORDINALITY AS k (key, n) WHERE id = key""",
            twins[domain],
        )

    async def state(domain: str) -> list[tuple[Any, ...]]:
        rows = await world.sql(f"SELECT {STATE} FROM users WHERE id = ANY($1) ORDER BY id", twins[domain])
        return [tuple(row) for row in rows]

    async def alone(n: int, item: dict[str, Any]) -> int:
        """One request for one thing; where a version is named, only if the thing has it."""
        path = f"/domains/elsewhere/users/{twins['elsewhere'][n]}"
        found = await world.root.send("GET", path)
        if found.is_success and item.get("version", found.json()["version"]) != found.json()["version"]:
            return 409
        return (await world.root.send("PATCH", path, item["change"])).status_code

    async def compare(wanted: list[tuple[int, dict[str, Any]]]) -> None:
        for domain in twins:
            await renew(domain)
        before, path = await state("research"), f"{USERS}/batch_update"
        singly = {n: await alone(n, item) for n, item in sorted(wanted)}
        items = [{"id": str(twins["research"][n]), **item} for n, item in wanted]
        parted = await world.root.post(path, {"items": items, "mode": "partial"})
        assert [told["status"] for told in parted["items"]] == [singly[n] for n, _ in wanted]
        assert await state("research") == await state("elsewhere")
        await renew("research")
        whole = await world.root.send("POST", path, {"items": items})
        failed = next((n for n in sorted(singly) if singly[n] != 200), None)
        if failed is None:
            assert whole.status_code == 200
            assert await state("research") == await state("elsewhere")
            return
        place = [n for n, _ in wanted].index(failed)
        assert whole.status_code == {404: 422}.get(singly[failed], singly[failed])
        assert all(pointer.startswith(f"/items/{place}/") for pointer in pointers(whole.json()))
        assert await state("research") == before

    @settings(deadline=None, max_examples=20, derandomize=True, database=None)
    @given(batches)
    def it_is_the_same(wanted: list[tuple[int, dict[str, Any]]]) -> None:
        asyncio.run_coroutine_threadsafe(compare(wanted), loop).result(30)

    await asyncio.to_thread(it_is_the_same)
