"""What was made of the leaves is held to them, however right its checksum is: whoever can change a cell can write the
manifest anew."""

import csv
import io
import json
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet  # type: ignore[import-untyped]
import pytest

from audit import derived, export, export_csv, export_ocsf, export_parquet, verify
from tests.commands import invoke
from tests.tamper.exports import LOGGER, WITNESSER, export_of, made_up, trust
from tests.test_export_files import leaf

SHEETS = {"records.csv": export_csv.sheet, "ocsf.jsonl": export_ocsf.sheet, "records.parquet": export_parquet.sheet}
FIRST, END = 3, 17
Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return export_of(tmp_path / "export", 20, leaves=records(), first=FIRST, end=END, sheets=SHEETS)


def records() -> list[bytes]:
    """Among them one whose cells could be taken for formulas, and lines, and quotes."""
    awkward = leaf(7, action='=1+1,"x"\r\ny', principal={"kind": "user", "name": 'a "b"\n,c', "credential": None})
    return [awkward if place == 7 else leaf(place) for place in range(20)]


def signed_anew(folder: Path) -> None:
    """Let the manifest speak of the files as they are now."""
    told = json.loads((folder / "manifest.json").read_text())
    for file in told["files"]:
        content = (folder / file["name"]).read_bytes()
        file |= {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(told))


def compared(folder: Path) -> dict[str, str]:
    verify.export(folder, trust(LOGGER, WITNESSER))
    return derived.compare(folder, lambda done, total: None)


def wrong(folder: Path) -> str:
    """What is said of an export whose leaves are right and whose checksums are, too."""
    signed_anew(folder)
    with pytest.raises(verify.Wrong) as found:
        compared(folder)
    return str(found.value)


def test_what_was_made_of_the_leaves_is_what_they_say(folder: Path) -> None:
    assert compared(folder) == {
        "records.csv": "14 rows, each of them what its leaf says",
        "ocsf.jsonl": "14 events, each of them what its leaf says",
        "records.parquet": "14 rows, each of them what its leaf says",
    }


def rows(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))


