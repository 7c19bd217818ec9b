"""A range of the log on its way into a folder that can be verified elsewhere, wherever its parts come from."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from actions.entities.audit_export import ExportEntry, ExportPart
from audit import export_csv, export_ocsf, export_parquet
from audit.checkpoint import Checkpoint
from audit.export import Entry, ExportBroken, Folder, OpenSheet, Range, hashes, leaves, sealed_parts
from audit.note import Note, NoteBroken
from server.cli.audit.gaps import Spans
from server.cli.output import CannotRun, ExportFormat, Refused
from server.cli.policy.logs import time_span

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


class Writing:
    """An export on its way into a folder; a bar on the terminal shows how far it has come."""

    def __init__(self, folder: Folder, progress: "Progress") -> None:
        self._folder = folder
        self._size = 0
        self._progress = progress
        self._task = progress.add_task("waiting for a checkpoint", total=None)
        self.alone = Spans()
        """The indexes of which it was given the hash alone."""

    @property
    def range(self) -> Range | None:
        """What is being written, once that is known."""
        return self._folder.range

    @property
    def next(self) -> int:
        """The index that comes next."""
        return self._folder.range.first + self._folder.written if self._folder.range else 0

    def take(self, part: ExportPart) -> bool:
        """Write a part; whether it was the last. Raises ``ExportBroken``."""
        if part.range is not None:
            self._begin(Range(**part.range.model_dump()))
        for entry in part.entries:
            leaf = None if entry.leaf is None else entry.leaf.encode()
            if leaf is None:
                self.alone.add(entry.index)
            self._folder.add(Entry(entry.index, _hash(entry), leaf, entry.sealed))
        self._progress.update(self._task, completed=self._folder.written)
        return part.next is None

    def _begin(self, told: Range) -> None:
        """One that was broken off goes on under the checkpoint that it began with."""
        if (begun := self._folder.range) is None:
            self._size = _size(told)
            self._folder.begin(told)
            self._progress.update(self._task, description="writing", total=told.end - told.first)
        elif (told.origin, told.first, told.end) != (begun.origin, self.next, begun.end):
            raise ExportBroken(f"it goes on with {told.first} to {told.end} of {told.origin}, which is something else")

    def __str__(self) -> str:
        told = self._folder.range
        assert told is not None  # noqa: S101
        return (
            f"{self._folder.path}: {self._folder.written:,} records, {told.first} up to {told.end - 1}, "
            f"under the checkpoint of {self._size:,}"
        )


def _size(told: Range) -> int:
    """Of the tree that its checkpoint is of."""
    try:
        return Checkpoint.of(Note.read(told.checkpoint)).size
    except NoteBroken as error:
        raise ExportBroken(f"the range has no checkpoint: {error}") from None


def _hash(entry: ExportEntry) -> bytes:
    try:
        return bytes.fromhex(entry.hash)
    except ValueError:
        raise ExportBroken(f"entry {entry.index} has no hash") from None


@contextmanager
def written(to: Path, question: Mapping[str, object], formats: Sequence[ExportFormat]) -> Iterator[Writing]:
    """A block that takes the parts of an export and leaves a folder that is whole, or none. Raises ``CannotRun`` and
    ``Refused``."""
    sheets = _sheets(formats, sealed=bool(question.get("sealed")))
    with _folder(to, sheets, {**question, "formats": sorted({*formats, ExportFormat.JSONL})}) as writing:
        yield writing


@contextmanager
def archived(to: Path, question: Mapping[str, object]) -> Iterator[Writing]:
    """The same for an archive: leaves, hashes and sealed parts."""
    with _folder(to, _sheets((), sealed=True), question) as writing:
        yield writing


@contextmanager
def _folder(to: Path, sheets: Mapping[str, OpenSheet], asked: Mapping[str, object]) -> Iterator[Writing]:
    try:
        with Folder(to, sheets) as folder, progress() as bar:
            writing = Writing(folder, bar)
            yield writing
            folder.finish(asked)
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


def progress() -> "Progress":
    """A bar on standard error, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
