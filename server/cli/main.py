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
from server.cli.audit.group import audit
from server.cli.exits import command_group, exits, settings_or_exit
from server.cli.output import Format, show_credentials
from server.cli.policy.group import policy

app = command_group(
    "A manager API server in which nothing happens that a policy did not allow and the audit log did not record."
)
keys = command_group("The key ring: what secrets at rest are sealed with.")
witness = command_group("A witness of audit logs. It runs elsewhere than the server, in somebody else's hands.")
app.add_typer(policy, name="policy")
app.add_typer(audit, name="audit")
app.add_typer(keys, name="keys")
app.add_typer(witness, name="witness")


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


@witness.command("keygen")
def witness_keygen(
    name: Annotated[str, typer.Argument(help="The witness's name, like witness.example.org/1.")],
    file: Annotated[Path, typer.Argument(help="Where its private key goes; beside it, what it has seen.")],
) -> None:
    """Make a witness: prints its public key, for the server's CHAMBERLAIN_AUDIT_WITNESSES and for whoever checks."""
    from server.cli.witness import keygen

    with exits():
        keygen(name, file)


@witness.command("serve")
def witness_serve(
    file: Annotated[Path, typer.Argument(help="Its private key, from `chamberlain witness keygen`.")],
    log: Annotated[list[str], typer.Option(help="A key of a log that it watches; again for another.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0: any that is free.")] = 8091,
) -> None:
    """Cosign the checkpoints of logs, each only if it goes on from the one before (C2SP tlog-witness)."""
    from server.cli.witness import serve

    with exits():
        serve(file, log, host, port)


@keys.command("rotate")
def keys_rotate() -> None:
    """Add a key to the key ring and make it the one that seals. LOCAL ONLY.

    What older keys sealed still opens with them, until they are retired.
    """
    settings = settings_or_exit()
    with exits():
        from server.cli.keys import rotate

        typer.echo(rotate(settings.keys_path))


@keys.command("retire")
def keys_retire() -> None:
    """Reseal what older keys sealed with the one that seals now, and remove the older ones. LOCAL ONLY.

    Whether the server runs or not. It takes half a minute, for it waits until nothing can be committed any more that an
    older key sealed. Interrupted, it has removed nothing: run it again. It is recorded, as done by system:operator. The
    exit code is 1 if an older key had to stay.
    """
    settings = settings_or_exit()
    with exits():
        from server.cli.keys import retire, told
        from server.cli.local import run

        retired = run(settings, lambda: retire(settings))
    typer.echo(told(settings.keys_path, retired))
    raise typer.Exit(1 if retired.unopened or retired.in_use else 0)


def main() -> None:
    app()
