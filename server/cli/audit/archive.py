"""``chamberlain audit archive``: a part of the log into a folder, before it leaves."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.audit.options import PartitionArgument
from server.cli.exits import exits, settings_or_exit

if TYPE_CHECKING:
    from server.cli.audit.writing import Writing


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
        f"{writing}.\n1. Verify it: {_verifying(to, writing)}\n"
        f"2. Keep a copy elsewhere. Then: chamberlain audit drop {partition} --archive {shlex.quote(str(to))}"
    )


def _verifying(folder: Path, writing: "Writing") -> str:
    """The command, with the keys as the server has them, and with what had been dropped before."""
    keys = [f"--key {key}" for key in (writing.range.keys if writing.range else ())]
    dropped = [f"--dropped {span[0]}..{span[-1]}" for span, _ in writing.alone.found]
    return " ".join(["chamberlain audit verify", shlex.quote(str(folder)), *keys, *dropped])
