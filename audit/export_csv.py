"""The log as CSV (RFC 4180, UTF-8): a row for each leaf, the leaf's own text in the last cell.

Whoever opens it in a spreadsheet runs no formula that a caller smuggled into the log: a cell that could begin one has
an apostrophe before it. A leaf begins with a brace and needs none, so its text is exact.
"""

import csv
from datetime import datetime

from audit.export import Entry, HashedFile, Range, Sheet
from audit.export_flat import COLUMNS, NUMBERED, WHOLE, value

HEADER = [*NUMBERED, *(column.name for column in COLUMNS), WHOLE]
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class _Text:
    """A file that takes texts."""

    def __init__(self, file: HashedFile) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


class CsvSheet:
    name, kind = "records.csv", "csv"

    def __init__(self, file: HashedFile) -> None:
        self._rows = csv.writer(_Text(file), lineterminator="\r\n")
        self._rows.writerow(HEADER)

    def add(self, entry: Entry) -> bool:
        self._rows.writerow(row(entry))
        return True

    def finish(self) -> None: ...


def sheet(file: HashedFile, _: Range) -> Sheet:
    return CsvSheet(file)


def row(entry: Entry) -> list[str]:
    """The cells of a leaf, as they are read. Raises ``ExportBroken``."""
    cells = (_cell(value(column, entry.told)) for column in COLUMNS)
    return [str(entry.index), entry.hash.hex(), *cells, "" if entry.leaf is None else entry.leaf.decode()]


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat()
        case list():
            text = " ".join(value)
        case _:
            text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
