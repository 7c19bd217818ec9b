"""The files of an export: exact, typed, harmless to open, whole or not there, and no burden on the memory."""

import csv
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import export_parquet
from audit.checkpoint import Checkpoint
from audit.export import Entry, ExportBroken, Folder, OpenSheet, Range
from audit.export_flat import COLUMNS
from audit.merkle import Edge, leaf_hash
from audit.note import Signer, signed
from audit.record import canonical
from server.cli.audit import writing as cli
from server.cli.audit.writing import _sheets
from server.cli.output import CannotRun, ExportFormat
from tests.commands import ROOT
from tests.exports import verified

ALL = tuple(ExportFormat)
AT = datetime(2026, 1, 31, 12, 0, 0, 123456, UTC)


def leaf(place: int, **more: object) -> bytes:
    return canonical(
        {
            "id": f"01a2062f-e864-7466-8cc7-{place:012x}",
            "phase": "done",
            "at": AT,
            "action": "domain_update_user",
            "entity": "user",
            "operation": "update",
            "result": "succeeded",
            "principal": {"kind": "user", "name": "user:01a2062f", "credential": "AKTEST"},
            "scope": {"type": "domain", "lineage": [{"type": "domain", "id": "d1"}]},
            "target": {"id": "t1", "lineage": [{"type": "user", "id": "t1"}, {"type": "domain", "id": "d1"}]},
            "decision": {"allowed": True, "rule": "domain.csv:3", "policy": "0" * 64, "roles": ["a", "b"]},
            "uses": [],
            "changes": [{"field": "description", "old": "", "new": "Night shift"}],
            "request": {"id": "r1", "surface": "rest"},
            "duration_us": 4892,
            "salt": "00" * 16,
            "sealed": [],
            "v": 1,
            **more,
        }
    )


def range_of(leaves: Sequence[bytes | None], hashes: Sequence[bytes]) -> Range:
    edge = Edge()
    for hashed in hashes:
        edge.add(hashed)
    signer = Signer("log.example", Ed25519PrivateKey.generate())
    note = str(signed(Checkpoint("log.example", len(leaves), edge.root()).text(), [signer]))
    return Range("log.example", 0, len(leaves), note, (), (), (note,), (str(signer.verifier),))


def written(
    to: Path, leaves: Sequence[bytes | None], sheets: Mapping[str, OpenSheet] | None = None, dropped: bytes = b"?" * 32
) -> dict[str, Any]:
    hashes = [dropped if one is None else leaf_hash(one) for one in leaves]
    with Folder(to, _sheets(ALL, sealed=True) if sheets is None else sheets) as folder:
        folder.begin(range_of(leaves, hashes))
        for index, (hashed, one) in enumerate(zip(hashes, leaves, strict=True)):
            folder.add(Entry(index, hashed, one, {"someone": "AAAA"} if index == 1 else None))
        folder.finish({"first": 0})
    return verified(to)


LEAVES: tuple[bytes | None, ...] = (
    leaf(0),
    leaf(1, result="denied", error={"status": 403, "reason": "forbidden", "cause": "no rule allows it"}),
    None,
    leaf(3, target={"id": '=HYPERLINK("x")', "lineage": None}, batch={"mode": "atomic", "items": 2}),
    leaf(4, request={"id": "+1\r\n@x", "surface": "-1"}, decision=None, scope=None),
    canonical({"id": "x", "phase": "done", "at": "soon", "action": "\t=1", "result": [], "principal": 3, "v": 1}),
)
WITHOUT_OCSF = tuple(form for form in ALL if form is not ExportFormat.OCSF)


