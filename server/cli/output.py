"""How the command line speaks: JSON and tables on standard output, coloured on a terminal only; complaints on standard
error. Nothing that a caller or a file put into a text can steer the terminal."""

import json
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

_WIDE = 400  # columns for a table that no terminal shows, so that no row of it is broken
_STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


class ExportFormat(StrEnum):
    """What the audit log is exported to. The leaves themselves (JSONL) always are: they are what is verified."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    OCSF = "ocsf"


class CannotRun(Exception):
    """The command cannot do its work here; the message says why and what to do. It ends with 2."""


class Refused(Exception):
    """Whoever was asked said no: in a line, or in a problem of the server's. It ends with ``code``."""

    def __init__(self, told: "str | dict[str, Any]", code: int = 1) -> None:
        super().__init__(told)
        self.told = told
        self.code = code


def confirm(question: str, name: str) -> None:
    """Go on only if the name is typed. Raises ``Refused``."""
    if typer.prompt(question, default="", show_default=False) != name:
        raise Refused("That is another name. Nothing was done.")


def complain(message: str) -> None:
    typer.echo(f"chamberlain: {message}", err=True)


def show_json(value: Any, *, err: bool = False, indent: int | None = 2) -> None:
    """Print a JSON document. What could steer a terminal is escaped, which JSON takes as the same text."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    text = _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    console = Console(stderr=err)
    console.print(JSONHighlighter()(Text(text)) if console.is_terminal else Text(text), soft_wrap=True)


def plain_console() -> Console:
    """Standard output: as wide as the terminal, or so wide that no line is broken where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


def unsteered(text: str) -> str:
    """A text with nothing in it that could steer a terminal."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def show_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: as wide as the terminal, or a line a row where there is none."""
    console = plain_console()
    table = Table(*names, box=box.SIMPLE_HEAD if console.is_terminal else None)
    for row in rows:
        table.add_row(*(Text(unsteered(cell), overflow="fold") for cell in row))
    console.print(table)


def show_line(cells: Sequence[str], widths: Sequence[int]) -> None:
    """Print a row of a table whose other rows are not known yet."""
    padded = (unsteered(cell).ljust(width) for cell, width in zip(cells, widths, strict=True))
    plain_console().print(Text("  ".join(padded).rstrip()), soft_wrap=True)


def show_credentials(path: Path) -> None:
    """Print what a first start or a recovery has written to ``credentials.json``: the one time that it is shown."""
    told = json.loads(path.read_text())
    for name in ("username", "password", "access_key", "secret_key"):
        typer.echo(f"  {name:<11} {told[name]}")
