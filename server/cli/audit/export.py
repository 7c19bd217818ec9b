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
    server: Annotated[bool, typer.Option("--server", help="Ask the server, with credentials, from anywhere.")] = False,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name; likewise.")] = None,
) -> None:
    """Write a range of the audit log into a folder that can be verified elsewhere.

    The leaves are always written (JSONL), with a manifest that ties every file to a signed checkpoint. As it is, it
    reads the server's database directly: it works on the server's own machine while the server runs, and is recorded as
    done by system:operator. With --server it asks the server as `chamberlain api` does, with credentials that have to
    be an auditor's; a stream that breaks off is taken up where it was. Either way it is recorded when it begins and
    when it ends, with what was asked for, and makes the same folder.
    """
    settings = settings_or_exit()
    with exits():
        from server.cli.audit.writing import asked, written

        question = asked(first, end, since, until, sealed=sealed)
        if server or endpoint is not None:
            from server.cli.api import credentials
            from server.cli.audit.fetching import fetch

            who = credentials(settings.credentials_path, endpoint)
            with written(to, question, format or ()) as writing:
                fetch(who, question, writing)
        else:
            from actions.entities.audit_export import SPECS
            from server.cli.local import run, stream

            [spec] = SPECS
            with written(to, question, format or ()) as writing:
                run(settings, lambda: stream(settings, spec, question, lambda part: writing.take(part.items[0])))
    typer.echo(str(writing))
