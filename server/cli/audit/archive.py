"""``chamberlain audit archive``: a part of the log into a folder, before it leaves."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.audit.options import PartitionArgument
from server.cli.exits import exits, settings_or_exit


def command(
    partition: PartitionArgument,
    to: Annotated[Path, typer.Option(help="A folder that is empty, or not there yet.")],
) -> None:
    """Copy a part of the log into a folder, with what proves it. LOCAL ONLY.

    What is sealed stays sealed. The folder holds all that `audit verify` needs.
    """
    settings = settings_or_exit()
    with exits():
        from server.cli.audit.archiving import archive

        archive(settings, partition, to)
