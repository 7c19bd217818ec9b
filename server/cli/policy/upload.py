"""``chamberlain policy upload``: have the server check a folder and store it as a version."""

from typing import Annotated

import typer

from server.cli.exits import exits
from server.cli.output import Format
from server.cli.policy.options import EndpointOption, FolderArgument, FormatOption


def command(
    folder: FolderArgument = None,
    reason: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    format: FormatOption = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Have the server check a policy folder and store it as a version, which decides nothing until it is activated.

    A signature in the folder is sent along. The same files are the same version, however often they are uploaded.
    """
    from server.cli.output import show_json
    from server.cli.policy.stored import uploaded
    from server.cli.policy.words import short

    with exits():
        told = uploaded(folder, reason, endpoint)
        if format is Format.JSON:
            show_json(told.model_dump(mode="json"))
            return
        signed = f", signed by {told.signed_by}" if told.signed_by else ""
        typer.echo(f"stored: {short(told.id)}{signed}")
        if told.active:
            typer.echo("It is the active version.")
        else:
            refused = " It is refused since a rollback, which that ends." if told.refused else ""
            typer.echo(f"It decides nothing yet: chamberlain policy activate {short(told.id)} --reason ...{refused}")
