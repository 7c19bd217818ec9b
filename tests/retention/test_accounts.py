"""What is missing from the log is held to what was dropped from it, by the records of the drops and by number."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from audit.archive import Archive
from audit.merkle import leaf_hash
from audit.verify import Trust, Wrong, export, span
from server.cli.audit.gaps import Archives, Dropped, drops, filled, held, read
from tests.retention.support import FEBRUARY, OLD, archived, drop
from tests.tamper.exports import exported, log_key
from tests.world.world import World


class Told:
    """A log of which a part was dropped: what the server says of it, what its records say, and what is missing."""

    def __init__(self, folder: Path, gone: list[Dropped]) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        lines = (folder / "records.jsonl").read_text().split("\n")[:-1]
        self.gone = gone
        self.recorded = [found for line in lines if line[0] == "{" for found in drops(line)]
        self.missing = [range(index, index + 1) for index, line in enumerate(lines) if line[0] == '"']
        self.end = manifest["end"]


async def told(world: World, folder: Path) -> Told:
    await world.app.sequencer.catch_up()
    items = (await world.olga.get("/admin/audit-archives", order="created_at"))["items"]
    return Told(await exported(world, folder), read(items))


async def test_what_is_missing_is_held_to_the_records_of_the_drops(aged: World, tmp_path: Path) -> None:
    kept = await archived(aged, tmp_path / "february")
    await drop(aged, kept)
    log = await told(aged, tmp_path / "export")
    [one] = log.gone
    assert (one.partition, one.records, one.account, len(log.missing)) == (
        OLD,
        len(FEBRUARY),
        "os:keeper",
        len(FEBRUARY),
    )
    assert one.said().endswith(f"{OLD}, {len(FEBRUARY)} records, was dropped by os:keeper and is kept in {kept}")
    held(log.gone, log.recorded, log.missing, (), ())
    said = export(tmp_path / "export", ([await log_key(aged)], []), (), [one.span])
    assert f"{log.end - len(FEBRUARY)} records and {len(FEBRUARY)} hashes alone" in said[0]
    for other in (
        replace(one, partition="audit_record_2020_03"),
        replace(one, records=one.records + 1),
        replace(one, span=range(one.span.stop + 9)),
        replace(one, digest="0" * 64),
    ):
        with pytest.raises(Wrong, match="says the server, and no record in the log does"):
            held([other], log.recorded, log.missing, (), ())
        held([other], log.recorded, log.missing, [range(one.span.stop + 9)], ())
    with pytest.raises(Wrong, match="no record in the log does"):
        held(log.gone, (), log.missing, [one.span[1:]], ())
    held(log.gone, (), log.missing, (), Archives([kept]).digests)


async def test_a_record_among_those_that_were_dropped_is_missed_by_number(aged: World, tmp_path: Path) -> None:
    """The neighbours of a part stand among its indexes. One of them that is deleted is one too many."""
    await drop(aged, await archived(aged, tmp_path / "february"))
    log = await told(aged, tmp_path / "export")
    [one] = log.gone
    neighbours = [index for index in one.span if range(index, index + 1) not in log.missing]
    assert neighbours
    missing = [*log.missing, range(neighbours[0], neighbours[0] + 1)]
    wrong = f"{len(FEBRUARY) + 1} records are missing, and no more than {len(FEBRUARY)} were dropped"
    with pytest.raises(Wrong, match=f"index {one.span.start} to {one.span.stop - 1}: {wrong}"):
        held(log.gone, log.recorded, missing, (), ())
    beside = replace(one, partition="other", span=range(one.span.stop - 1, one.span.stop + 1), records=1)
    held([one, beside], [*log.recorded, ("other", beside.span, 1, beside.digest)], missing, (), ())
    apart = replace(beside, span=range(one.span.stop, one.span.stop + 1))
    with pytest.raises(Wrong, match=wrong):
        held([one, apart], [*log.recorded, ("other", apart.span, 1, apart.digest)], missing, (), ())


async def test_an_archive_gives_back_what_is_missing(aged: World, tmp_path: Path) -> None:
    """And nothing has to be believed of it: its records have the hashes that are in the tree, or they are none."""
    kept = await archived(aged, tmp_path / "february")
    await drop(aged, kept)
    log = await told(aged, tmp_path / "export")
    trust: Trust = [await log_key(aged)], []
    archives = Archives([kept])
    (tmp_path / "filled").mkdir()
    whole = filled(tmp_path / "export", archives, tmp_path / "filled")
    assert f"all {log.end} records" in export(whole, trust)[0]
    spans = [line.partition(":")[0] for line in archives.said()]
    assert sum(len(span(text.removeprefix("index ").replace(" to ", ".."))) for text in spans) == len(FEBRUARY)
    assert all(line.endswith(f": taken from {kept}") for line in archives.said())
    index = log.missing[3].start
    line = next(one for one in Archive(kept).records() if one.index == index).leaf
    assert line is not None
    content = (kept / "records.jsonl").read_bytes()
    (kept / "records.jsonl").write_bytes(content.replace(line, line.replace(b"tested", b"denied")))
    (tmp_path / "again").mkdir()
    with pytest.raises(Wrong, match=f"index {index}: the record in {kept} is not the one whose hash stands here"):
        filled(tmp_path / "export", Archives([kept]), tmp_path / "again")
    hidden = b'"%b"' % leaf_hash(line).hex().encode()
    (kept / "records.jsonl").write_bytes(content.replace(line, hidden))
    (tmp_path / "less").mkdir()
    less = filled(tmp_path / "export", Archives([kept]), tmp_path / "less")
    with pytest.raises(Wrong, match=f"index {index}: only the record's hash is there"):
        export(less, trust)
    assert f"{log.end - 1} records and 1 hash alone" in export(less, trust, (), [range(index, index + 1)])[0]
