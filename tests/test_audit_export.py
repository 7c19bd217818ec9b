"""An export of any range holds by itself, says what was asked for, and is recorded when it begins and when it ends."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actions.errors import Conflict, Invalid, Unavailable
from audit.checkpoint import Checkpoint
from audit.note import Kind, Note, Signer
from audit.redaction import unseal
from server.cli.output import ExportFormat, Refused
from server.repositories.audit_export import AuditExportRepository
from server.repositories.database import Row
from server.repositories.unit import Unit
from server.services import audit_export
from tests.exports import EXPORT_SPEC, OPERATOR, export, numbering, verified
from tests.numbered import grow
from tests.test_audit_records import key_of
from tests.world.listener import listen
from tests.world.world import World


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


async def act(world: World, times: int) -> None:
    for _ in range(times):
        await world.root.get("/admin/domains")


async def tampered(world: World, table: str, statement: str) -> None:
    """What only the owner of the tables can do, and only by taking the guard away."""
    await world.sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    await world.sql(statement)


async def test_an_export_of_the_whole_log_holds_and_has_every_record_in_it(world: World, tmp_path: Path) -> None:
    await act(world, 5)
    before = {(record["id"], record["phase"]) for record in await world.records()}
    manifest = await export(world, tmp_path / "all")
    told = {(record["id"], record["phase"]) for record in lines(tmp_path / "all")}
    assert before < told
    assert (manifest["first"], manifest["end"], manifest["before"]) == (0, len(told), [])
    opened, _closed = await world.records(EXPORT_SPEC.name)
    assert told - before == {(opened["id"], "opened")}, "it waited for the record of its own beginning"


async def test_every_range_of_the_log_holds(world: World, tmp_path: Path) -> None:
    for _ in range(6):
        await act(world, 4)
        await world.app.sequencer.catch_up()
    size = (await world.sql("SELECT max(size) FROM audit_checkpoint"))[0]["max"]
    for first, end in ((0, 1), (1, 2), (5, 17), (7, 8), (16, 32), (3, size - 1), (3, size), (size - 1, size)):
        folder = tmp_path / f"{first}-{end}"
        manifest = await export(world, folder, first=first, end=end)
        assert (manifest["first"], manifest["end"]) == (first, end)
        assert manifest["asked"] == {"first": first, "end": end, "formats": ["jsonl"]}
        along = await world.sql("SELECT size FROM audit_checkpoint WHERE size > $1 AND size <= $2", first, end)
        assert len(manifest["checkpoints"]) == len(along)


async def test_a_range_across_tiles_holds(world: World, tmp_path: Path) -> None:
    await copies(world, 700)
    await export(world, tmp_path / "a", first=255, end=513)
    await export(world, tmp_path / "b", first=600, end=700)
    await export(world, tmp_path / "c", first=512)


async def copies(world: World, number: int) -> None:
    """Many records at once, made at times that follow each other."""
    await world.sql(
        "INSERT INTO audit_record (action_id, phase, at, action, result, principal, request_id, scope_type, leaf)"
        " SELECT gen_random_uuid(), 'done', now() - make_interval(mins => $1 - n), 'admin_user', 'succeeded',"
        " 'system:test', '', 'admin', convert_to(format('{\"n\":%s}', n), 'UTF8') FROM generate_series(1, $1) n",
        number,
    )
    await world.app.sequencer.catch_up()


async def test_a_span_of_time_is_the_smallest_range_that_holds_every_record_of_it(world: World, tmp_path: Path) -> None:
    await act(world, 8)
    async with numbering(world):
        await act(world, 8)
    await world.app.sequencer.catch_up()
    rows = await world.sql("SELECT index, at FROM audit_leaf JOIN audit_record USING (action_id, phase) ORDER BY index")
    times = sorted({row["at"] for row in rows})
    for since, until in ((2, 9), (0, 3), (5, 6), (4, len(times) - 1)):
        begin, end = times[since], times[until]
        within = [row["index"] for row in rows if begin <= row["at"] < end]
        manifest = await export(world, tmp_path / f"{since}-{until}", since=begin, until=end)
        assert (manifest["first"], manifest["end"]) == (min(within), max(within) + 1)


async def test_a_span_of_time_is_found_in_a_long_log(world: World, tmp_path: Path) -> None:
    """Ids that tell another time than the records were made at, as no log of ours has them, would mislead the search:
    so here they tell that time."""
    await world.sql(
        "INSERT INTO audit_record (action_id, phase, at, action, result, principal, request_id, scope_type, leaf)"
        " SELECT overlay(gen_random_uuid()::text placing substr(hex, 1, 8) || '-' || substr(hex, 9, 4) from 1 for 13)"
        "::uuid, 'done', at, 'admin_user', 'succeeded', 'system:test', '', 'admin', convert_to('{}', 'UTF8')"
        " FROM (SELECT at, lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS hex FROM"
        " (SELECT now() - make_interval(mins => 3000 - n) AS at FROM generate_series(1, 3000) n) AS made) AS told"
        " ORDER BY at"
    )
    await world.app.sequencer.catch_up()
    rows = await world.sql(
        "SELECT index, at FROM audit_leaf JOIN audit_record USING (action_id, phase) WHERE at < now() - '1 h'::interval"
    )
    until = datetime.now(UTC) - timedelta(hours=20)
    since = until - timedelta(hours=10)
    within = [row["index"] for row in rows if since <= row["at"] < until]
    assert len(within) == 600
    manifest = await export(world, tmp_path / "part", since=since, until=until)
    assert (manifest["first"], manifest["end"]) == (min(within), max(within) + 1)


async def test_the_sealed_parts_come_along_only_when_asked_for_and_stay_sealed(world: World, tmp_path: Path) -> None:
    mia = world.id("mia")
    await world.root.patch(f"/admin/users/{mia}", {"full_name": "Mia Planted"})
    await export(world, tmp_path / "without")
    assert not (tmp_path / "without" / "sealed.jsonl").exists()
    manifest = await export(world, tmp_path / "with", sealed=True)
    for path in (tmp_path / "with").iterdir():
        assert b"Planted" not in path.read_bytes()
    leaves = (tmp_path / "with" / "records.jsonl").read_bytes().splitlines()
    boxes = [json.loads(line) for line in (tmp_path / "with" / "sealed.jsonl").read_bytes().splitlines()]
    [described] = [file for file in manifest["files"] if file["kind"] == "sealed"]
    assert described["records"] == len(boxes)
    names = []
    for box in boxes:
        opened = unseal(leaves[box["index"]], json.dumps(box["sealed"]).encode(), {mia: await key_of(world, mia)})
        names += [told.get("changes", {}) for told in opened.values()]
    assert {"full_name": ["Mia", "Mia Planted"]} in names


async def test_a_record_that_was_dropped_leaves_its_hash_in_the_export(world: World, tmp_path: Path) -> None:
    await act(world, 3)
    await world.app.sequencer.catch_up()
    await tampered(
        world,
        "audit_record",
        "DELETE FROM audit_record USING audit_leaf l WHERE index = 4"
        " AND audit_record.action_id = l.action_id AND audit_record.phase = l.phase",
    )
    formats = (ExportFormat.CSV, ExportFormat.PARQUET, ExportFormat.OCSF)
    manifest = await export(world, tmp_path / "gap", formats, first=2, end=7)
    told = lines(tmp_path / "gap")[2]
    assert isinstance(told, str)
    assert len(told) == 64
    records = {file["kind"]: file["records"] for file in manifest["files"]}
    assert records == {"leaves": 5, "hashes": 5, "csv": 5, "parquet": 5, "ocsf": 4}


async def test_an_export_is_recorded_when_it_begins_and_when_it_ends_with_what_was_asked(
    world: World, tmp_path: Path
) -> None:
    await act(world, 3)
    await world.app.sequencer.catch_up()
    await export(world, tmp_path / "some", first=2, end=5, sealed=True)
    opened, closed = await world.records(EXPORT_SPEC.name)
    question = [{"field": name, "value": value} for name, value in (("first", 2), ("end", 5), ("sealed", True))]
    assert (opened["phase"], opened["asked"]) == ("opened", question)
    spanned = {"field": "range", "value": {"first": 2, "end": 5}}
    assert (closed["phase"], closed["asked"], closed["result"]) == ("closed", [spanned, *question], "succeeded")
    assert closed["changes"] == [{"field": "sent", "old": None, "new": {"records": 3, "last": 4}}]
    assert opened["principal"]["name"] == OPERATOR


async def test_who_left_an_export_before_its_last_part_is_told_from_who_had_all_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AuditExportRepository, "entries", _two_at_a_time)
    await act(world, 5)
    await world.app.sequencer.catch_up()
    for parts, result, sent in (
        (0, "broken-off", {"records": 0, "last": None}),
        (1, "broken-off", {"records": 2, "last": 2}),
        (2, "succeeded", {"records": 4, "last": 4}),
    ):
        async with world.app.following(EXPORT_SPEC, OPERATOR, {"first": 1, "end": 5}) as coming:
            for _ in range(parts):
                await anext(coming)
        closed = (await world.records(EXPORT_SPEC.name))[-1]
        assert (closed["result"], closed["changes"][-1]["new"]) == (result, sent)
        assert closed.get("error", {}).get("reason") == (None if result == "succeeded" else "left-early")


_entries = AuditExportRepository.entries


async def _two_at_a_time(repository: AuditExportRepository, unit: Unit, first: int) -> list[Row]:
    return (await _entries(repository, unit, first))[:2]


async def test_an_auditor_may_export_and_others_may_not(world: World) -> None:
    await world.app.sequencer.catch_up()
    size = (await world.sql("SELECT max(size) FROM audit_checkpoint"))[0]["max"]
    [told] = await fetched(world, first=5, end=7)
    assert [entry["index"] for entry in told["entries"]] == [5, 6]
    assert (told["range"]["end"], told["next"]) == (7, None)
    assert {entry["sealed"] for entry in told["entries"]} == {None}
    [whole] = await fetched(world, sealed="true", end=size)
    assert any(entry["sealed"] for entry in whole["entries"])
    assert whole["range"]["end"] == size
    for who in ("dana", "piotr", "mia", "nobody"):
        await world.as_(who).get("/admin/audit-records/export", expect=403)


async def fetched(world: World, **question: Any) -> list[dict[str, Any]]:
    """An auditor's export over HTTP, to its end: its parts, or the problem that it ends by."""
    told: list[dict[str, Any]] = []
    async with listen(world.olga, "/admin/audit-records/export", **question) as stream:
        while not told or told[-1].get("next") is not None:
            told.append((await stream.read()).data)
    return told