def write(path: Path, changed: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(changed)
    path.write_bytes(text.getvalue().encode())


@pytest.mark.parametrize("column", export_csv.HEADER)
def test_a_changed_cell_is_found_and_named_by_its_row(column: str, folder: Path) -> None:
    path = folder / "records.csv"
    told, place = rows(path), export_csv.HEADER.index(column)
    told[5][place] += "9"
    write(path, told)
    said = wrong(folder)
    assert said.startswith(f"records.csv, row 6 (index 7), `{column}`: it says ")
    assert repr(told[5][place])[:40] in said


def _without(path: Path, row: int) -> None:
    write(path, [*rows(path)[:row], *rows(path)[row + 1 :]])


def _twice(path: Path, row: int) -> None:
    write(path, [*rows(path), rows(path)[row]])


def _swapped(path: Path) -> None:
    told = rows(path)
    told[2], told[3] = told[3], told[2]
    write(path, told)


def _with_one_cell_more(path: Path) -> None:
    told = rows(path)
    told[2].append("")
    write(path, told)


CSV: dict[str, tuple[Change, str]] = {
    "the last row is gone": (lambda path: _without(path, 14), "row 15: it is missing, that of index 16"),
    "a row is gone": (lambda path: _without(path, 4), "row 5 (index 6), `index`: it says '7', and the leaf '6'"),
    "a row too many": (lambda path: _twice(path, 14), "row 16: there is no leaf for it"),
    "two rows swapped": (_swapped, "row 3 (index 4), `index`: it says '5'"),
    "a cell too many": (_with_one_cell_more, "row 3: it has 36 cells, and not 35"),
    "another heading": (lambda path: write(path, [["a"], *rows(path)[1:]]), "row 1: its columns are not those"),
    "nothing": (lambda path: path.write_bytes(b""), "row 1: its columns are not those of the table, but []"),
    "quotes that never end": (lambda path: path.write_bytes(path.read_bytes() + b'"'), "it is no CSV"),
    "no text": (lambda path: path.write_bytes(path.read_bytes() + b"\xff"), "can't decode byte 0xff"),
}


@pytest.mark.parametrize("how", CSV)
def test_a_table_is_all_of_the_leaves_and_nothing_else(how: str, folder: Path) -> None:
    change, said = CSV[how]
    change(folder / "records.csv")
    told = wrong(folder)
    assert told.startswith("records.csv")
    assert said in told


def amended(path: Path, line: int, change: Callable[[bytes], bytes]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = change(lines[line])
    path.write_bytes(b"".join(lines))


OCSF: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a status": (lambda line: line.replace(b'"status_id":1', b'"status_id":2'), "(index 5), `status_id`: it says 2"),
    "the leaf": (lambda line: line.replace(b"Night shift", b"Day shift"), "(index 5), `"),
    "a word more": (lambda line: b'{"x":1,' + line[1:], "`x`: it says 1, and the leaf nothing"),
    "the same in other words": (lambda line: line.replace(b":", b": ", 1), "it is not written as an export writes it"),
    "no JSON": (lambda line: b"{\n", "it is no event"),
    "no event": (lambda line: b"[]\n", "it is not written as an export writes it"),
}


@pytest.mark.parametrize("how", OCSF)
def test_a_changed_event_is_found_and_named_by_its_line(how: str, folder: Path) -> None:
    change, said = OCSF[how]
    amended(folder / "ocsf.jsonl", 2, change)
    told = wrong(folder)
    assert told.startswith("ocsf.jsonl, line 3 (index 5)")
    assert said in told


def test_an_event_too_many_or_too_few_is_found(folder: Path) -> None:
    path = folder / "ocsf.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[-1]]))
    assert wrong(folder) == "ocsf.jsonl, line 15: there is no leaf for it"
    path.write_bytes(b"".join(lines[:-1]))
    assert wrong(folder) == "ocsf.jsonl, line 14 (index 16): it is missing"


def parquet(path: Path, change: Callable[[dict[str, list[Any]]], object]) -> None:
    table = pyarrow.parquet.read_table(path)
    told = table.to_pydict()
    change(told)
    schema = table.schema if list(told) == table.schema.names else None
    pyarrow.parquet.write_table(pyarrow.Table.from_pydict(told, schema=schema), path)


def _last_row_gone(told: dict[str, list[Any]]) -> None:
    for cells in told.values():
        cells.pop()


PARQUET: dict[str, tuple[Change, str]] = {
    "a number": (
        lambda path: parquet(path, lambda told: told["duration_us"].__setitem__(4, 1)),
        "row 5 (index 7), `duration_us`: it says 1, and the leaf 4892",
    ),
    "a name": (
        lambda path: parquet(path, lambda told: told["roles"].__setitem__(0, ["a"])),
        "row 1 (index 3), `roles`: it says ['a'], and the leaf ['a', 'b']",
    ),
    "a row": (lambda path: parquet(path, _last_row_gone), "row 14: it is missing, that of index 16"),
    "a column": (lambda path: parquet(path, lambda told: told.pop("rule")), "its columns are not those of the table"),
    "all": (lambda path: path.write_bytes(b"PAR1"), "it is no Parquet"),
}


@pytest.mark.parametrize("how", PARQUET)
def test_a_typed_table_is_held_to_the_leaves_too(how: str, folder: Path) -> None:
    change, said = PARQUET[how]
    change(folder / "records.parquet")
    told = wrong(folder)
    assert told.startswith("records.parquet")
    assert said in told


def test_without_the_library_a_typed_table_is_said_not_to_be_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "not compared with the records" in compared(folder)["records.parquet"]


def test_what_was_dropped_has_its_hash_in_a_table_and_no_event(tmp_path: Path) -> None:
    folder = export_of(tmp_path / "export", 20, leaves=records(), dropped=(4, 5), sheets=SHEETS)
    verify.export(folder, trust(LOGGER, WITNESSER), dropped=[range(4, 6)])
    assert [said.split()[0] for said in derived.compare(folder, lambda *_: None).values()] == ["20", "18", "20"]
    told = rows(folder / "records.csv")
    told[5][3] = "admin_purge_user"
    write(folder / "records.csv", told)
    signed_anew(folder)
    with pytest.raises(verify.Wrong, match=r"row 6 \(index 4\), `id`: it says 'admin_purge_user', and the leaf ''"):
        derived.compare(folder, lambda *_: None)


BOXES = {5: {"p1": "AAAA"}, 9: {"p1": "AAAA", "p2": "BBBB"}}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    promised = {at: [{"subject": who, "commitment": "00"} for who in people] for at, people in BOXES.items()}
    leaves = [leaf(place, sealed=promised.get(place, [])) for place in range(20)]
    return export_of(
        tmp_path / "export",
        20,
        leaves=leaves,
        first=FIRST,
        end=END,
        boxes=BOXES,
        sheets={"sealed.jsonl": export.sealed_parts},
    )


SEALED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "of another record": (lambda line: line.replace(b":9", b":8"), "line 2 (index 9): it is (8, "),
    "of somebody else": (lambda line: line.replace(b"p2", b"p3"), "line 2 (index 9): it is (9, ['p1', 'p3'])"),
    "nothing": (lambda line: b"", "line 2 (index 9): it is no sealed part of a record"),
    "twice": (lambda line: line + line, "line 3: there is no leaf for it"),
}


