"""``chamberlain audit drop``: a part of the log leaves the database, and stands in an archive from then on."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.audit.options import PartitionArgument
from server.cli.exits import exits, settings_or_exit
from server.cli.output import confirm


def command(
    partition: PartitionArgument,
    archive: Annotated[Path, typer.Option(help="Where `audit archive` has put it.")],
    older_than: Annotated[int | None, typer.Option(min=1, help="Only if it ended so many days ago.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the name once more.")] = False,
) -> None:
    """Remove a part of the log from the database, once it stands whole in an archive. LOCAL ONLY.

    Every record is compared with the archive, and the archive recomputed up to a checkpoint that the log was signed
    with. What was dropped, and where it is kept, stays on record; the proofs of all other records go on to hold.
    """
    settings = settings_or_exit()
    with exits():
        from actions.entities.audit_partition import DROP, DroppedPartition
        from server.cli.audit.owner import internally
        from server.cli.local import run

        if not yes:
            confirm("The records will be in the archive alone. Type the partition's name to drop it", partition)
        given = {"partition": partition, "archive": str(archive.absolute()), "older_than_days": older_than}
        dropped: DroppedPartition = run(settings, lambda: internally(settings, DROP, given))
        what = "is dropped" if dropped.was_there else "was dropped before, and that is on record now"
        typer.echo(f"{partition} {what}: {dropped.records:,} records. The archive's digest is\n{dropped.digest}")
