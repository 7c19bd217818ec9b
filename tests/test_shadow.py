"""Shadows: a candidate is asked about every decision beside the active policy, and no answer shows it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
import structlog.testing

from actions.authorization.index import PolicyIndex
from actions.authorization.source import PolicySource
from server.app import Application, application
from server.http.metrics import Metrics
from server.shadow import KINDS_AT_MOST, TALLYING, Shadow
from tests.laws.support import edited, spec_named
from tests.stored_policies import UNUSABLE, planted
from tests.world.counted import registry
from tests.world.world import World

SEARCH = "p, domain_member, domain, user, search, allow"
TAILING = spec_named("admin_tail_audit_record")
REASON = {"reason": "to see whom it touches"}


async def shadowed(world: World, candidate: PolicySource) -> None:
    """Let a candidate be shadowed, in this worker, too."""
    digest = await planted(world, candidate)
    await world.sql("UPDATE policy_shadow SET ended_at = now(), ended_by = 'root', ended_reason = 'another'")
    await world.sql(
        "INSERT INTO policy_shadow (id, digest, by, reason) VALUES ($1, $2, 'root', 'a test')", uuid4(), digest
    )
    await world.app.shadow.load()


async def report(world: World, **asked: Any) -> dict[str, Any]:
    """What is known of the shadow, once this worker has told what it saw."""
    await world.app.sweeper(housekeeper=False).tally_shadow()
    told: dict[str, Any] = await world.root.get("/admin/policies/shadow_report", **asked)
    return told


def counted(app: Application, family: str) -> dict[str, float]:
    """A metric by its one label."""
    return {
        sample.labels.popitem()[1]: sample.value
        for found in registry(app.metrics).collect()
        for sample in found.samples
        if sample.name == family
    }


async def test_a_candidate_changes_no_answer_and_what_it_would_have_changed_is_kept(world: World) -> None:
    candidate = edited(world, without="p, domain_member, domain, domain, get", domain=SEARCH)
    await shadowed(world, candidate)
    for _ in range(3):
        await world.mia.get("/domains/research/users", expect=403)
    await world.mia.get("/domains/research")
    await world.mia.get("/users/me")
    told = await report(world)
    active = world.app.policy.current()
    roles = frozenset({"domain_member"})
    gain, loss = told["differences"]
    assert (gain["cell"], gain["gain"], gain["count"]) == (
        {"scope": "domain", "entity": "user", "operation": "search"},
        True,
        3,
    )
    assert (gain["active"], gain["roles"], gain["active_rule"]) == (active.digest, ["domain_member"], None)
    last = len(candidate.files["domain.csv"].decode().splitlines())
    assert gain["candidate_rule"] == f"domain.csv:{last}"
    assert gain["first_at"] < gain["last_at"]
    assert gain["last_principal"] == f"user:{world.id('mia')}"
    (cell,) = [cell for cell in active.vocabulary if str(cell) == "domain:domain:get"]
    assert (loss["gain"], loss["count"], loss["cell"]["operation"]) == (False, 1, "get")
    assert (loss["active_rule"], loss["candidate_rule"]) == (active.decide(roles, cell).rule, None)
    assert (told["kinds"], told["shadow"]["gained"], told["shadow"]["lost"], told["shadow"]["failed"]) == (2, 3, 1, 0)
    assert told["shadow"]["compared"] >= 5
    (first,) = (await report(world, limit=1))["differences"]
    assert first == gain


async def test_who_may_read_policies_and_not_replay_the_log_does_not_learn_who_met_a_difference(world: World) -> None:
    await shadowed(world, edited(world, domain=SEARCH))
    reader = await world.newcomer("reader")
    await world.root.post("/admin/role-bindings", {"user_id": str(reader.id), "role": "monitor"}, expect=201)
    await world.mia.get("/domains/research/users", expect=403)
    (known,) = (await report(world))["differences"]
    (told,) = (await world.as_(reader).get("/admin/policies/shadow_report"))["differences"]
    assert known["last_principal"] == f"user:{world.id('mia')}"
    assert told == {**known, "last_principal": None}


async def test_differences_are_counted_in_metrics_and_a_gauge_says_that_a_shadow_is_on(world: World) -> None:
    info, decisions = "chamberlain_policy_shadow_info", "chamberlain_policy_shadow_decisions_total"
    assert (counted(world.app, info), counted(world.app, decisions)) == ({}, {})
    candidate = edited(world, without="p, domain_member, domain, domain, get", domain=SEARCH)
    await shadowed(world, candidate)
    assert counted(world.app, info) == {candidate.digest: 1}
    await world.mia.get("/domains/research/users", expect=403)
    await world.mia.get("/domains/research")
    await world.mia.get("/users/me")
    assert counted(world.app, decisions) == {"gain": 1, "loss": 1, "same": 1}
    await world.root.post("/admin/policies/unshadow", REASON)
    await world.app.shadow.load()
    before = counted(world.app, decisions)
    await world.mia.get("/domains/research")
    assert (counted(world.app, info), counted(world.app, decisions)) == ({}, before)


async def test_what_a_body_names_is_compared_too(world: World) -> None:
    """Law 4: a candidate that lets nobody find people would keep a project's admin from bringing them in."""
    await shadowed(world, edited(world, without="p, domain_member, domain, user,   lookup"))
    nora = await world.newcomer("nora")
    given = {"user_id": str(nora.id), "role": "project_member"}
    await world.piotr.post(f"/projects/{world.places.lab}/role-bindings", given, expect=201)
    differences = [found["cell"] | {"gain": found["gain"]} for found in (await report(world))["differences"]]
    assert {"scope": "user", "entity": "user", "operation": "lookup", "gain": False} in differences
    assert {cell["operation"] for cell in differences} == {"lookup"}


