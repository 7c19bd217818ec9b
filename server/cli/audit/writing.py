"""A range of the log on its way into a folder that can be verified elsewhere."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from actions.entities.audit_export import SPECS, ExportPart
from audit import export_csv, export_ocsf, export_parquet
from audit.checkpoint import Checkpoint
from audit.export import Entry, ExportBroken, Folder, OpenSheet, Range, hashes, leaves, sealed_parts
from audit.note import Note
from server.cli.local import run, stream
from server.cli.output import CannotRun, ExportFormat, Refused
from server.cli.policy.logs import time_span
from server.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress


def asked(
    first: int | None, end: int | None, since: str | None, until: str | None, *, sealed: bool
) -> dict[str, object]:
    """The question, as the action takes it; what is None is not asked. Raises ``CannotRun``."""
    begins, ends = time_span(since, until)
    if (begins or ends) and (first is not None or end is not None):
        raise CannotRun("a range is by index (--first, --end) or by time (--since, --until): name one of the two")
    told = {"first": first, "end": end, "since": begins, "until": ends, "sealed": sealed or None}
    return {name: value for name, value in told.items() if value is not None}


def export(settings: Settings, to: Path, question: Mapping[str, object], formats: Sequence[ExportFormat]) -> None:
    """Ask the server's own database. Raises ``CannotRun`` and ``Refused``."""
    with _written(to, question, formats) as writing:
        run(settings, lambda: stream(settings, SPECS[0], question, writing.take))
        writing.finish()
    writing.tell()


async def written_from(
    parts: AsyncIterator[ExportPart], to: Path, question: Mapping[str, object], formats: Sequence[ExportFormat]
) -> None:
    """The same from a server's answer, part by part. Raises ``CannotRun`` and ``Refused``."""
    with _written(to, question, formats) as writing:
        async for part in parts:
            if writing.take(part):
                break
        writing.finish()
    writing.tell()


class _Writing:
    """An export on its way into a folder; a bar on the terminal shows how far it has come."""

    def __init__(self, folder: Folder, asked: Mapping[str, object], progress: "Progress") -> None:
        self._folder = folder
        self._asked = asked
        self._progress = progress
        self._task = progress.add_task("waiting for a checkpoint", total=None)

    def take(self, part: ExportPart) -> bool:
        """Write a part; whether it was the last."""
        if part.range is not None:
            self._folder.begin(Range(**part.range.model_dump()))
            self._progress.update(self._task, description="writing", total=part.range.end - part.range.first)
        for entry in part.entries:
            leaf = None if entry.leaf is None else entry.leaf.encode()
            self._folder.add(Entry(entry.index, bytes.fromhex(entry.hash), leaf, entry.sealed))
        self._progress.update(self._task, completed=self._folder.written)
        return part.next is None

    def finish(self) -> None:
        self._folder.finish(self._asked)

    def tell(self) -> None:
        told = self._folder.range
        assert told is not None  # noqa: S101
        size = Checkpoint.of(Note.read(told.checkpoint)).size
        typer.echo(
            f"{self._folder.path}: {self._folder.written:,} records, {told.first} up to {told.end - 1}, "
            f"under the checkpoint of {size:,}"
        )


@contextmanager
def _written(to: Path, question: Mapping[str, object], formats: Sequence[ExportFormat]) -> Iterator[_Writing]:
    try:
        sheets = _sheets(formats, sealed=bool(question.get("sealed")))
        with Folder(to, sheets) as folder, _progress() as progress:
            yield _Writing(folder, {**question, "formats": sorted({*formats, ExportFormat.JSONL})}, progress)
    except ExportBroken as error:
        raise Refused(str(error)) from None
    except OSError as error:
        raise CannotRun(f"{to} cannot be written: {error.strerror or error}") from None


def _sheets(formats: Sequence[ExportFormat], *, sealed: bool) -> dict[str, OpenSheet]:
    """The files of an export, by name. Raises ``CannotRun``."""
    found: dict[str, OpenSheet] = {"records.jsonl": leaves, "hashes.bin": hashes}
    if sealed:
        found["sealed.jsonl"] = sealed_parts
    if ExportFormat.CSV in formats:
        found["records.csv"] = export_csv.sheet
    if ExportFormat.PARQUET in formats:
        try:
            export_parquet.require()
        except ExportBroken as error:
            raise CannotRun(str(error)) from None
        found["records.parquet"] = export_parquet.sheet
    if ExportFormat.OCSF in formats:
        found["ocsf.jsonl"] = export_ocsf.sheet
    return found


def _progress() -> "Progress":
    """A bar on standard error, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
