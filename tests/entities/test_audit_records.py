"""Reading the log: what was written comes out, by every filter, page by page; and a domain sees its own alone."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from actions.entities.audit_record import AuditRecord
from audit.log import INSERT_MANY, columns_of
from audit.record import Columns, Draft, Phase, Record, canonical, new_id
from audit.redaction import NOBODY, Sealer
from server.repositories import audit_records
from server.repositories.subject_keys import SubjectKeys
from server.services.disclosure import told
from tests.faults import another_worker
from tests.world.world import World

ADMIN, RESEARCH = "/admin/audit-records", "/domains/research/audit-records"


async def all_of(world: World, path: str, **params: Any) -> list[dict[str, Any]]:
    """Every record that a search shows, page by page, less those of looking."""
    found: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    while True:
        page = await world.root.get(path, limit=100, **params, **more)
        found += page["items"]
        if page["next_cursor"] is None:
            return [one for one in found if one["entity"] != "audit_record"]
        more = {"cursor": page["next_cursor"]}


async def write(world: World, *records: Record) -> None:
    """Put records into the log as the writer does."""
    connection = await world.app.database.connect("test")
    try:
        await connection.execute(INSERT_MANY, *columns_of(list(records)))
    finally:
        await connection.close()


async def sealed(world: World, draft: Draft) -> Record:
    return await Sealer(SubjectKeys(world.app.database, world.app.ring)).seal(draft)


def place(kind: str, key: UUID, domain: UUID | None = None) -> list[dict[str, str]]:
    around = [{"type": "domain", "id": str(domain)}] if domain else []
    return [{"type": kind, "id": str(key)}, *around]


# -- whatever was written --


async def test_every_kind_of_record_comes_out_of_search_and_of_get(world: World) -> None:
    """Changes, reads, refusals, failures; failed log-ins and their counts; a migration; an intent that was closed."""
    await world.root.patch(f"/admin/users/{world.id('mia')}", {"description": "x", "full_name": "Y"})
    await world.mia.get("/admin/users", expect=403)
    await world.dana.get("/domains/nowhere/users", expect=404)
    await world.root.post("/admin/users", {"username": 1}, expect=422)
    for _ in range(8):
        await world.stranger().send("GET", "/auth/whoami")
    app = world.app
    await app.failures.flush(datetime.now(UTC) + timedelta(minutes=2))
    intent = new_id()
    long_ago = datetime.now(UTC) - timedelta(minutes=2)
    columns = Columns(intent, Phase.INTENT, long_ago, "admin_launch_rocket", "pending", "x")
    principal = {"kind": "system", "name": "x", "credential": None}
    told_of_it = {"id": str(intent), "phase": "intent", "at": long_ago, "action": columns.action, "result": "pending"}
    await write(world, await sealed(world, Draft(columns, {**told_of_it, "principal": principal})))
    await app.sweeper(housekeeper=True).once()

    rows = await world.records()
    shown = {(one["id"], one["phase"]): one for one in await all_of(world, ADMIN)}
    kinds = {(one["action"], one["phase"], one["result"]) for one in rows}
    assert kinds >= {
        ("migrate_schema", "done", "succeeded"),
        ("authenticate", "done", "denied"),
        ("admin_launch_rocket", "intent", "pending"),
        ("admin_launch_rocket", "settled", "unknown"),
        ("admin_update_user", "done", "succeeded"),
        ("admin_search_users", "done", "denied"),
        ("admin_create_user", "done", "failed"),
    }
    assert any((one.get("error") or {}).get("count") for one in rows)
    for one in rows:
        record = shown[one["id"], one["phase"]]
        everything = {**record, **record["more"]}
        for name in one.keys() - {"row", "v", "salt", "sealed", "principal", "target", "at"}:
            assert _like(one[name], everything[name]), f"{one['action']}: {name}"
        assert datetime.fromisoformat(record["at"]) == datetime.fromisoformat(one["at"])
        assert record["principal"] == one["principal"]
        whole = await world.root.get(f"{ADMIN}/{one['id']}")
        assert whole["id"] == one["id"]
        assert any({**opened, "personal": None} == {**record, "personal": None} for opened in whole["records"])
    assert [one["phase"] for one in (await world.root.get(f"{ADMIN}/{intent}"))["records"]] == ["intent", "settled"]


def _like(written: object, shown: object) -> bool:
    """Equal, but for what the model adds to a part that lacked it."""
    if isinstance(written, dict) and isinstance(shown, dict):
        return all(_like(value, shown[name]) for name, value in written.items())
    if isinstance(written, list) and isinstance(shown, list):
        return len(written) == len(shown) and all(map(_like, written, shown))
    return written == shown


def test_what_only_some_records_have_comes_out_as_it_was_written() -> None:
    leaf = {"id": str(uuid4()), "phase": "done", "at": datetime.now(UTC), "action": "x", "result": "y", "v": 1}
    principal = {"kind": "system", "name": "x", "credential": None}
    batch = {"mode": "atomic", "items": 3}
    record = told(canonical({**leaf, "principal": principal, "batch": batch, "salt": "", "sealed": []}))
    assert record.more == {"batch": batch}


async def test_nothing_that_changes_the_log_is_offered(world: World) -> None:
    [record] = (await world.root.get(ADMIN, limit=1))["items"]
    for path in (ADMIN, RESEARCH):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            for at in (path, f"{path}/{record['id']}"):
                assert (await world.root.send(method, at)).status_code == 405


async def test_reading_the_log_is_recorded_and_where_the_record_lies(world: World) -> None:
    await world.root.patch(f"/admin/users/{world.id('mia')}", {"description": "x"})
    [changed] = await world.records("admin_update_user")
    await world.olga.get(f"{ADMIN}/{changed['id']}")
    [read] = (await world.root.get(RESEARCH, filter={"action": {"equals": "admin_audit_record"}}))["items"]
    assert (read["principal"]["name"], read["target"]["id"]) == (f"user:{world.id('olga')}", changed["id"])


async def test_only_those_who_may_read_the_log_do(world: World) -> None:
    [record] = (await world.olga.get(ADMIN, limit=1))["items"]
    await world.olga.get(RESEARCH)
    for who in ("dana", "piotr", "mia", "nobody"):
        await world.as_(who).get(ADMIN, expect=403)
        await world.as_(who).get(f"{ADMIN}/{record['id']}", expect=403)
        status = 404 if who == "nobody" else 403
        await world.as_(who).get(RESEARCH, expect=status)
        await world.as_(who).get(f"{RESEARCH}/{record['id']}", expect=404)


# -- searched --


async def test_each_filter_finds_what_it_says(world: World) -> None:
    mia, research, root = world.id("mia"), world.places.research, world.id("root")
    begun = datetime.now(UTC)
    await world.root.send(
        "PATCH", f"/domains/research/users/{mia}", {"description": "x"}, headers={"X-Request-ID": "q"}
    )
    await world.piotr.get(f"/projects/{world.places.lab}/users")
    await world.mia.get("/admin/users", expect=403)
    await world.mia.get("/users/me")
    [changed] = await world.records("domain_update_user")
    found = {
        "id": {"equals": changed["id"]},
        "phase": {"equals": "done"},
        "at": {"after": begun.isoformat(), "before": (begun + timedelta(minutes=1)).isoformat()},
        "action": {"starts_with": "domain_update"},
        "result": {"in": ["succeeded"]},
        "principal": {"equals": f"user:{root}"},
        "principal_id": {"equals": str(root)},
        "request_id": {"equals": "q"},
        "scope_type": {"equals": "domain"},
        "scope_domain_id": {"equals": str(research)},
        "target_id": {"equals": str(mia)},
        "target_domain_id": {"equals": str(research)},
        "target_user_id": {"equals": str(mia)},
        "rule": {"equals": changed["decision"]["rule"]},
        "policy": {"equals": changed["decision"]["policy"]},
    }
    for name, operators in found.items():
        shown = await all_of(world, ADMIN, filter={name: operators, "at": found["at"]})
        assert changed["id"] in [one["id"] for one in shown], name
    [only] = await all_of(world, ADMIN, filter=found)
    assert only["id"] == changed["id"]
    for name, value, action in (
        ("scope_project_id", str(world.places.lab), "project_search_users"),
        ("scope_user_id", str(mia), "user_user"),
        ("result", "denied", "admin_search_users"),
    ):
        shown = await all_of(world, ADMIN, filter={name: {"equals": value}, "at": {"after": begun.isoformat()}})
        assert [one["action"] for one in shown] == [action]
    assert await all_of(world, ADMIN, filter={**found, "request_id": {"not_equals": "q"}}) == []
    await world.root.get(RESEARCH, filter={"scope_domain_id": {"equals": str(research)}}, expect=422)


async def test_the_newest_comes_first_and_the_phases_of_an_action_are_never_parted_from_the_page(world: World) -> None:
    """Three phases of one action among others: whatever the size of a page, each record comes once."""
    many = new_id()
    now = datetime.now(UTC)
    for phase in (Phase.INTENT, Phase.OUTCOME, Phase.SETTLED):
        leaf = {"id": str(many), "phase": phase, "at": now, "action": "x", "result": "pending"}
        draft = Draft(
            Columns(many, phase, now, "x", "pending", "y"),
            {**leaf, "principal": {"kind": "system", "name": "y", "credential": None}},
        )
        await write(world, await sealed(world, draft))
    upto = {"at": {"before": (datetime.now(UTC) + timedelta(seconds=1)).isoformat()}, "id": {"not_in": []}}
    everything = [
        (str(row["action_id"]), row["phase"])
        for row in await world.sql("SELECT action_id, phase FROM audit_record ORDER BY action_id DESC, phase DESC")
    ]
    for order in ("", "id:desc", "id:asc"):
        for limit in (1, 2, 3, 7):
            seen: list[tuple[str, str]] = []
            more: dict[str, Any] = {"order": order} if order else {}
            while True:
                page = await world.root.get(
                    ADMIN, limit=limit, filter={**upto, "action": {"not_equals": "admin_search_audit_records"}}, **more
                )
                seen += [(one["id"], one["phase"]) for one in page["items"]]
                if page["next_cursor"] is None:
                    break
                more["cursor"] = page["next_cursor"]
            assert seen == (everything[::-1] if order == "id:asc" else everything), (order, limit)


async def test_totals_are_true(world: World) -> None:
    [there] = await world.sql("SELECT count(*) FROM audit_record")
    page = await world.root.get(ADMIN, limit=2)
    assert (page["total_count"], page["total_count_exact"]) == (there["count"], True)
    none = await world.root.get(ADMIN, filter={"rule": {"equals": "no.csv:1"}})
    assert (none["items"], none["total_count"], none["next_cursor"]) == ([], 0, None)


async def test_a_search_that_takes_too_long_says_how_to_narrow_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_records, "SEARCH_SECONDS", 0.0)
    problem = await world.root.get(ADMIN, expect=503)
    assert problem["code"] == "audit-record-search-search-too-wide"
    assert "Narrow it" in problem["detail"]
    monkeypatch.undo()
    await world.root.get(ADMIN)


# -- from a domain --


async def test_a_domain_sees_a_record_if_and_only_if_its_scope_or_its_target_lies_there(world: World) -> None:
    """Every way in which a scope and a target can lie, each as a record; and all that the world has done before."""
    here, there = world.places.research, world.places.elsewhere
    for scope in (None, here, there):
        for target in (None, here, there):
            now, key = datetime.now(UTC), new_id()
            columns = Columns(
                key,
                Phase.DONE,
                now,
                "x",
                "succeeded",
                "y",
                scope_type="domain",
                scope_domain_id=scope,
                target_id="t" if target else None,
                target_domain_id=target,
            )
            leaf = {"id": str(key), "phase": "done", "at": now, "action": "x", "result": "succeeded"}
            lineage = {"scope": {"type": "domain", "lineage": place("domain", scope) if scope else []}}
            aim = {"target": {"id": "t", "lineage": place("domain", target)} if target else None}
            principal = {"kind": "system", "name": "y", "credential": None}
            await write(world, await sealed(world, Draft(columns, {**leaf, **lineage, **aim, "principal": principal})))
    for name, domain in (("research", here), ("elsewhere", there), ("default", world.places.default)):
        path = f"/domains/{name}/audit-records"
        shown = {(one["id"], one["phase"]) for one in await all_of(world, path)}
        for row in await world.sql("SELECT * FROM audit_record WHERE action NOT LIKE '%audit_record%'"):
            belongs = domain in (row["scope_domain_id"], row["target_domain_id"])
            assert ((str(row["action_id"]), row["phase"]) in shown) is belongs
            if row["action"] == "x":
                await world.root.get(f"{path}/{row['action_id']}", expect=200 if belongs else 404)


async def test_what_a_record_says_of_another_domain_is_withheld_from_this_one(world: World) -> None:
    """Somebody of elsewhere works on a thing of research, under its own address: each domain sees its half."""
    here, there, mia, nobody = world.places.research, world.places.elsewhere, world.id("mia"), world.id("nobody")
    now, key = datetime.now(UTC), new_id()
    columns = Columns(
        key,
        Phase.DONE,
        now,
        "user_share_thing",
        "succeeded",
        f"user:{nobody}",
        nobody,
        "r",
        "user",
        scope_domain_id=there,
        scope_user_id=nobody,
        target_id="thing",
        target_domain_id=here,
        target_user_id=mia,
    )
    elsewhere = [{"scope": "user", "roles": ["role_of_elsewhere"]}]
    leaf = {
        "id": str(key),
        "phase": "done",
        "at": now,
        "action": columns.action,
        "result": "succeeded",
        "principal": {"kind": "user", "name": f"user:{nobody}", "credential": "AKOFNOBODY"},
        "scope": {"type": "user", "lineage": place("user", nobody, there)},
        "target": {"id": "thing", "lineage": place("user", mia, here)},
        "decision": {"allowed": True, "rule": "user.csv:1", "policy": "p", "roles": ["role_of_elsewhere"]},
        "uses": [
            {"field": "a", "entity": "user", "id": str(mia), "allowed": True, "rule": None},
            {"field": "b", "entity": "user", "id": str(nobody), "allowed": True, "rule": None, "held": elsewhere},
        ],
        "changes": [{"field": "f", "old": 1, "new": 2}],
        "batch": {"id": str(uuid4()), "place": 4},
    }
    personal: dict[UUID, dict[str, object]] = {
        nobody: {"client_address": "192.0.2.9"},
        mia: {"changes": {"email": ["old", "new"]}},
    }
    await write(world, await sealed(world, Draft(columns, leaf, personal)))

    [mine] = (await world.root.get(f"{RESEARCH}/{key}"))["records"]
    assert (mine["scope"], mine["more"]) == ({"type": "user", "lineage": None, "asked_for": None}, {})
    assert mine["target"]["lineage"] == place("user", mia, here)
    assert (mine["principal"]["name"], mine["principal"]["credential"]) == (f"user:{nobody}", None)
    assert (mine["decision"]["rule"], mine["decision"]["roles"]) == ("user.csv:1", [])
    assert [use["id"] for use in mine["uses"]] == [str(mia), None]
    assert mine["changes"] == [{"field": "f", "old": 1, "new": 2, "confidential": None}]
    assert {part["subject"]: part["seal"] for part in mine["personal"]} == {str(nobody): "withheld", str(mia): "open"}
    shown = json.dumps(mine)
    for secret in (str(there), "AKOFNOBODY", "192.0.2.9", "role_of_elsewhere"):
        assert secret not in shown

    [theirs] = (await world.root.get(f"/domains/elsewhere/audit-records/{key}"))["records"]
    assert theirs["target"] == {"id": "thing", "lineage": None}
    assert theirs["scope"]["lineage"] == place("user", nobody, there)
    assert (theirs["principal"]["credential"], theirs["changes"]) == ("AKOFNOBODY", [])
    assert {part["subject"]: part["seal"] for part in theirs["personal"]} == {str(nobody): "open", str(mia): "withheld"}
    assert str(here) not in json.dumps(theirs)
    assert "old" not in json.dumps([part["changes"] for part in theirs["personal"]])

    for path, hidden in ((RESEARCH, "scope_user_id"), ("/domains/elsewhere/audit-records", "target_user_id")):
        other = str(nobody if hidden.startswith("scope") else mia)
        assert await all_of(world, path, filter={hidden: {"equals": other}, "id": {"equals": str(key)}}) == []
        [found] = await all_of(world, path, filter={"id": {"equals": str(key)}})
        assert found == {
            name: value for name, value in (mine if path == RESEARCH else theirs).items() if name != "personal"
        }


# -- what is sealed --


async def test_an_auditor_of_all_sees_who_it_was_and_what_was_changed_of_whom(world: World) -> None:
    mia, root = world.id("mia"), world.id("root")
    await world.as_("root", address="192.0.2.77").patch(f"/admin/users/{mia}", {"email": "new@example.org"})
    [written] = await world.records("admin_update_user")
    [record] = (await world.olga.get(f"{ADMIN}/{written['id']}"))["records"]
    by = {part["subject"]: part for part in record["personal"]}
    assert (by[str(root)]["seal"], by[str(root)]["client_address"]) == ("open", "192.0.2.77")
    assert by[str(mia)]["changes"] == [{"field": "email", "old": "mia@example.org", "new": "new@example.org"}]
    [searched] = await all_of(world, ADMIN, filter={"id": {"equals": written["id"]}})
    assert searched.keys() == AuditRecord.model_fields.keys()
    assert "192.0.2.77" not in json.dumps(searched)


async def test_a_domain_opens_what_is_said_of_its_own_people_alone(world: World) -> None:
    auditor = await world.newcomer("ada", role="auditor")
    mia = world.id("mia")
    await world.as_("root", address="192.0.2.77").patch(f"/admin/users/{mia}", {"email": "new@example.org"})
    await world.as_("mia", address="192.0.2.78").get("/users/me")
    [changed], [looked] = await world.records("admin_update_user"), await world.records("user_user")
    [record] = (await world.as_(auditor).get(f"{RESEARCH}/{changed['id']}"))["records"]
    by = {part["subject"]: part for part in record["personal"]}
    assert (by[str(world.id("root"))]["seal"], by[str(world.id("root"))]["client_address"]) == ("withheld", None)
    assert by[str(mia)]["changes"][0]["new"] == "new@example.org"
    [record] = (await world.as_(auditor).get(f"{RESEARCH}/{looked['id']}"))["records"]
    assert record["personal"][0]["client_address"] == "192.0.2.78"
    await world.as_(auditor).get(ADMIN, expect=403)
    await world.as_(auditor).get("/domains/elsewhere/audit-records", expect=404)


async def test_a_person_who_has_been_purged_is_still_one_of_the_domains(world: World) -> None:
    gone = await world.newcomer("gone")
    await world.root.patch(f"/domains/research/users/{gone.id}", {"email": "last@example.org"})
    await world.root.delete(f"/domains/research/users/{gone.id}")
    await world.root.delete(f"/domains/research/users/{gone.id}", purge="1")
    [changed] = await world.records("domain_update_user")
    [record] = (await world.root.get(f"{RESEARCH}/{changed['id']}"))["records"]
    assert {part["subject"]: part["seal"] for part in record["personal"]}[str(gone.id)] == "open"


async def test_what_was_said_of_an_erased_person_is_gone_even_with_a_new_key(world: World) -> None:
    mia = world.id("mia")
    await world.root.patch(f"/admin/users/{mia}", {"email": "new@example.org"})
    [written] = await world.records("admin_update_user")
    await world.sql("DELETE FROM subject_key WHERE subject_id = $1", mia)

    async def seal() -> str:
        [record] = (await world.root.get(f"{ADMIN}/{written['id']}"))["records"]
        [part] = [part for part in record["personal"] if part["subject"] == str(mia)]
        assert part["changes"] == []
        return str(part["seal"])

    assert await seal() == "erased"
    assert not await world.sql("SELECT FROM subject_key WHERE subject_id = $1", mia), "looking makes no key"
    async with another_worker(world) as later:
        await later.mia.get("/auth/whoami")
    assert await world.sql("SELECT FROM subject_key WHERE subject_id = $1", mia)
    assert await seal() == "erased"


async def test_a_sealed_part_that_was_tampered_with_is_told_as_broken(world: World) -> None:
    await world.root.patch(f"/admin/users/{world.id('mia')}", {"email": "new@example.org"})
    [written] = await world.records("admin_update_user")
    await world.sql("ALTER TABLE audit_record DISABLE TRIGGER append_only")
    boxes = orjson.loads(written["row"]["sealed"])
    boxes[str(world.id("mia"))] = boxes[str(world.id("root"))]
    await world.sql(
        "UPDATE audit_record SET sealed = $1 WHERE action_id = $2", orjson.dumps(boxes), UUID(written["id"])
    )
    [record] = (await world.root.get(f"{ADMIN}/{written['id']}"))["records"]
    assert {part["subject"]: part["seal"] for part in record["personal"]} == {
        str(world.id("root")): "open",
        str(world.id("mia")): "broken",
    }


async def test_the_address_of_a_caller_without_a_name_is_shown_to_those_who_see_all(world: World) -> None:
    await world.stranger(address="192.0.2.78").get("/auth/whoami", expect=401)
    [failed] = await world.records("authenticate")
    [record] = (await world.olga.get(f"{ADMIN}/{failed['id']}"))["records"]
    [part] = record["personal"]
    assert (part["subject"], part["seal"], part["client_address"]) == (None, "open", "192.0.2.78")
    assert str(NOBODY) not in json.dumps(record)