async def test_whoever_comes_back_to_an_export_goes_on_after_what_was_read(world: World) -> None:
    await copies(world, 1200)
    told = await fetched(world, end=1200)
    assert [part["next"] for part in told] == [500, 1000, None]
    assert [len(part["entries"]) for part in told] == [500, 500, 200]
    [last] = await fetched(world, end=1200, after=999)
    assert last["entries"] == told[2]["entries"]
    assert (last["range"]["first"], last["range"]["end"]) == (1000, 1200)
    async with listen(world.olga, "/admin/audit-records/export", end=1200, last="499") as stream:
        assert (await stream.read()).data["entries"] == told[1]["entries"]


NO_RANGE = (
    ({"first": 3, "end": 3}, "/first"),
    ({"first": 1, "since": "2026-01-01T00:00:00Z"}, "/first"),
    ({"since": "9999-12-31T23:59:59Z", "until": "0001-01-01T00:00:00Z"}, "/since"),
    ({"first": -1}, "/first"),
    ({"end": 2**53}, "/end"),
)
NOT_IN_THIS_LOG = (
    ({"first": 2**53 - 1}, "/first"),
    ({"end": 2**53 - 1}, "/end"),
    ({"until": "2026-01-01T00:00:00Z"}, "/until"),
    ({"end": 3, "after": 2}, "/after"),
)


