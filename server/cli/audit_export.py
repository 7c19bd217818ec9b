"""``chamberlain audit export``: a range of the log as a folder that can be verified elsewhere."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actions.entities.audit_export import SPECS, ExportPart
from audit import export_csv, export_parquet
from audit.export import Entry, ExportBroken, Folder, OpenSheet, Range, hashes, leaves, sealed
from server.cli.local import run, stream
from server.cli.output import CannotRun, Refused
from server.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress


class ExportFormat(StrEnum):
    """What else is written. The leaves themselves (JSONL) always are: they are what is verified."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    OCSF = "ocsf"


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
