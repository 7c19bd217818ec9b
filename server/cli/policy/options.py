"""The options that several commands have: one name, one meaning and one help text each."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.output import Format

FolderArgument = Annotated[Path | None, typer.Argument(help="The policy folder; unset: the one in the settings.")]
FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="The policy folder; unset: the one in the settings.")
]
ServerOption = Annotated[
    bool,
    typer.Option("--server", help="Ask the running server, as you: about the active version, or the folder you name."),
]
VersionOption = Annotated[
    str | None,
    typer.Option(
        "--version", metavar="DIGEST", help="With --server: about a stored version, by its digest or the beginning."
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="URL", help="Ask this server, and not the one that the credentials name."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="For a person, or JSON.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the record.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Return once every worker decides by it.")]
StoredArgument = Annotated[
    str, typer.Argument(metavar="DIGEST", help="A stored version: its digest, or the beginning of it.")
]
