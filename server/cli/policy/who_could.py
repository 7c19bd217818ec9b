"""``chamberlain policy who-could``: who could do something at a moment that has passed, as the server vouches for it.

Nothing but the server knows who held what; so there is no asking a folder.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from server.cli.exits import exits
from server.cli.output import CannotRun, Format, show_table, unsteered
from server.cli.policy.options import EndpointOption
from server.cli.policy.words import short

DOCUMENT, TABLE, KEY = "who-could.json", "who-could.csv", "evidence.pub"


def command(
    action: Annotated[str, typer.Argument(help="An action's name, for example domain_search_users.")],
    scope: Annotated[str, typer.Argument(help="admin, domain:NAME, project:ID or user:ID.")],
    at: Annotated[str, typer.Option(help="The moment, for example 2026-01-31T12:00:00Z.")],
    out: Annotated[
        Path | None, typer.Option(help="A folder to write the evidence to: JSON, CSV, signatures, public key.")
    ] = None,
    format: Annotated[Format, typer.Option(help="A table, or the JSON that is signed.")] = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Tell who could do something at a moment, by the policy and the role bindings of then.

    It asks the server, as `chamberlain api` does. The same question has the same bytes whenever it is asked, and
    `chamberlain policy verify` checks them without a server. The exit code is 1 if nobody could.
    """
    from actions.entities.policy_evidence import Evidence
    from server.cli.policy.asking import ask

    with exits():
        question = {"action": action, "scope": scope, "at": at}
        told = ask("POST", "/admin/policies/who_could", question, Evidence, endpoint)
        if out is not None:
            _write(out, told.model_dump())
        document = json.loads(told.document)
        if format is Format.JSON:
            typer.echo(unsteered(told.document), nl=False)
        else:
            _show(document)
            if out is not None:
                typer.echo(f"Written to {out}: `chamberlain policy verify {out}` checks it, without a server.")
    raise typer.Exit(0 if document["principals"] else 1)


def _show(document: Mapping[str, Any]) -> None:
    policy, scope = document["policy"], document["scope"]
    where = scope["name"] or scope["id"]
    typer.echo(f"{document['action']} in {scope['type']}{f' {where}' if where else ''}, at {document['at']}")
    typer.echo(
        unsteered(f"by policy {short(policy['digest'])}, active since {policy['activated_at']}: {policy['reason']}")
    )
    if not scope["in_force"]:
        typer.echo("The scope was deleted then, so nobody could do anything in it.")
    elif not document["principals"]:
        typer.echo("Nobody could.")
    else:
        show_table(("principal", "by", "with the roles"), [_row(holder) for holder in document["principals"]])


def _row(holder: Mapping[str, Any]) -> tuple[str, ...]:
    from actions.authorization.past import PastRole, told

    rule, roles = holder["rule"], (PastRole.model_validate(role) for role in holder["roles"])
    return holder["principal"], f"{rule['file']}:{rule['line']}", ", ".join(map(told, roles))


def _write(folder: Path, told: Mapping[str, str]) -> None:
    """The evidence as files. Raises ``CannotRun`` rather than replacing any."""
    files = {
        DOCUMENT: told["document"].encode(),
        f"{DOCUMENT}.sig": b64decode(told["document_signature"]),
        TABLE: told["table"].encode(),
        f"{TABLE}.sig": b64decode(told["table_signature"]),
        KEY: f"{told['public_key']}\n".encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if found := [name for name in files if (folder / name).exists()]:
            raise CannotRun(f"{folder / found[0]} is there already; name another folder")
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise CannotRun(f"{folder} cannot be written to: {error.strerror}") from None
