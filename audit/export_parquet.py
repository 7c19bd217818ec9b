"""The log as Parquet: typed columns, in groups of rows that are written as they fill.

It needs pyarrow, which comes with the extra ``parquet`` and is loaded only here.
"""

from typing import Any

from audit.export import Entry, ExportBroken, HashedFile, Range, Sheet
from audit.export_flat import COLUMNS, NUMBERED, WHOLE, Type, value

ROWS = 5000
"""In one group: what is held in memory."""


def sheet(file: HashedFile, _: Range) -> Sheet:
    return ParquetSheet(file)


def require() -> None:
    """Raises ``ExportBroken`` where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        raise ExportBroken(
            "Parquet is written by pyarrow, which is not installed: add the extra `parquet`, as in "
            "pip install 'chamberlain[parquet]'"
        ) from None


class ParquetSheet:
    name, kind = "records.parquet", "parquet"

    def __init__(self, file: HashedFile) -> None:
        import pyarrow
        import pyarrow.parquet

        types = {
            Type.NUMBER: pyarrow.int64(),
            Type.TIME: pyarrow.timestamp("us", tz="UTC"),
            Type.TEXT: pyarrow.string(),
            Type.TRUTH: pyarrow.bool_(),
            Type.NAMES: pyarrow.list_(pyarrow.string()),
            Type.JSON: pyarrow.string(),
        }
        index, leaf_hash = NUMBERED
        self._schema = pyarrow.schema(
            [
                pyarrow.field(index, pyarrow.int64(), nullable=False),
                pyarrow.field(leaf_hash, pyarrow.binary(32), nullable=False),
                *(pyarrow.field(column.name, types[column.type]) for column in COLUMNS),
                pyarrow.field(WHOLE, pyarrow.binary()),
            ]
        )
        self._batch = pyarrow.record_batch
        self._array = pyarrow.array
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._cells: list[list[Any]] = [[] for _ in self._schema]

    def add(self, entry: Entry) -> bool:
        row = (entry.index, entry.hash, *(value(column, entry.told) for column in COLUMNS), entry.leaf)
        for cells, cell in zip(self._cells, row, strict=True):
            cells.append(cell)
        if len(self._cells[0]) >= ROWS:
            self._write()
        return True

    def finish(self) -> None:
        if self._cells[0]:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        arrays = [self._array(cells, type=field.type) for cells, field in zip(self._cells, self._schema, strict=True)]
        self._writer.write_batch(self._batch(arrays, schema=self._schema))
        self._cells = [[] for _ in self._schema]