async def test_a_range_that_there_is_not_is_refused_with_its_place(world: World) -> None:
    await world.app.sequencer.catch_up()
    for asked, pointer in NO_RANGE:
        told = await world.olga.get("/admin/audit-records/export", expect=422, **asked)
        assert [error["pointer"] for error in told["errors"]] == [pointer], asked
    async with numbering(world):
        for asked, pointer in NOT_IN_THIS_LOG:
            [told] = await fetched(world, **asked)
            assert (told["status"], [error["pointer"] for error in told["errors"]]) == (422, [pointer]), asked


async def test_what_has_no_index_yet_is_waited_for_and_not_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_export, "PATIENCE_SECONDS", 0.3)
    await world.app.sequencer.catch_up()
    with pytest.raises(Unavailable, match="no server numbers them"):
        async with world.app.following(EXPORT_SPEC, OPERATOR, {}) as parts:
            await anext(parts)
    at = datetime.now(UTC).isoformat()
    [told] = await fetched(world, until=at)
    assert (told["status"], told["code"]) == (503, "audit-record-export-not-numbered")
    with pytest.raises(Invalid):
        async with numbering(world), world.app.following(EXPORT_SPEC, OPERATOR, {"end": 10**6}) as parts:
            await anext(parts)


async def test_an_open_transaction_keeps_an_export_of_what_it_may_still_add_to_waiting(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_export, "PATIENCE_SECONDS", 0.3)
    await act(world, 2)
    await world.app.sequencer.catch_up()
    late = await world.app.database.connect("test")
    try:
        await late.execute("BEGIN")
        await late.fetchval("SELECT pg_current_xact_id()")
        with pytest.raises(Unavailable, match="a transaction of somebody's is open"):
            await export(world, tmp_path / "now")
        assert not (tmp_path / "now").exists()
        at = (await world.sql("SELECT max(at) FROM audit_record JOIN audit_leaf USING (action_id, phase)"))[0]["max"]
        with pytest.raises(Unavailable, match="a transaction of somebody's is open"):
            await export(world, tmp_path / "just", until=at)  # all that is there has its index, and more may come
        monkeypatch.setattr(audit_export, "SETTLED_AFTER", timedelta(0))
        await export(world, tmp_path / "past", until=at)
        await late.execute("COMMIT")
    finally:
        await late.close()
    await export(world, tmp_path / "after")


