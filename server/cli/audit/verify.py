"""``chamberlain audit verify``: check an export, the proof of a record, or the live server, with keys of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.audit.options import EndpointOption
from server.cli.exits import exits, settings_or_exit


def command(
    path: Annotated[Path | None, typer.Argument(help="The folder of an export, or the file of a proof.")] = None,
    server: Annotated[bool, typer.Option("--server", help="Check the live server, all of it.")] = False,
    key: Annotated[list[str] | None, typer.Option(help="A key of the log, name+id+base64, from elsewhere.")] = None,
    witness: Annotated[list[str] | None, typer.Option(help="A witness's key; one of them has to vouch.")] = None,
    endorsement: Annotated[
        list[Path] | None, typer.Option(help="A file of notes by which keys of the log vouch for further ones.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A file with an older checkpoint that you kept.")
    ] = None,
    dropped: Annotated[list[str] | None, typer.Option(help="Indexes, A..B: what you know to be dropped.")] = None,
    archive: Annotated[list[Path] | None, typer.Option(help="A folder with records that were dropped.")] = None,
    remember: Annotated[Path | None, typer.Option(help="Keep the checkpoint here, for next time.")] = None,
    endpoint: EndpointOption = None,
) -> None:
    """Check the audit log, and trust nobody but the keys that you bring.

    All hashes are computed anew and held to the signed checkpoint, and to every older one that is given. It ends with 1
    and the first index where something is wrong. For the live server it needs an auditor's credentials, as `chamberlain
    api` does. audit/verify.py makes the same checks by itself, to be read whole and run without this program.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit.checking import trusted, verify

    with exits():
        who = (lambda: credentials(settings.credentials_path, endpoint)) if server else None
        verify(
            path,
            who,
            trusted(key or (), endorsement or ()),
            witness or (),
            checkpoint or (),
            remember,
            dropped or (),
            archive or (),
        )
