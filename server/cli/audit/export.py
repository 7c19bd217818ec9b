"""``chamberlain audit export``: a range of the log as a folder that can be verified elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.exits import exits, settings_or_exit
from server.cli.output import ExportFormat


def command(
    to: Annotated[Path, typer.Option(help="The folder to write. It must not be there yet.")],
    first: Annotated[int | None, typer.Option(min=0, help="The first index.")] = None,
    end: Annotated[int | None, typer.Option(min=0, help="The index after the last.")] = None,
    since: Annotated[
        str | None, typer.Option(help="By time: from then on, a time, or how long ago, like 7d or 12h.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only until then, likewise.")] = None,
    format: Annotated[
        list[ExportFormat] | None, typer.Option("--format", "-f", help="What else to write; may be said repeatedly.")
    ] = None,
    sealed: Annotated[bool, typer.Option(help="The sealed parts too. They stay sealed.")] = False,
) -> None:
    """Write a range of the audit log into a folder that can be verified elsewhere. LOCAL ONLY.

    The leaves are always written (JSONL), with a manifest that ties every file to a signed checkpoint. It works on the
    server's own machine while the server runs. An export is recorded when it begins and when it ends, with what was
    asked for, as done by system:operator.
    """
    settings = settings_or_exit()
    with exits():
        from server.cli.audit.writing import asked, export

        export(settings, to, asked(first, end, since, until, sealed=sealed), format or ())
