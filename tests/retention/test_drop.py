"""What leaves the log: only what is old and stands whole in an archive; and the proofs of all else go on to hold."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from actions.entities.audit_partition import DROP, LIST
from actions.errors import ChamberlainError, Conflict, Invalid, OutcomeUnknown, Unavailable
from audit.merkle import Edge, includes, inclusion, joined, leaf_hash, span_of
from server import sweeper as sweeping
from server.cli.local import OPERATOR
from server.repositories import partitions as owning
from server.repositories.migrations.migrate import migrate
from server.repositories.partitions import Partitions
from tests.laws.support import an_archive
from tests.retention.support import BY_WORD, FEBRUARY, OLD, archived, drop, is_there, machine, record, write_late
from tests.world.world import World


async def told(world: World) -> list[tuple[str, str]]:
    return [(one["phase"], one["result"]) for one in await world.records("admin_drop_audit_partition")]


async def proven(world: World, size: int, root: bytes) -> None:
    """Every leaf of a tree is proven to be in it, dropped or not."""
    leaves = await world.sql("SELECT index, hash FROM audit_leaf ORDER BY index")
    nodes = await world.sql("SELECT tile_level, index, hash FROM audit_node")
    kept = {(0, row["index"]): row["hash"] for row in leaves}
    kept |= {(row["tile_level"], row["index"]): row["hash"] for row in nodes}

    def hashed(node: Any) -> bytes:
        level, first, width = span_of(node)
        edge = Edge()
        for place in range(first, first + width):
            edge.add(kept[level, place])
        return edge.root()

    for row in leaves[:size]:
        proof = [joined([hashed(node) for node in nodes]) for nodes in inclusion(row["index"], size)]
        assert includes(row["hash"], row["index"], size, proof, root)


async def test_a_part_is_dropped_and_the_proofs_of_all_records_go_on_to_hold(aged: World, tmp_path: Path) -> None:
    world, folder = aged, await archived(aged, tmp_path / "february")
    [head] = await world.sql("SELECT size, root FROM audit_checkpoint ORDER BY size DESC LIMIT 1")
    others = await world.sql("SELECT index, leaf FROM audit_leaf JOIN audit_record_start USING (action_id, phase)")
    records = len(FEBRUARY)
    dropped = await drop(world, folder)
    assert (dropped.was_there, dropped.records) == (True, records)
    assert not await is_there(world)
    await proven(world, head["size"], head["root"])
    await world.app.sequencer.catch_up()
    hashes = {row["index"]: row["hash"] for row in await world.sql("SELECT index, hash FROM audit_leaf")}
    edge = Edge()
    for index in range(head["size"]):
        edge.add(hashes[index])
    assert edge.root() == head["root"]
    assert all(leaf_hash(row["leaf"]) == hashes[row["index"]] for row in others)
    assert len(await world.sql("SELECT FROM audit_record WHERE action = 'tested'")) == 0


async def test_who_looks_for_a_dropped_record_is_told_where_it_is_kept(aged: World, tmp_path: Path) -> None:
    world, folder = aged, await archived(aged, tmp_path / "february")
    [old] = await world.sql("SELECT action_id FROM audit_record WHERE action = 'tested' ORDER BY action_id LIMIT 1")
    [leaf] = await world.sql("SELECT index FROM audit_leaf WHERE action_id = $1", old["action_id"])
    path = f"/admin/audit-records/{old['action_id']}"
    assert (await world.olga.get(path))["archived"] is None
    dropped = await drop(world, folder)
    shown = await world.olga.get(path)
    assert shown["records"] == []
    assert shown["archived"] == {"index": leaf["index"], "location": str(folder), "digest": dropped.digest}
    await world.olga.get(f"/admin/audit-records/{record(FEBRUARY[0], 99).columns.action_id}", expect=404)
    given = {"user_id": str(world.id("mia")), "role": "auditor"}
    await world.root.post("/domains/research/role-bindings", given, expect=201)
    await world.mia.get(f"/domains/research/audit-records/{old['action_id']}", expect=404)
    [archive] = (await world.olga.get("/admin/audit-archives", filter={"dropped": {"equals": True}}))["items"]
    assert (archive["partition"], archive["account"]) == (OLD, "os:keeper")
    assert (archive["since"][:10], archive["until"][:10]) == ("2020-02-01", "2020-03-01")
    assert archive["digest"] == dropped.digest
    assert (await world.olga.get(f"/admin/audit-archives/{archive['id']}"))["records"] == len(FEBRUARY)
    await world.dana.get("/admin/audit-archives", expect=403)


async def test_where_a_part_has_gone_is_not_to_be_rewritten(aged: World, tmp_path: Path) -> None:
    await drop(aged, await archived(aged, tmp_path / "february"))
    for statement in ("UPDATE audit_archive SET location = 'elsewhere'", "DELETE FROM audit_archive"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await aged.sql(statement)


async def test_the_parts_of_the_log_are_listed_and_those_that_are_gone(aged: World, tmp_path: Path) -> None:
    async def listed() -> dict[str, Any]:
        async with machine(aged) as app:
            found = await app.internally(BY_WORD[LIST], OPERATOR, {}, "os:keeper")
            return {one.name: one for one in found.partitions}

    before = await listed()
    assert (next(iter(before)), list(before)[-1]) == (OLD, "audit_record_default")
    february = before[OLD]
    assert (february.records, february.numbered, february.location) == (len(FEBRUARY), len(FEBRUARY), None)
    assert february.bytes > 0
    assert february.end_index - february.first_index > february.records, "others were numbered between them"
    folder = await archived(aged, tmp_path / "february")
    await drop(aged, folder)
    after = (await listed())[OLD]
    assert (after.records, after.bytes, after.location) == (len(FEBRUARY), 0, str(folder))
    assert after.since == datetime(2020, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "settings", "reason"),
    [
        ({"older_than_days": None}, {}, "no-retention"),
        ({"older_than_days": 36_000}, {}, "too-young"),
        ({"older_than_days": 30}, {"audit_retention_days": 36_000}, "too-young"),
        ({"older_than_days": None}, {"audit_retention_days": 36_000}, "too-young"),
        ({"partition": "audit_record_start"}, {}, "too-young"),
        ({"partition": "audit_record_default"}, {}, "default-partition"),
    ],
)
async def test_nothing_is_dropped_before_its_time(
    aged: World, tmp_path: Path, given: dict[str, Any], settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Conflict) as refused:
        await drop(aged, tmp_path, settings, **given)
    assert refused.value.reason == reason
    assert await told(aged) == [("done", "failed")]
    assert await is_there(aged)


async def test_the_setting_alone_says_what_is_old_enough(aged: World, tmp_path: Path) -> None:
    folder = await archived(aged, tmp_path / "february")
    dropped = await drop(aged, folder, {"audit_retention_days": 30}, older_than_days=None)
    assert dropped.was_there


async def test_what_never_was_is_not_dropped(aged: World, tmp_path: Path) -> None:
    for name in ("audit_record_1999_01", "audit_record_2020_02; DROP TABLE users"):
        with pytest.raises(Invalid):
            await drop(aged, tmp_path, partition=name)


async def test_records_without_an_index_are_neither_archived_nor_dropped(aged: World, tmp_path: Path) -> None:
    folder = await archived(aged, tmp_path / "february")
    await write_late(aged)
    for attempt in (drop(aged, folder), archived(aged, tmp_path / "again")):
        with pytest.raises(Conflict) as refused:
            await attempt
        assert refused.value.reason == "unnumbered"
    await aged.app.sequencer.catch_up()
    with pytest.raises(Conflict, match=r"lie from|not in the archive"):
        await drop(aged, folder)
    assert await is_there(aged)


async def test_a_record_that_comes_after_the_comparison_keeps_the_part(
    aged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = await archived(aged, tmp_path / "february")
    drops = Partitions.drop

    async def late(self: Partitions, name: str, last_change: str | None) -> bool:
        await write_late(aged)
        return await drops(self, name, last_change)

    monkeypatch.setattr(Partitions, "drop", late)
    with pytest.raises(Unavailable) as refused:
        await drop(aged, folder)
    assert refused.value.reason == "changed"
    assert await is_there(aged)
    assert await told(aged) == [("intent", "pending"), ("outcome", "failed")]
    assert len(await aged.sql("SELECT FROM audit_record WHERE action = 'tested'")) == len(FEBRUARY)


@pytest.mark.parametrize("done", [True, False])
async def test_a_drop_that_is_cut_short_shows_as_unknown_and_the_next_tells_the_truth(
    aged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    folder = await archived(aged, tmp_path / "february")
    drops = Partitions.drop

    async def killed(self: Partitions, name: str, last_change: str | None) -> bool:
        if done:
            await drops(self, name, last_change)
        raise RuntimeError("killed")

    with monkeypatch.context() as cut:
        cut.setattr(Partitions, "drop", killed)
        with pytest.raises(OutcomeUnknown):
            await drop(aged, folder)
    monkeypatch.setattr(sweeping, "INTENT_SECONDS", 0)
    await aged.app.sweeper(housekeeper=True).once()
    assert await told(aged) == [("intent", "pending"), ("settled", "unknown")]
    assert await is_there(aged) is not done
    [archive] = (await aged.olga.get("/admin/audit-archives"))["items"]
    assert archive["dropped"] is done, "what is written down beforehand does not say more than there is"
    dropped = await drop(aged, folder)
    assert (dropped.was_there, dropped.digest) == (not done, archive["digest"])
    assert not await is_there(aged)
    assert (await told(aged))[-2:] == [("intent", "pending"), ("outcome", "succeeded")]


async def test_a_log_that_is_read_all_the_time_is_not_held_up_for_long(
    aged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owning, "TRIES", 2)
    folder = await archived(aged, tmp_path / "february")
    reader = await asyncpg.connect(aged.urls.migrator)
    try:
        await reader.execute("BEGIN")
        await reader.fetch("SELECT FROM audit_record LIMIT 1")
        with pytest.raises(Unavailable) as refused:
            await drop(aged, folder)
        assert refused.value.reason == "busy"
        assert await told(aged) == [("intent", "pending"), ("outcome", "failed")]
        await reader.execute("ROLLBACK")
        assert (await drop(aged, folder)).was_there
    finally:
        await reader.close()


async def test_the_record_of_a_drop_tells_what_went_where_and_by_whom(aged: World, tmp_path: Path) -> None:
    folder = await archived(aged, tmp_path / "february")
    dropped = await drop(aged, folder)
    intent, outcome = await aged.records("admin_drop_audit_partition")
    assert (intent["phase"], outcome["phase"], outcome["result"]) == ("intent", "outcome", "succeeded")
    for one in (intent, outcome):
        assert one["principal"] == {"kind": "system", "name": "system:operator", "credential": "os:keeper"}
        assert one["target"]["id"] == OLD
        changes = {change["field"]: (change["old"], change["new"]) for change in one["changes"]}
        assert changes["records"] == (len(FEBRUARY), 0)
        assert changes["archive"] == (None, str(folder))
        assert changes["digest"] == (None, dropped.digest)


async def test_a_worker_cannot_drop_anything(aged: World, tmp_path: Path) -> None:
    with pytest.raises(ChamberlainError) as refused:
        await aged.app.internally(
            BY_WORD[DROP], OPERATOR, {"partition": OLD, "older_than_days": 30, "archive": str(tmp_path)}
        )
    assert refused.value.reason == "elsewhere"


async def test_a_start_after_the_record_of_the_migration_was_dropped_records_none_again(aged: World) -> None:
    """What a partition took along did take place."""
    count = "SELECT count(*) FROM audit_record WHERE action = 'migrate_schema'"
    await aged.sql("ALTER TABLE audit_record DETACH PARTITION audit_record_start")
    await an_archive(aged)
    await migrate(aged.urls.migrator, "chamberlain_app")
    assert [row["count"] for row in await aged.sql(count)] == [0]
