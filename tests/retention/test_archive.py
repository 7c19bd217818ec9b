"""An archive is what was written, to the byte; one that is anything else is found out, and lets nothing be dropped."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from actions.errors import Conflict
from audit.archive import LEAVES, MANIFEST, SEALED, Archive
from audit.merkle import leaf_hash
from audit.note import Verifier
from tests.retention.support import archived, drop, is_there, write
from tests.world.world import World


async def test_an_archive_is_made_of_what_was_written_and_says_how_it_is_proven(aged: World, tmp_path: Path) -> None:
    folder = await archived(aged, tmp_path / "february")
    archive = Archive(folder)
    keys = [Verifier.read(row["public_key"]) for row in await aged.sql("SELECT public_key FROM audit_key")]
    checkpoint = archive.checked(keys)
    [signed] = await aged.sql("SELECT root FROM audit_checkpoint WHERE size = $1", checkpoint.size)
    assert signed["root"] == checkpoint.root
    rows = await aged.sql(
        "SELECT index, leaf, sealed FROM audit_leaf JOIN audit_record USING (action_id, phase) WHERE index >= $1 AND "
        "index < $2 ORDER BY index",
        archive.head.first,
        archive.head.end,
    )
    kept = list(archive.records())
    assert [(one.index, one.leaf) for one in kept] == [(row["index"], row["leaf"]) for row in rows]
    sealed = [None if row["sealed"] is None else orjson.loads(row["sealed"]) for row in rows]
    assert [one.sealed for one in kept] == sealed
    assert any(sealed)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir()))
    opened, closed = await aged.records("admin_archive_audit_partition")
    assert (opened["phase"], closed["phase"], closed["result"]) == ("opened", "closed", "succeeded")
    sent = {"records": len(kept), "last": archive.head.end - 1}
    assert closed["changes"][-1] == {"field": "sent", "old": None, "new": sent}


def _lines(folder: Path, name: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a file, and let the manifest speak of it as it is then."""
    lines = change((folder / name).read_bytes().splitlines(keepends=True))
    (folder / name).write_bytes(b"".join(lines))
    digest = sha256(b"".join(lines)).hexdigest()
    _manifest(
        folder,
        lambda told: {"files": [{**one, "sha256": digest} if one["name"] == name else one for one in told["files"]]},
    )


def _manifest(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    told = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**told, **change(told)}))


def a_byte(folder: Path) -> None:
    content = (folder / LEAVES).read_bytes()
    (folder / LEAVES).write_bytes(content.replace(b"2020", b"2021", 1))


def a_byte_and_the_manifest(folder: Path) -> None:
    _lines(folder, LEAVES, lambda lines: [lines[0].replace(b"2020", b"2021", 1), *lines[1:]])


def the_end_cut_off(folder: Path) -> None:
    _lines(folder, LEAVES, lambda lines: lines[:-1])


def less_of_it(folder: Path) -> None:
    the_end_cut_off(folder)
    _manifest(folder, lambda told: {"end": told["end"] - 1})


def in_another_order(folder: Path) -> None:
    _lines(folder, LEAVES, lambda lines: [lines[1], lines[0], *lines[2:]])


def a_hash_in_the_place_of_a_record(folder: Path) -> None:
    def hidden(line: bytes) -> bytes:
        return b'"%b"\n' % leaf_hash(line.removesuffix(b"\n")).hex().encode()

    _lines(folder, LEAVES, lambda lines: [hidden(lines[0]), *lines[1:]])


def no_hash_and_no_record(folder: Path) -> None:
    _lines(folder, LEAVES, lambda lines: [b'"f00"\n', *lines[1:]])


def somebody_elses_signature(folder: Path) -> None:
    dash = "\N{EM DASH} "
    _manifest(folder, lambda told: {"checkpoint": told["checkpoint"].replace(dash + told["origin"], dash + "somebody")})


def a_signature_of_something_else(folder: Path) -> None:
    def larger(note: str) -> str:
        origin, size, rest = note.split("\n", 2)
        return f"{origin}\n{int(size) + 1}\n{rest}"

    _manifest(folder, lambda told: {"checkpoint": larger(told["checkpoint"])})


