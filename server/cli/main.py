"""``chamberlain``: the command line. Each command imports what it needs when it runs, so that help is quick.

Exit codes: 0 when it did what was asked; 1 when the answer was no, or something was found wrong; 2 when it could not
run at all. A person's mistake ends in one line on standard error, never in a traceback.
"""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from actions.vocabulary import ScopeType
from server.cli.exits import command_group, exits, settings_or_exit
from server.cli.output import CannotRun, Format, show_credentials
from server.cli.policy.group import policy

app = command_group(
    "A manager API server in which nothing happens that a policy did not allow and the audit log did not record."
)
audit = command_group("The audit log.")
keys = command_group("The key ring: what secrets at rest are sealed with.")
app.add_typer(policy, name="policy")
app.add_typer(audit, name="audit")
app.add_typer(keys, name="keys")


@app.callback()
def about() -> None:
    """Settings come from CHAMBERLAIN_... variables, or from a TOML file that CHAMBERLAIN_CONFIG names."""


@app.command()
def serve() -> None:
    """Start the server: PostgreSQL if none is given, the workers, REST and metrics. Ctrl-C stops it all."""
    from server.cli.serve import serve as run

    sys.exit(asyncio.run(run(settings_or_exit())))


@app.command()
def api(
    method: Annotated[str, typer.Argument(help="GET, POST, PATCH, DELETE, ...")],
    path: Annotated[str, typer.Argument(help="For example /admin/users; it may have a query.")],
    filter: Annotated[str | None, typer.Option(help="A filter, as JSON.")] = None,
    order: Annotated[str | None, typer.Option(help="For example username:asc,created_at:desc.")] = None,
    limit: Annotated[int | None, typer.Option(help="Items on a page.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="Any query parameter: name=value.")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--field", "-F", help="A field of the body: name=value, the value as JSON or as a text."),
    ] = None,
    input: Annotated[str | None, typer.Option(help="A file with the JSON body; - for standard input.")] = None,
    include: Annotated[bool, typer.Option("--include", "-i", help="Print status and headers, too.")] = False,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Send one signed request and print its answer.

    The credentials are those in CHAMBERLAIN_ENDPOINT, CHAMBERLAIN_ACCESS_KEY and CHAMBERLAIN_SECRET_KEY, or in the data
    folder's credentials.json. A problem is printed on standard error, and the exit code is 1.
    """
    settings = settings_or_exit()
    from server.cli.api import call, credentials, read_call

    with exits():
        named = {"filter": filter, "order": order, "limit": None if limit is None else str(limit)}
        request = read_call(method, path, named=named, params=param or (), fields=field or (), input=input)
        code = call(credentials(settings.credentials_path, endpoint), request, include=include)
    raise typer.Exit(code)


@app.command()
def actions(
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.TABLE,
    scope: Annotated[ScopeType | None, typer.Option(help="Only what takes place in this type of scope.")] = None,
    entity: Annotated[str | None, typer.Option(help="Only what is done to this entity.")] = None,
) -> None:
    """List every action: its name, route, permission and what it does."""
    from server.cli.catalogue import show

    with exits():
        show(format, scope, entity)


@app.command()
def schema() -> None:
    """Print the GraphQL schema. It needs neither server nor database."""
    from server.cli.catalogue import show_schema

    show_schema()


@app.command()
def openapi() -> None:
    """Print the OpenAPI document that the server serves at /openapi.json."""
    from server.cli.openapi import show

    with exits():
        show()


@audit.command("tail")
def audit_tail(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many records.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with each new record, until Ctrl-C.")] = False,
    format: Annotated[Format, typer.Option(help="A table, or JSON with a record a line.")] = Format.TABLE,
) -> None:
    """Show the latest audit records, the newest last. LOCAL ONLY.

    It reads the server's database directly, so it works on the server's own machine while the database runs. What is
    sealed stays sealed. Reading the log is itself recorded, as done by system:operator: following it when it begins
    and when it ends.
    """
    settings = settings_or_exit()
    with exits():
        from server.cli.audit import follow_tail, show_tail

        (follow_tail if follow else show_tail)(settings, count, format)


@audit.command("show")
def audit_show(
    id: Annotated[str, typer.Argument(help="The action's id, as `audit tail` and every record tell it.")],
    domain: Annotated[str | None, typer.Option(help="Ask as an auditor of this domain does, and not of all.")] = None,
    format: Annotated[Format, typer.Option(help="For a person, or JSON.")] = Format.TABLE,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Tell everything that is recorded of one action.

    It asks the server, as `chamberlain api` does and with the same credentials, which have to be an auditor's. What is
    sealed is opened for them. A problem is printed on standard error, and the exit code is 1.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit_show import show

    with exits():
        code = show(credentials(settings.credentials_path, endpoint), id, domain, format)
    raise typer.Exit(code)


@audit.command("partitions")
def audit_partitions(
    format: Annotated[Format, typer.Option(help="A table, or JSON.")] = Format.TABLE,
) -> None:
    """List the parts of the log, a month each, and where those are kept that were dropped. LOCAL ONLY."""
    settings = settings_or_exit()
    with exits():
        from server.cli.audit_retention import show_partitions

        show_partitions(settings, format)


@audit.command("archive")
def audit_archive(
    partition: Annotated[str, typer.Argument(help="As `audit partitions` names it.")],
    to: Annotated[Path, typer.Option(help="A folder that is empty, or not there yet.")],
) -> None:
    """Copy a part of the log into a folder, with what proves it. LOCAL ONLY.

    What is sealed stays sealed. The folder holds all that `audit verify` needs.
    """
    settings = settings_or_exit()
    with exits():
        from server.cli.audit_retention import archive

        archive(settings, partition, to)


@audit.command("drop")
def audit_drop(
    partition: Annotated[str, typer.Argument(help="As `audit partitions` names it.")],
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
        from server.cli.audit_retention import drop

        drop(settings, partition, archive, older_than, asked=not yes)


@audit.command("erase")
def audit_erase(
    user: Annotated[str, typer.Argument(help="The id of a user who has been purged.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the id once more.")] = False,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Make what the log says of a person unreadable, for good: their key is thrown away, and no record changes.

    It asks the server, as `chamberlain api` does and with the same credentials, which have to be a superadmin's.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit_retention import erase

    with exits():
        code = erase(credentials(settings.credentials_path, endpoint), user, asked=not yes)
    raise typer.Exit(code)


@app.command()
def recover(username: Annotated[str, typer.Argument(help="Whom to give a way back in.")]) -> None:
    """Make a user a superadmin again, with a new password and key pair. LOCAL ONLY.

    It works on the server's own machine, whether the server runs or not. The credentials are printed once and replace
    those in credentials.json. It is recorded, as done by system:recovery.
    """
    settings = settings_or_exit()
    with exits():
        from server.cli.local import regain, run

        issued = run(settings, lambda: regain(settings, username))
    typer.echo(
        f"{issued.username} is a superadmin and has a new password and key pair, shown this once and kept in "
        f"{settings.credentials_path}:"
    )
    show_credentials(settings.credentials_path)


@keys.command("rotate")
def keys_rotate() -> None:
    """Add a key to the key ring and make it the one that seals. LOCAL ONLY.

    What older keys sealed still opens with them, so none is removed.
    """
    settings = settings_or_exit()
    from server.keyring import KeyRingError, rotate

    path = settings.keys_path
    with exits():
        try:
            if not path.exists():
                raise CannotRun(f"there is no key ring at {path}; the server's first start makes it")
            name = rotate(path)
        except KeyRingError as error:
            raise CannotRun(str(error)) from None
        except OSError as error:
            raise CannotRun(f"{path} cannot be changed: {error.strerror}") from None
    typer.echo(
        f"{path} has a new key, {name}, which seals from now on.\n"
        "1. Restart the server: running workers go on with the old key until then.\n"
        f"2. Back up {path}. Keep the old keys in it: what they sealed opens with nothing else."
    )


def main() -> None:
    app()
