"""``chamberlain audit archive``: a part of the log into a folder, before it leaves."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.audit.options import PartitionArgument
from server.cli.exits import exits, settings_or_exit


def command(
    partition: PartitionArgument,
    to: Annotated[Path, typer.Option(help="The folder to write. It must not be there yet.")],
) -> None:
    """Copy a part of the log into a folder, with what proves it. LOCAL ONLY.

    What is sealed stays sealed. The folder holds all that `audit verify` needs.
    """
    settings = settings_or_exit()
    with exits():
        from server.cli.audit.owner import copy
        from server.cli.audit.writing import archived
        from server.cli.local import run

        with archived(to, {"partition": partition}) as writing:
            run(settings, lambda: copy(settings, partition, writing.take))
    typer.echo(
        f"{writing}.\n1. Verify it: chamberlain audit verify {to} --key KEY-OF-THE-LOG\n"
        f"2. Keep a copy elsewhere. Then: chamberlain audit drop {partition} --archive {to}"
    )