def nothing_before(folder: Path) -> None:
    _manifest(folder, lambda told: {"before": told["before"][1:]})


def no_sealed_parts(folder: Path) -> None:
    _lines(folder, SEALED, lambda lines: [])


def another_sealed_part(folder: Path) -> None:
    def other(line: bytes) -> bytes:
        told = json.loads(line)
        return json.dumps({**told, "sealed": dict.fromkeys(told["sealed"], "AAAA")}).encode() + b"\n"

    _lines(folder, SEALED, lambda lines: [other(line) for line in lines])


def no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def no_manifest_of_ours(folder: Path) -> None:
    (folder / MANIFEST).write_text("[]")


def of_another_format(folder: Path) -> None:
    _manifest(folder, lambda told: {"format": 2})


def a_file_elsewhere(folder: Path) -> None:
    _manifest(folder, lambda told: {"files": [told["files"][0], {**told["files"][1], "name": "../records.jsonl"}]})


TAMPERINGS = {
    a_byte: "not the file",
    a_byte_and_the_manifest: "do not lead to the root",
    the_end_cut_off: "ends at index",
    less_of_it: "do not lead to the root|lie from",
    in_another_order: "do not lead to the root",
    a_hash_in_the_place_of_a_record: "is not in the archive",
    no_hash_and_no_record: "neither a record nor its hash",
    somebody_elses_signature: "signed by no key",
    a_signature_of_something_else: "does not hold",
    nothing_before: "before the first index",
    no_sealed_parts: "what is sealed",
    another_sealed_part: "what is sealed",
    no_manifest: "cannot be read",
    no_manifest_of_ours: "no manifest",
    of_another_format: "format 1",
    a_file_elsewhere: "no file beside it",
}


async def test_an_archive_that_is_not_what_the_log_says_drops_nothing(aged: World, tmp_path: Path) -> None:
    whole = await archived(aged, tmp_path / "whole")
    for tamper, said in TAMPERINGS.items():
        folder = tmp_path / tamper.__name__
        shutil.copytree(whole, folder)
        tamper(folder)
        with pytest.raises(Conflict, match=said) as refused:
            await drop(aged, folder)
        assert refused.value.reason == "archive-differs", tamper.__name__
        assert await is_there(aged), tamper.__name__
    assert await aged.sql("SELECT FROM audit_archive") == []


async def test_an_archive_signed_by_a_key_of_the_log_that_the_log_never_made_drops_nothing(
    aged: World, tmp_path: Path
) -> None:
    """A history of one's own, signed with a stolen key: right in itself, and not what was kept."""
    folder = await archived(aged, tmp_path / "february")
    await aged.sql("ALTER TABLE audit_checkpoint DISABLE TRIGGER append_only")
    await aged.sql("UPDATE audit_checkpoint SET root = sha256('elsewhere')")
    with pytest.raises(Conflict, match="not one of those"):
        await drop(aged, folder)
    assert await is_there(aged)


async def test_a_record_that_was_altered_in_the_database_keeps_the_part(aged: World, tmp_path: Path) -> None:
    """It is evidence: the archive holds what was numbered, and the database something else."""
    folder = await archived(aged, tmp_path / "february")
    await aged.sql("ALTER TABLE audit_record_2020_02 DISABLE TRIGGER append_only")
    await aged.sql("UPDATE audit_record_2020_02 SET leaf = leaf || ' '::bytea WHERE action = 'user_user'")
    with pytest.raises(Conflict, match="is another one"):
        await drop(aged, folder)
    assert await is_there(aged)


async def test_the_archive_of_another_part_drops_nothing(aged: World, tmp_path: Path) -> None:
    await aged.sql("SELECT add_audit_partition('2020-03-01')")
    connection = await asyncpg.connect(aged.urls.migrator)
    try:
        await write(connection, datetime(2020, 3, 1, tzinfo=UTC))
    finally:
        await connection.close()
    await aged.app.sequencer.catch_up()
    with pytest.raises(Conflict, match="lie from"):
        await drop(aged, await archived(aged, tmp_path / "march", "audit_record_2020_03"))
    assert await is_there(aged)