async def test_a_checkpoint_that_a_witness_vouches_for_is_preferred(world: World, tmp_path: Path) -> None:
    await act(world, 3)
    await world.app.sequencer.catch_up()
    row = (await world.sql("SELECT size, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1"))[0]
    witness = Signer("witness.example", Ed25519PrivateKey.generate(), Kind.COSIGNATURE)
    line = witness.sign(Note.read(row["note"]).text, 1_800_000_000)
    await world.sql(
        "INSERT INTO audit_cosignature (size, witness, line) VALUES ($1, $2, $3)",
        row["size"],
        str(witness.verifier),
        line,
    )
    await act(world, 3)
    await world.app.sequencer.catch_up()
    manifest = await export(world, tmp_path / "witnessed", end=row["size"] - 1)
    note = Note.read(manifest["checkpoint"])
    assert Checkpoint.of(note).size == row["size"]
    assert [vouched.at for vouched in note.vouched([witness.verifier])] == [1_800_000_000]
    manifest = await export(world, tmp_path / "later", first=0, end=row["size"] + 1)
    assert Checkpoint.of(Note.read(manifest["checkpoint"])).size > row["size"], "that one does not cover the range"


async def test_a_log_with_a_hole_in_it_is_not_exported(world: World, tmp_path: Path) -> None:
    await grow(world, 300)  # in a tile that is not full yet it keeps the log from being signed, too
    await tampered(world, "audit_leaf", "DELETE FROM audit_leaf WHERE index = 4")
    with pytest.raises(Refused, match="the log has no entry 4, though a checkpoint covers it"):
        await export(world, tmp_path / "hole", first=3, end=8)
    with pytest.raises(Conflict, match="the tree lacks hashes of level 0 from 4 on"):
        await export(world, tmp_path / "hole", first=3, end=7)
    assert not any(folder.exists() for folder in (tmp_path / "hole", tmp_path / "hole.part"))


async def test_an_export_tells_a_changed_record_as_it_is_so_that_it_is_found(world: World, tmp_path: Path) -> None:
    await act(world, 3)
    await world.app.sequencer.catch_up()
    await tampered(
        world,
        "audit_record",
        "UPDATE audit_record SET leaf = convert_to('{\"forged\":1}', 'UTF8') FROM audit_leaf l WHERE index = 5"
        " AND audit_record.action_id = l.action_id AND audit_record.phase = l.phase",
    )
    with pytest.raises(AssertionError):
        await export(world, tmp_path / "forged", first=3, end=7)
    assert lines(tmp_path / "forged")[2] == {"forged": 1}
    with pytest.raises(AssertionError):
        verified(tmp_path / "forged")