def test_every_file_is_tied_to_the_manifest_and_the_leaves_are_exact(tmp_path: Path) -> None:
    manifest = written(tmp_path / "all", LEAVES[:5])
    lines = (tmp_path / "all" / "records.jsonl").read_bytes().splitlines()
    assert [line for line in lines if line[:1] == b"{"] == [one for one in LEAVES[:5] if one is not None]
    assert lines[2] == b'"%s"' % (b"3f" * 32)
    assert (tmp_path / "all" / "sealed.jsonl").read_bytes() == b'{"index":1,"sealed":{"someone":"AAAA"}}\n'
    assert manifest["asked"] == {"first": 0}
    described = {file["name"]: (file["kind"], file["records"]) for file in manifest["files"]}
    assert described == {
        "records.jsonl": ("leaves", 5),
        "hashes.bin": ("hashes", 5),
        "sealed.jsonl": ("sealed", 1),
        "records.csv": ("csv", 5),
        "records.parquet": ("parquet", 5),
        "ocsf.jsonl": ("ocsf", 4),
    }


def test_the_csv_has_a_column_for_what_is_regular_and_the_exact_leaf_in_the_last(tmp_path: Path) -> None:
    written(tmp_path / "all", LEAVES, _sheets(WITHOUT_OCSF, sealed=False))
    with (tmp_path / "all" / "records.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "leaf_hash", *(column.name for column in COLUMNS), "leaf"]
    assert [row["leaf"].encode() or None for row in rows] == list(LEAVES)
    assert [row["index"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    first, denied, dropped, batch, _, strange = rows
    assert (first["at"], first["target_domain"]) == ("2026-01-31T12:00:00.123456+00:00", "d1")
    assert (first["allowed"], first["roles"], first["duration_us"]) == ("true", "a b", "4892")
    assert json.loads(first["changes"]) == [{"field": "description", "old": "", "new": "Night shift"}]
    assert (denied["error_status"], denied["error_reason"]) == ("403", "forbidden")
    assert {value for name, value in dropped.items() if name not in ("index", "leaf_hash")} == {""}
    assert json.loads(batch["more"]) == {"batch": {"mode": "atomic", "items": 2}}
    assert (strange["at"], strange["principal"]) == ("", "")


def test_no_cell_of_the_csv_begins_a_formula(tmp_path: Path) -> None:
    written(tmp_path / "all", LEAVES, _sheets(WITHOUT_OCSF, sealed=False))
    with (tmp_path / "all" / "records.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if re.match(r"[=+\-@\t\r\n]", cell)]
    assert {'\'=HYPERLINK("x")', "'+1\r\n@x", "'-1", "'\t=1"} <= set(cells)


def test_the_parquet_has_types_and_the_exact_leaves_and_groups_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_parquet, "ROWS", 4)
    written(tmp_path / "all", LEAVES, _sheets(WITHOUT_OCSF, sealed=False))
    file = pyarrow.parquet.ParquetFile(tmp_path / "all" / "records.parquet")
    assert file.metadata.num_row_groups == 2
    table = file.read()
    assert table["leaf"].to_pylist() == list(LEAVES)
    assert table["index"].to_pylist() == list(range(6))
    assert table["leaf_hash"].to_pylist() == [b"?" * 32 if one is None else leaf_hash(one) for one in LEAVES]
    types = {field.name: str(field.type) for field in table.schema}
    assert types["at"] == "timestamp[us, tz=UTC]"
    assert (types["allowed"], types["duration_us"], types["index"]) == ("bool", "int64", "int64")
    assert table["at"].to_pylist() == [AT, AT, None, AT, AT, None]
    assert table["allowed"].to_pylist() == [True, True, None, True, None, None]
    assert table["roles"][0].as_py() == ["a", "b"]
    assert table["error_status"].to_pylist() == [None, 403, None, None, None, None]


def test_without_pyarrow_a_sentence_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(CannotRun, match=r"pip install 'chamberlain\[parquet\]'"):
        _sheets(ALL, sealed=False)


def test_an_export_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    class Stopped(Exception): ...

    def half() -> None:
        hashes = [leaf_hash(leaf(0)), leaf_hash(leaf(1))]
        with Folder(tmp_path / "half", _sheets(ALL, sealed=True)) as folder:
            folder.begin(range_of([leaf(0), leaf(1)], hashes))
            folder.add(Entry(0, hashes[0], leaf(0)))
            assert (tmp_path / "half.part").is_dir()
            assert not (tmp_path / "half").exists()
            raise Stopped

    with pytest.raises(Stopped):
        half()
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_not_all_there_gets_no_manifest(tmp_path: Path) -> None:
    def half() -> None:
        hashes = [leaf_hash(leaf(0)), leaf_hash(leaf(1))]
        with Folder(tmp_path / "half", _sheets(ALL, sealed=True)) as folder:
            folder.begin(range_of([leaf(0), leaf(1)], hashes))
            folder.add(Entry(0, hashes[0], leaf(0)))
            folder.finish({})

    with pytest.raises(ExportBroken, match="the log ended at entry 1"):
        half()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ExportBroken, match="is there already"):
        written(tmp_path / "there", LEAVES[:1])
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ExportBroken, match="is there already"):
        written(tmp_path / "link", LEAVES[:1])
    (tmp_path / "new.part").mkdir()
    (tmp_path / "new.part" / "kept").touch()
    with pytest.raises(ExportBroken, match=r"new\.part is what an export left that broke off"):
        written(tmp_path / "new", LEAVES[:1])
    assert (tmp_path / "new.part" / "kept").exists()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b'{"a":\n1}', "entry 1 is no record that this log wrote: it has a line feed in it"),
        (b"[1]", "entry 1 is no record that this log wrote: it is no JSON object"),
        (b"{", "entry 1 is no record that this log wrote: it is no JSON object"),
        (b"{}", "entry 1 is no record that this log wrote"),
    ],
)
def test_what_is_no_record_is_named_and_not_exported(bad: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(ExportBroken, match=f"{why}$"):
        written(tmp_path / "bad", [leaf(0), bad])
    assert list(tmp_path.iterdir()) == []


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    written(tmp_path / "all", LEAVES[:2])
    assert (tmp_path / "all").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "all").iterdir()} == {0o600}