@pytest.mark.parametrize("how", SEALED)
def test_a_sealed_part_is_of_the_record_and_of_whom_its_leaf_speaks(how: str, sealed: Path) -> None:
    assert compared(sealed) == {"sealed.jsonl": "2 lines, each of the record and the people that its leaf speaks of"}
    change, said = SEALED[how]
    amended(sealed / "sealed.jsonl", 1, change)
    assert wrong(sealed).startswith(f"sealed.jsonl, {said}")


def test_the_command_says_what_it_compared_and_names_the_row(folder: Path) -> None:
    arguments = ("audit", "verify", str(folder), "--key", str(LOGGER.verifier))
    done = invoke(*arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "records.csv: 14 rows, each of them what its leaf says" in done.stdout
    assert "not compared" not in done.stdout
    told = rows(folder / "records.csv")
    told[1][3] = "\x1b[31mred"
    write(folder / "records.csv", told)
    signed_anew(folder)
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("chamberlain: records.csv, row 2 (index 3), `id`: it says ")
    assert "\x1b" not in done.stderr


def test_a_file_that_nobody_knows_is_said_not_to_be_compared(tmp_path: Path) -> None:
    folder = export_of(tmp_path / "export", 5, leaves=made_up(5), also={"note.txt": b"hello"})
    done = invoke("audit", "verify", str(folder), "--key", str(LOGGER.verifier))
    assert done.exit_code == 0
    assert "NOT COMPARED with the records, and proven by nothing: note.txt" in done.stdout


def test_a_long_leaf_is_compared_too(tmp_path: Path) -> None:
    leaves = [leaf(0, note="long " * 50_000)]
    folder = export_of(tmp_path / "export", 1, leaves=leaves, sheets={"records.csv": export_csv.sheet})
    assert compared(folder) == {"records.csv": "1 rows, each of them what its leaf says"}


def test_a_leaf_that_no_event_can_be_made_of_is_told(tmp_path: Path) -> None:
    folder = export_of(tmp_path / "export", 1, leaves=[leaf(0, principal={})], also={"events.ocsf": b""})
    with pytest.raises(verify.Wrong, match=r"^events\.ocsf: entry 0 is no record that this log wrote"):
        compared(folder)
