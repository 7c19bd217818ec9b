"""A partition of the log on its way into an archive."""

from datetime import UTC, datetime
from pathlib import Path

import typer

from actions.entities.audit_partition import ARCHIVE, SPECS, ArchivePart
from audit.archive import ArchiveBroken, ArchiveWriter, Head
from server.app import Application
from server.cli.local import OPERATOR, as_owner, run
from server.cli.output import CannotRun
from server.settings import Settings
from server.setup import account

[_SPEC] = [spec for spec in SPECS if spec.operation == ARCHIVE]


def archive(settings: Settings, partition: str, folder: Path) -> None:
    try:
        with ArchiveWriter(folder) as writer:
            head = run(settings, lambda: _copy(settings, partition, writer))
    except ArchiveBroken as error:
        raise CannotRun(str(error)) from None
    except OSError as error:
        raise CannotRun(f"{folder} cannot be written: {error.strerror}") from None
    typer.echo(
        f"{folder} holds the records of {partition}, with the indexes {head.first:,} to {head.end - 1:,}.\n"
        f"1. Verify it: chamberlain audit verify {folder}\n"
        f"2. Keep a copy elsewhere. Then: chamberlain audit drop {partition} --archive {folder}"
    )


async def _copy(settings: Settings, partition: str, writer: ArchiveWriter) -> Head:
    async with as_owner(settings) as app:
        return await copy(app, partition, writer)


async def copy(app: Application, partition: str, writer: ArchiveWriter) -> Head:
    """The stream of an archive, into its files."""
    asked = {"partition": partition}
    head: Head | None = None
    async with app.following(_SPEC, OPERATOR, asked, account()) as parts:
        async for part in parts:
            head = head or Head(**part.head)
            if _write(writer, part) == head.end:
                break
    assert head is not None  # the first part is one  # noqa: S101
    writer.finish(head, asked, datetime.now(UTC).isoformat())
    return head


def _write(writer: ArchiveWriter, part: ArchivePart) -> int:
    """Write a part; returns the index that comes next."""
    for place, (line, sealed) in enumerate(zip(part.lines, part.sealed, strict=True), part.first):
        writer.add(place, line, sealed)
    return part.first + len(part.lines)
