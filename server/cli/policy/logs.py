"""Where the commands that answer from the audit log find it: in a file, in the database of this machine, or behind the
running server.

A file is read here, line by line. The other two doors are one action: on the machine it is done as system:operator and
followed to the end of the log, over the network it is asked for once and reads no further than the server lets it.
"""

import gzip
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, BinaryIO, Protocol, TypeVar, cast

import typer

from actions.vocabulary import Operation
from server.cli.exits import settings_or_exit
from server.cli.output import CannotRun
from server.cli.policy.words import counted, minute

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.progress import Progress

    from actions.authorization.recorded import Decided, LogReach, Times

LogOption = Annotated[
    str | None,
    typer.Option("--log", help="A file of records, one a line, as `audit tail --format json` prints them; may be .gz."),
]
SinceOption = Annotated[str | None, typer.Option(help="Only from then on: a time, or how long ago, like 7d or 12h.")]
UntilOption = Annotated[str | None, typer.Option(help="Only until then, likewise.")]
_AGO = re.compile(r"([0-9]{1,5})([mhdw])\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_RECORDS_A_PART = 20_000
_PROBLEM_LONGEST = 200
_STEP = 1000
_LONGEST_LINE = 1024 * 1024
"""Bytes; no record is so long, and a file without line ends must not fill the memory."""

Answer = TypeVar("Answer", bound="BaseModel")


class Fold(Protocol):
    def add(self, decided: "Decided", times: "Times") -> None: ...


def moment(text: str | None, option: str) -> datetime | None:
    """A time as it is typed: RFC 3339, a date, or how long ago. Raises ``CannotRun``."""
    if text is None:
        return None
    ago = _AGO.match(text)
    try:
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise CannotRun(f"{option}: {text!r} is no time like 2026-01-31T12:00:00Z, and no stretch like 7d") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def time_span(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """From when to when. Raises ``CannotRun`` for what is no time, and for a span that ends before it begins."""
    begin, end = moment(since, "--since"), moment(until, "--until")
    if begin and end and begin >= end:
        raise CannotRun("--until is not after --since: there is nothing in between")
    return begin, end


def refuse_nothing(reach: "LogReach") -> None:
    """No decision at all is no answer: an export that broke must not look like a policy that changes nothing."""
    if not reach.decisions:
        raise CannotRun(f"there is nothing to go by: {counted(reach.records, 'record')} read, and no decision in them")


def one_door(log: str | None, server: bool) -> None:
    """Raises ``CannotRun`` when two are asked for."""
    if log is not None and server:
        raise CannotRun("the log is read from a file (--log) or by the server (--server), not by both")


# -- a file ------------------------------------------------------------------------------------------------------------


def read_log(name: str, fold: Fold, since: datetime | None = None, until: datetime | None = None) -> "LogReach":
    """Every decision of a file of records. Raises ``CannotRun``, naming the line that is no record."""
    import orjson

    from actions.authorization.recorded import NoRecord, Reading, moment_of

    reading, number = Reading(), 0
    with _opened(name) as lines:
        try:
            for line in lines:
                number += 1
                if line.isspace():
                    continue
                record = orjson.loads(line)
                if (since or until) and not _lies_between(moment_of(record), since, until):
                    continue
                for decided, times in reading.line(record):
                    fold.add(decided, times)
        except (orjson.JSONDecodeError, NoRecord) as error:
            why = str(error)[:_PROBLEM_LONGEST]
            raise CannotRun(f"line {number} of {_spoken(name)} is no audit record: {why}") from None
        except (OSError, EOFError) as error:
            raise CannotRun(f"{_spoken(name)} cannot be read beyond line {number}: {error}") from None
    return reading.reach(since, until)


def _lies_between(at: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or at >= since) and (until is None or at < until)


@contextmanager
def _opened(name: str) -> Iterator[Iterator[bytes]]:
    """The lines of a file, unpacked; a bar on the terminal shows how far it has been read."""
    try:
        raw: BinaryIO = sys.stdin.buffer if name == "-" else Path(name).open("rb")  # noqa: SIM115
    except OSError as error:
        raise CannotRun(f"--log: {name} cannot be read: {error.strerror}") from None
    size = None if name == "-" else Path(name).stat().st_size
    with raw, _progress() as progress:
        task = progress.add_task("reading", total=size)
        unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if name.endswith(".gz") else raw

        def told() -> Iterator[bytes]:
            for number, line in enumerate(iter(partial(unpacked.readline, _LONGEST_LINE), b"")):
                if number % _STEP == 0 and size is not None:
                    progress.update(task, completed=raw.tell())
                yield line

        yield told()


def _spoken(name: str) -> str:
    return "standard input" if name == "-" else name


def _progress() -> "Progress":
    """A bar on standard error, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


# -- the two other doors -----------------------------------------------------------------------------------------------


def ask_for(
    operation: Operation, question: Mapping[str, Any], model: type[Answer], *, server: bool, endpoint: str | None
) -> Answer:
    """The answer of the running server, or of the log's own database. Raises ``Refused`` and
    ``CannotRun``."""
    if server:
        from server.cli.policy.asking import ask

        return ask("POST", f"/admin/policies/{operation.word}", question, model, endpoint)
    return model.model_validate(_followed(operation, question))


def _followed(operation: Operation, question: Mapping[str, Any]) -> Any:
    """The last part of an answer that reaches further back with each: with that, it reaches back to the beginning."""
    from actions.entities.policy_usage import SPECS
    from server.cli.local import run, stream

    spec = next(spec for spec in SPECS if spec.operation == operation)
    given = {name: value for name, value in question.items() if value is not None}
    answers: list[Any] = []
    with _progress() as progress:
        task = progress.add_task("reading", total=None)

        def is_last(part: Any) -> bool:
            answers[:] = [part]
            reach = part.reach
            back = f", back to {minute(reach.first)}" if reach.first else ""
            progress.update(task, description=f"{reach.records:,} records{back}")
            return not reach.truncated

        settings = settings_or_exit()
        run(settings, lambda: stream(settings, spec, {**given, "records": _RECORDS_A_PART}, is_last))
    return answers[0]


# -- saying it ---------------------------------------------------------------------------------------------------------


def reach_told(reach: "LogReach") -> Iterator[str]:
    """On how much of the log an answer rests, and what of it could not be used."""
    span = f", {minute(reach.first)} to {minute(reach.last)} (UTC)" if reach.first and reach.last else ""
    yield f"{counted(reach.decisions, 'decision')} in {counted(reach.records, 'record')}{span}"
    if reach.truncated:
        yield "There is more in the log, further back, that was not read."
    if reach.unreplayable:
        told = counted(reach.unreplayable, "decision")
        yield f"{told} about what an input named cannot be decided again: older records do not say with which roles."
