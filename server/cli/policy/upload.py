"""``chamberlain policy upload``: have the server check a folder and store it as a version."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.output import Format


def command(
    folder: Annotated[Path | None, typer.Argument(help="The policy folder; unset: the one in the settings.")] = None,
    reason: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    format: Annotated[Format, typer.Option(help="For a person, or JSON.")] = Format.TABLE,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Have the server check a policy folder and store it as a version, which decides nothing until it is activated.

    A signature in the folder is sent along. The same files are the same version, however often they are uploaded.
    """
    from server.cli.output import show_json
    from server.cli.policy.stored import SHORT, answered, uploaded

    with answered():
        told = uploaded(folder, reason, endpoint)
        if format is Format.JSON:
            show_json(told.model_dump(mode="json"))
            return
        signed = f", signed by {told.signed_by}" if told.signed_by else ""
        typer.echo(f"stored: {told.id[:SHORT]}{signed}")
        if told.active:
            typer.echo("It is the active version.")
        else:
            refused = " It is refused since a rollback, which that ends." if told.refused else ""
            typer.echo(f"It decides nothing yet: chamberlain policy activate {told.id[:SHORT]} --reason ...{refused}")