async def test_a_batch_is_compared_once_and_each_thing_that_its_items_name(world: World) -> None:
    await shadowed(world, edited(world, without="p, domain_admin, domain, user, update"))
    user = (await world.dana.get("/domains/research/users"))["items"][0]["id"]
    items = [{"id": user, "change": {"description": "changed"}}]
    await world.dana.post("/domains/research/users/batch_update", {"items": items})
    (found,) = (await report(world))["differences"]
    assert (found["cell"]["operation"], found["count"], found["gain"]) == ("update", 1, False)


async def test_a_stream_is_compared_once_when_it_opens(world: World) -> None:
    await shadowed(world, edited(world, without="p, system_operator,"))
    await world.app.sequencer.catch_up()
    async with world.app.following(TAILING, "system:operator", {"count": 1}) as parts:
        assert await anext(parts)
    (found,) = (await report(world))["differences"]
    assert (found["cell"]["operation"], found["count"], found["gain"]) == ("tail", 1, False)


async def test_a_candidate_that_fails_affects_no_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = edited(world, domain=SEARCH)
    await shadowed(world, candidate)
    whole = PolicyIndex.decide

    def failing(self: PolicyIndex, *asked: Any) -> Any:
        if self.digest == candidate.digest:
            raise RuntimeError("the candidate is broken")
        return whole(self, *asked)

    monkeypatch.setattr(PolicyIndex, "decide", failing)
    with structlog.testing.capture_logs() as logs:
        await world.mia.get("/users/me")
        await world.mia.get("/domains/research/users", expect=403)
    assert len([line for line in logs if line["event"] == "shadow could not be asked"]) == 1, "once is enough"
    assert counted(world.app, "chamberlain_policy_shadow_decisions_total") == {"error": 2}
    monkeypatch.undo()
    assert (await report(world))["shadow"]["failed"] == 2
    assert {record["result"] for record in (await world.records("user_user"))} == {"succeeded"}


