"""``chamberlain audit partitions``, ``archive``, ``drop`` and ``erase``: what leaves the log, and how.

The first three work on the machine itself, through the pipeline and as ``system:operator``; the last asks the server.
"""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import typer

from actions.entities.audit_partition import (
    ARCHIVE,
    DROP,
    LIST,
    SPECS,
    ArchivePart,
    AuditPartition,
    AuditPartitions,
    DroppedPartition,
)
from actions.vocabulary import Operation
from audit.archive import ArchiveBroken, ArchiveWriter, Head
from server.app import Application
from server.cli.api import Call, send, show_answer
from server.cli.local import OPERATOR, as_owner, run
from server.cli.output import CannotRun, Format, Refused, show_json, show_table
from server.cli.signing_client import Credentials
from server.settings import Settings
from server.setup import account

_SPECS = {spec.operation: spec for spec in SPECS}
_COLUMNS = ("partition", "since", "until", "records", "indexes", "size", "state")


def show_partitions(settings: Settings, form: Format) -> None:
    listed: AuditPartitions = run(settings, lambda: _internally(settings, LIST, {}))
    if form is Format.JSON:
        show_json(listed.model_dump(mode="json"))
    else:
        show_table(_COLUMNS, [_row(one) for one in listed.partitions])


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
        f"1. Verify it: {_verifying(folder, head, writer.alone)}\n"
        f"2. Keep a copy elsewhere. Then: chamberlain audit drop {partition} --archive {shlex.quote(str(folder))}"
    )


def drop(settings: Settings, partition: str, folder: Path, older_than: int | None, *, asked: bool) -> None:
    if asked:
        _confirm("The records will be in the archive alone. Type the partition's name to drop it", partition)
    given = {"partition": partition, "archive": str(folder.absolute()), "older_than_days": older_than}
    dropped: DroppedPartition = run(settings, lambda: _internally(settings, DROP, given))
    what = "is dropped" if dropped.was_there else "was dropped before, and that is on record now"
    typer.echo(f"{partition} {what}: {dropped.records:,} records. The archive's digest is\n{dropped.digest}")


def erase(who: Credentials, user: str, *, asked: bool) -> int:
    """0, or 1 for a problem, which goes to standard error."""
    if asked:
        _confirm("Nobody will ever read again what is sealed about this person. Type the id to erase it", user)
    response = send(who, Call("POST", f"/admin/audit-subjects/{quote(user, safe='')}/erase", {}))
    show_answer(response, err=not response.is_success)
    return 0 if response.is_success else 1


def _verifying(folder: Path, head: Head, alone: Sequence[range]) -> str:
    """The command, with the keys as the server has them, and with what had been dropped before."""
    keys = [f"--key {key}" for key in head.keys]
    dropped = [f"--dropped {span[0]}..{span[-1]}" for span in alone]
    return " ".join(["chamberlain audit verify", shlex.quote(str(folder)), *keys, *dropped])


async def _internally(settings: Settings, operation: Operation, given: Mapping[str, object]) -> Any:
    async with as_owner(settings) as app:
        return await app.internally(_SPECS[operation], OPERATOR, given, account())


async def _copy(settings: Settings, partition: str, writer: ArchiveWriter) -> Head:
    async with as_owner(settings) as app:
        return await copy(app, partition, writer)


async def copy(app: Application, partition: str, writer: ArchiveWriter) -> Head:
    """The stream of an archive, into its files."""
    asked = {"partition": partition}
    head: Head | None = None
    async with app.following(_SPECS[ARCHIVE], OPERATOR, asked, account()) as parts:
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


def _confirm(question: str, name: str) -> None:
    if typer.prompt(question, default="", show_default=False) != name:
        raise Refused("That is another name. Nothing was done.")


def _row(one: AuditPartition) -> tuple[str, ...]:
    between = "" if one.first_index is None else f"{one.first_index:,} to {(one.end_index or 1) - 1:,}"
    if one.location is not None:
        state = f"dropped, kept in {one.location}"
    else:
        waiting = one.records - one.numbered
        state = f"{waiting:,} not numbered yet" if waiting else ""
    return one.name, _day(one.since), _day(one.until), f"{one.records:,}", between, _size(one.bytes), state


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d}"


def _size(amount: int) -> str:
    return f"{amount / 1_000_000:,.1f} MB" if amount else ""