def test_an_entry_that_is_not_the_next_one_and_an_end_without_a_beginning_are_refused(tmp_path: Path) -> None:
    hashes = [leaf_hash(leaf(0)), leaf_hash(leaf(1))]

    def out_of_order() -> None:
        with Folder(tmp_path / "half", _sheets((), sealed=False)) as folder:
            folder.begin(range_of([leaf(0), leaf(1)], hashes))
            folder.add(Entry(1, hashes[1], leaf(1)))

    def without_a_range() -> None:
        with Folder(tmp_path / "half", _sheets((), sealed=False)) as folder:
            folder.finish({})

    for broken, why in ((out_of_order, "the log has no entry 0"), (without_a_range, "the log ended at entry 0")):
        with pytest.raises(ExportBroken, match=why):
            broken()
        assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_range() -> None:
    """The peak is told after ten thousand records and after fifty thousand, of a process that does nothing else."""
    done = subprocess.run([sys.executable, "-m", "tests.test_export_files"], cwd=ROOT, capture_output=True, check=True)
    early, late = (int(line) for line in done.stdout.split())
    assert late - early < 8 * 1024, f"{late - early} KiB more"


def _parts(number: int) -> Iterator[Any]:
    from tests.exports import part

    for first in range(0, number, 500):
        leaves = [leaf(place) for place in range(first, first + 500)]
        entries = [
            {"index": index, "hash": leaf_hash(one).hex(), "leaf": one.decode(), "sealed": {"someone": "A" * 100}}
            for index, one in enumerate(leaves, start=first)
        ]
        told = None
        if not first:
            told = {
                "origin": "log.example",
                "first": 0,
                "end": number,
                "checkpoint": range_of([], []).checkpoint,
                "before": [],
                "consistency": [],
                "checkpoints": [],
                "keys": [],
            }
        yield part(range=told, entries=entries, next=first + 500 if first + 500 < number else None)


def _measure(to: Path) -> None:
    number, formats = 50_000, ALL
    with cli.written(to, {"sealed": True}, formats) as writing:
        for count, one in enumerate(_parts(number), start=1):
            writing.take(one)
            if count in (20, 100):
                sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")
    assert len(sha256((to / "ocsf.jsonl").read_bytes()).digest()) == 32


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder) / "export")
