"""The commands of ``chamberlain audit``, by name. What each needs is imported when it runs, so that help is quick."""

from server.cli.audit import (
    archive,
    drop,
    erase,
    export,
    hash,
    keys,
    partitions,
    prove,
    search,
    show,
    tail,
    verify,
)
from server.cli.exits import command_group

audit = command_group("The audit log.")
audit.command("tail")(tail.command)
audit.command("search")(search.command)
audit.command("export")(export.command)
audit.command("show")(show.command)
audit.command("prove")(prove.command)
audit.command("keys")(keys.command)
audit.command("hash")(hash.command)
audit.command("partitions")(partitions.command)
audit.command("archive")(archive.command)
audit.command("drop")(drop.command)
audit.command("erase")(erase.command)
audit.command("verify")(verify.command)