async def test_no_more_kinds_are_told_apart_than_there_is_room_for_and_all_are_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.shadow.KINDS_AT_MOST", 1)
    monkeypatch.setattr("server.repositories.policy_shadow.KEPT_AT_MOST", 1)
    await shadowed(world, edited(world, without="p, domain_member, domain, domain, get", domain=SEARCH))
    for turn in (1, 2):
        await world.mia.get("/domains/research/users", expect=403)
        await world.mia.get("/domains/research")
        told = await report(world)
        assert (told["kinds"], told["differences"][0]["count"]) == (1, turn)
        assert (told["shadow"]["gained"], told["shadow"]["lost"]) == (turn, turn)
    await world.mia.get("/domains/research")
    assert (await report(world))["kinds"] == 1, "what is new finds no room in the database either"
    assert KINDS_AT_MOST > 1


async def test_what_could_not_be_written_down_counts_with_the_next(world: World) -> None:
    await shadowed(world, edited(world, domain=SEARCH))
    await world.mia.get("/domains/research/users", expect=403)
    await world.sql("REVOKE UPDATE ON policy_shadow FROM chamberlain_app")
    sweeper = world.app.sweeper(housekeeper=False)
    await sweeper.once()
    await world.sql("GRANT UPDATE ON policy_shadow TO chamberlain_app")
    await world.mia.get("/domains/research/users", expect=403)
    await sweeper.once()
    told = await report(world)
    assert (told["shadow"]["gained"], told["differences"][0]["count"]) == (2, 2)
    assert [record["result"] for record in await world.records("admin_tally_policy")] == ["failed", "succeeded"]
    await sweeper.once()
    taken = len(await world.records("admin_tally_policy"))
    await sweeper.once()
    assert len(await world.records("admin_tally_policy")) == taken, "nothing seen, nothing told"


async def test_beginning_and_ending_are_recorded_with_the_reason(world: World) -> None:
    first, second = edited(world, domain=SEARCH), edited(world, domain="# second")
    await world.root.post("/admin/policies/unshadow", REASON, expect=409)
    for candidate in (first, second):
        begun = await world.root.post(f"/admin/policies/{await planted(world, candidate)}/shadow", REASON)
        assert (begun["candidate"], begun["reason"], begun["ended_at"]) == (candidate.digest, REASON["reason"], None)
        assert begun["started_by"] == f"user:{world.id('root')}"
    ended = await world.root.post("/admin/policies/unshadow", {"reason": "enough"})
    assert (ended["candidate"], ended["ended_by"], ended["ended_reason"]) == (
        second.digest,
        f"user:{world.id('root')}",
        "enough",
    )
    assert (await world.root.post("/admin/policies/unshadow", REASON, expect=409))[
        "code"
    ] == "policy-unshadow-no-shadow"
    records = [
        record
        for name in ("admin_shadow_policy", "admin_unshadow_policy")
        for record in await world.records(name)
        if record["result"] == "succeeded"
    ]
    changes = [{change["field"]: (change["old"], change["new"]) for change in record["changes"]} for record in records]
    assert changes == [
        {"shadow": (None, first.digest), "reason": (None, REASON["reason"])},
        {"shadow": (first.digest, second.digest), "reason": (None, REASON["reason"])},
        {"shadow": (second.digest, None), "reason": (None, "enough")},
    ]
    assert records[-1]["target"]["id"] == second.digest
    (row,) = await world.sql("SELECT ended_reason FROM policy_shadow WHERE digest = $1", first.digest)
    assert row["ended_reason"] == f"another shadow began: {REASON['reason']}"


