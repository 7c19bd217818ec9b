"""The files of an export that were made of its leaves, held to the leaves once more: whether every row of a table,
every event and every sealed part is what the leaf at its index says.

``audit.verify`` has checked the leaves before; what they tell is worked out anew here, by what writes an export.
Memory does not grow with it.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import orjson

from audit.export import Entry, ExportBroken
from audit.export_csv import HEADER, row
from audit.export_flat import COLUMNS, NUMBERED, WHOLE, value
from audit.export_ocsf import event_line, tied_to
from audit.merkle import leaf_hash
from audit.verify import LONGEST, Wrong

_SHOWN = 60
_EVENT = 8 * LONGEST
"""Bytes of an event, in which a leaf stands escaped."""
_BATCH = 1000
Progress = Callable[[int, int], object]
Entries = Iterator[Entry]
Check = Callable[[Path, Entries], str]


def compare(folder: Path, progress: Progress) -> dict[str, str]:
    """Hold all that can be held to the leaves of an export that has been verified: what holds of each file, by its
    name. Raises ``Wrong`` at the first row that is not what its leaf says."""
    told = json.loads((folder / "manifest.json").read_bytes())
    leaves = next(file for file in reversed(told["files"]) if file["kind"] == "leaves")
    ocsf = partial(_ocsf, checkpoint=told["checkpoint"])
    checks: Mapping[str, Check] = {"csv": _csv, "ocsf": ocsf, "parquet": _parquet, "sealed": _sealed}
    said = {}
    for file in told["files"]:
        if (check := checks.get(file["kind"])) is not None:
            path = folder / Path(file["name"]).name
            entries = _entries(folder / Path(leaves["name"]).name, told["first"], told["end"], progress)
            try:
                said[path.name] = check(path, entries)
            except (ExportBroken, UnicodeDecodeError) as error:
                raise Wrong(f"{path.name}: {error}") from None
    return said


def _entries(path: Path, first: int, end: int, progress: Progress) -> Entries:
    with path.open("rb") as lines:
        for index, line in enumerate(lines, first):
            leaf = line.removesuffix(b"\n")
            if leaf[:1] == b'"':
                yield Entry(index, bytes.fromhex(leaf[1:-1].decode()), None)
            else:
                yield Entry(index, leaf_hash(leaf), leaf)
            progress(index + 1 - first, end - first)


# -- tables ------------------------------------------------------------------------------------------------------------


def _csv(path: Path, entries: Entries) -> str:
    csv.field_size_limit(LONGEST)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            if (found := next(reader, [])) != HEADER:
                raise Wrong(f"{path.name}, row 1: its columns are not those of the table, but {_shown(found)}")
            return _rows(path.name, HEADER, reader, (row(entry) for entry in entries), below=2)
        except csv.Error as error:
            raise Wrong(f"{path.name}, line {reader.line_num}: it is no CSV: {error}") from None


def _parquet(path: Path, entries: Entries) -> str:
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        return "not compared with the records, since pyarrow is not installed (the extra `parquet`)"
    names = [*NUMBERED, *(column.name for column in COLUMNS), WHOLE]
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if (found := file.schema_arrow.names) != names:
                raise Wrong(f"{path.name}: its columns are not those of the table, but {_shown(found)}")
            batches = file.iter_batches(batch_size=_BATCH)
            rows = (list(told.values()) for batch in batches for told in batch.to_pylist())
            return _rows(path.name, names, rows, (_typed(entry) for entry in entries), below=1)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise Wrong(f"{path.name}: it is no Parquet: {error}") from None


def _typed(entry: Entry) -> list[Any]:
    return [entry.index, entry.hash, *(value(column, entry.told) for column in COLUMNS), entry.leaf]


def _rows(
    name: str, columns: Sequence[str], rows: Iterator[Sequence[Any]], leaves: Iterator[Sequence[Any]], below: int
) -> str:
    """``below``: the number of the first row."""
    number = below
    for number, (found, told) in enumerate(zip_longest(rows, leaves), below):
        if told is None:
            raise Wrong(f"{name}, row {number}: there is no leaf for it")
        if found is None:
            raise Wrong(f"{name}, row {number}: it is missing, that of index {told[0]}")
        if len(found) != len(columns):
            raise Wrong(f"{name}, row {number}: it has {len(found)} cells, and not {len(columns)}")
        for column, cell, said in zip(columns, found, told, strict=True):
            if cell != said:
                which = f"{name}, row {number} (index {told[0]}), `{column}`"
                raise Wrong(f"{which}: it says {_shown(cell)}, and the leaf {_shown(said)}")
    return f"{number + 1 - below} rows, each of them what its leaf says"


# -- events ------------------------------------------------------------------------------------------------------------


def _ocsf(path: Path, entries: Entries, checkpoint: str) -> str:
    tied, number = tied_to(checkpoint), 0
    with path.open("rb") as lines:
        for entry in entries:
            expected = event_line(entry, tied)
            if expected is None:
                continue
            number += 1
            found = lines.readline(_EVENT)
            if found != expected:
                where = f"{path.name}, line {number} (index {entry.index})"
                raise Wrong(f"{where}{_difference(found, expected)}")
        if lines.read(1):
            raise Wrong(f"{path.name}, line {number + 1}: there is no leaf for it")
    return f"{number} events, each of them what its leaf says"


def _difference(found: bytes, expected: bytes) -> str:
    if not found:
        return ": it is missing"
    try:
        told, said = orjson.loads(found), orjson.loads(expected)
    except ValueError:
        return ": it is no event"
    names = [name for name in {**said, **told} if told.get(name) != said.get(name)] if isinstance(told, dict) else []
    if not names:
        return ": it is not written as an export writes it"
    return f", `{names[0]}`: it says {_shown(told.get(names[0]))}, and the leaf {_shown(said.get(names[0]))}"


# -- sealed parts ------------------------------------------------------------------------------------------------------


def _sealed(path: Path, entries: Entries) -> str:
    """Whose parts are there. What is in them the leaf commits to, for whoever has the person's key."""
    number = 0
    with path.open("rb") as lines:
        for entry in entries:
            people = sorted(one["subject"] for one in entry.told.get("sealed", ()))
            if not people:
                continue
            number += 1
            where = f"{path.name}, line {number} (index {entry.index})"
            try:
                told = orjson.loads(lines.readline(_EVENT))
                found = (told["index"], sorted(told["sealed"]))
            except (ValueError, KeyError, TypeError):
                raise Wrong(f"{where}: it is no sealed part of a record") from None
            if found != (entry.index, people):
                raise Wrong(f"{where}: it is {_shown(found)}, and the leaf speaks of {_shown((entry.index, people))}")
        if lines.read(1):
            raise Wrong(f"{path.name}, line {number + 1}: there is no leaf for it")
    return f"{number} lines, each of the record and the people that its leaf speaks of"


def _shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