async def test_what_cannot_be_shadowed_is_refused_and_says_why(world: World) -> None:
    active = world.app.policy.current().digest
    unusable = await planted(world, UNUSABLE)
    for digest, status, code in (
        (active, 409, "policy-shadow-is-active"),
        (unusable, 409, "policy-shadow-unusable-policy"),
        ("0" * 64, 404, "policy-shadow-not-found"),
        ("nonsense", 404, "policy-shadow-not-found"),
    ):
        refusal = await world.root.post(f"/admin/policies/{digest}/shadow", REASON, expect=status)
        assert refusal["code"] == code
    for body in ({}, {"reason": ""}, {"reason": "  "}, {"reason": "x" * 513}):
        await world.root.post(f"/admin/policies/{active}/shadow", body, expect=422)
    for limit in (0, 1001, "many"):
        await world.root.get("/admin/policies/shadow_report", limit=limit, expect=422)
    assert await report(world) == {"shadow": None, "kinds": 0, "differences": []}


async def test_only_a_superadmin_shadows_and_only_who_may_read_policies_reads_the_report(world: World) -> None:
    path = f"/admin/policies/{await planted(world, edited(world, domain=SEARCH))}/shadow"
    for who in ("dana", "olga", "mia", "nobody"):
        await world.as_(who).post(path, REASON, expect=403)
        await world.as_(who).post("/admin/policies/unshadow", REASON, expect=403)
    for who in ("dana", "mia", "nobody"):
        await world.as_(who).get("/admin/policies/shadow_report", expect=403)
    await world.olga.get("/admin/policies/shadow_report")


async def test_a_shadow_ends_when_its_candidate_becomes_active(world: World) -> None:
    candidate = edited(world, domain=SEARCH)
    await shadowed(world, candidate)
    await world.app.publish(edited(world, domain="# another"), "another version")
    assert (await report(world))["shadow"]["ended_at"] is None, "whatever else becomes active"
    await world.root.post(f"/admin/policies/{candidate.digest}/activate", {"reason": "it was good"})
    ended = (await report(world))["shadow"]
    assert ended["ended_at"] is not None
    assert (ended["ended_by"], ended["ended_reason"]) == (f"user:{world.id('root')}", "it became the active version")
    with structlog.testing.capture_logs() as logs:
        await world.app.shadow.load()
    assert [line["event"] for line in logs] == ["shadow ended"]
    await world.root.post("/admin/policies/unshadow", REASON, expect=409)


async def test_a_candidate_that_this_worker_cannot_use_leaves_it_without_a_shadow(world: World) -> None:
    await shadowed(world, edited(world, domain=SEARCH))
    with pytest.raises(ValueError, match="spaceship"):
        await shadowed(world, UNUSABLE)
    await world.mia.get("/users/me")
    assert world.app.shadow.take() == {}


@asynccontextmanager
async def another_worker(world: World) -> AsyncIterator[Application]:
    async with application(world.app.settings, world.urls.application, Metrics()) as app:
        assert await app.policy.load()
        yield app


async def becomes(shadow: Shadow, digest: str | None) -> None:
    async with asyncio.timeout(10):
        while (shadow.candidate and shadow.candidate.digest) != digest:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_every_worker_begins_and_ends_with_the_database(world: World) -> None:
    candidate = edited(world, domain=SEARCH)
    await planted(world, candidate)
    async with (
        another_worker(world) as other,
        world.app.working(housekeeper=False),
        other.working(housekeeper=False),
    ):
        await world.root.post(f"/admin/policies/{candidate.digest}/shadow", REASON)
        for app in (world.app, other):
            await becomes(app.shadow, candidate.digest)
        await world.root.post("/admin/policies/unshadow", REASON)
        for app in (world.app, other):
            await becomes(app.shadow, None)


async def test_a_tally_of_a_shadow_that_is_gone_keeps_nothing(world: World) -> None:
    numbers = dict.fromkeys(("compared", "gained", "lost", "failed"), 1)
    given = {"shadow": str(uuid4()), **numbers, "differences": []}
    await world.app.internally(TALLYING, "system:sweeper", given)
    assert await world.sql("SELECT * FROM policy_shadow") == []
