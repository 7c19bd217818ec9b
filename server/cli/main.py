"""``chamberlain``: the command line. Each command imports what it needs when it runs, so that help is quick.

Exit codes: 0 when it did what was asked; 1 when the answer was no, or something was found wrong; 2 when it could not
run at all. A person's mistake ends in one line on standard error, never in a traceback.
"""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from actions.hooks import Result
from actions.vocabulary import ScopeType
from audit.record import Phase
from server.cli.exits import command_group, exits, settings_or_exit
from server.cli.output import CannotRun, ExportFormat, Format, show_credentials
from server.cli.policy.group import policy

app = command_group(
    "A manager API server in which nothing happens that a policy did not allow and the audit log did not record."
)
audit = command_group("The audit log.")
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


@audit.command("tail")
def audit_tail(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many records.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with each new record, until Ctrl-C.")] = False,
    format: Annotated[Format, typer.Option(help="A table, or JSON with a record a line.")] = Format.TABLE,
    server: Annotated[bool, typer.Option("--server", help="Ask the server, with credentials, from anywhere.")] = False,
    domain: Annotated[str | None, typer.Option(help="As an auditor of this domain does; implies --server.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name; likewise.")] = None,
) -> None:
    """Show the latest audit records, the newest last.

    As it is, it reads the server's database directly: it works on the server's own machine alone, while the database
    runs, and is recorded as done by system:operator. With --server it asks the server as `chamberlain api` does, with
    credentials that have to be an auditor's; a stream that breaks off is taken up where it was. Either way what is
    sealed stays sealed, and following is recorded when it begins and when it ends. What is followed, or asked of the
    server, has an index: it has been numbered.
    """
    settings = settings_or_exit()
    with exits():
        if server or domain is not None or endpoint is not None:
            from server.cli.api import credentials
            from server.cli.audit_watch import tail

            tail(credentials(settings.credentials_path, endpoint), domain, count, format, follow=follow)
            return
        from server.cli.audit import follow_tail, show_tail

        (follow_tail if follow else show_tail)(settings, count, format)


@audit.command("search")
def audit_search(
    since: Annotated[str | None, typer.Option(help="Not before this time, or so long ago: 15m, 2h, 3d.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time, or so long ago.")] = None,
    who: Annotated[
        str | None, typer.Option(help="Done by this user (name or id) or principal (system:sweeper).")
    ] = None,
    on: Annotated[str | None, typer.Option(help="Done to this user (by name), or to what has this id.")] = None,
    action: Annotated[str | None, typer.Option(help="A part of the action's name: delete_user, keypair.")] = None,
    result: Annotated[Result | None, typer.Option(help="What came of it.")] = None,
    index: Annotated[str | None, typer.Option(help="At this index, or in this span: 100..200, 100.. .")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many records.")] = 20,
    domain: Annotated[str | None, typer.Option(help="Ask as an auditor of this domain does, and not of all.")] = None,
    format: Annotated[Format, typer.Option(help="A table, or JSON with a record a line.")] = Format.TABLE,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Search the audit log, and show the latest records that match, the newest last.

    It asks the server, as `chamberlain api` does and with the same credentials, which have to be an auditor's. All
    that is given has to hold. Times without a zone are UTC.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit_search import Question, search

    with exits():
        asked = Question(since, until, who, on, action, result, index)
        search(credentials(settings.credentials_path, endpoint), asked, domain, count, format)


@audit.command("export")
def audit_export(
    to: Annotated[Path, typer.Option(help="The folder to write. It must not be there yet.")],
    first: Annotated[int | None, typer.Option(min=0, help="The first index.")] = None,
    end: Annotated[int | None, typer.Option(min=0, help="The index after the last.")] = None,
    since: Annotated[
        str | None, typer.Option(help="By time: from then on, a time, or how long ago, like 7d or 12h.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only until then, likewise.")] = None,
    format: Annotated[
        list[ExportFormat] | None, typer.Option("--format", "-f", help="What else to write; may be said repeatedly.")
    ] = None,
    sealed: Annotated[bool, typer.Option(help="The sealed parts too. They stay sealed.")] = False,
) -> None:
    """Write a range of the audit log into a folder that can be verified elsewhere. LOCAL ONLY.

    The leaves are always written (JSONL), with a manifest that ties every file to a signed checkpoint. It works on the
    server's own machine while the server runs. An export is recorded when it begins and when it ends, with what was
    asked for, as done by system:operator.
    """
    settings = settings_or_exit()
    with exits():
        from server.cli.audit_export import asked, export

        export(settings, to, asked(first, end, since, until, sealed=sealed), format or ())


@audit.command("show")
def audit_show(
    id: Annotated[str, typer.Argument(help="The action's id, or the index of a record: 1234 or #1234.")],
    domain: Annotated[str | None, typer.Option(help="Ask as an auditor of this domain does, and not of all.")] = None,
    format: Annotated[Format, typer.Option(help="For a person, or JSON.")] = Format.TABLE,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Tell everything that is recorded of one action, and prove it.

    It asks the server, as `chamberlain api` does and with the same credentials, which have to be an auditor's. What is
    sealed is opened for them. That each record is in the log as it is told is checked here; a domain's auditor, who is
    shown a part of it, is given no proof. A problem is printed on standard error, and the exit code is 1.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit_search import whole_id
    from server.cli.audit_show import show

    with exits():
        whom = credentials(settings.credentials_path, endpoint)
        code = show(whom, whole_id(whom, id, domain), domain, format)
    raise typer.Exit(code)


@audit.command("prove")
def audit_prove(
    id: Annotated[str, typer.Argument(help="The action's id, as `audit tail` and every record tell it.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; standard output if unsaid.")] = None,
    phase: Annotated[Phase | None, typer.Option(help="Which of its records, where it has several.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Write a file that proves by itself that a record is in the log (C2SP tlog-proof).

    It holds the record's public part, its place in the log, and a signed checkpoint. It is checked before it is
    written, with the keys that the server names; `audit verify` checks it with keys of your own.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit_prove import prove

    with exits():
        code = prove(credentials(settings.credentials_path, endpoint), id, phase, output)
    raise typer.Exit(code)


@audit.command("keys")
def audit_keys(
    endorsements: Annotated[
        bool, typer.Option("--endorsements", help="The notes by which one vouches for the next, in place of the keys.")
    ] = False,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Print the keys that the log is signed with, and those that it was: what to give to whoever checks it.

    Whoever has the first one already takes the endorsements, and need not be told the others on another way.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit_prove import keys as show_keys

    with exits():
        code = show_keys(credentials(settings.credentials_path, endpoint), endorsements)
    raise typer.Exit(code)


@audit.command("hash")
def audit_hash(
    format: Annotated[Format, typer.Option(help="The hash alone, or JSON.")] = Format.TABLE,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Tell the keyed hash that the log holds in place of a secret, to find the records that speak of it.

    The value is read from standard input, or asked for; never an argument. It asks the server, which neither keeps nor
    logs it. Then: chamberlain api GET /admin/audit-records --filter '{"hash": {"equals": "hmac-sha256:..."}}'
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit_hash import hash_value

    with exits():
        code = hash_value(credentials(settings.credentials_path, endpoint), format)
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


@audit.command("verify")
def audit_verify(
    path: Annotated[Path | None, typer.Argument(help="The folder of an export, or the file of a proof.")] = None,
    server: Annotated[bool, typer.Option("--server", help="Check the live server, all of it.")] = False,
    key: Annotated[list[str] | None, typer.Option(help="A key of the log, name+id+base64, from elsewhere.")] = None,
    witness: Annotated[list[str] | None, typer.Option(help="A witness's key; one of them has to vouch.")] = None,
    endorsement: Annotated[
        list[Path] | None, typer.Option(help="A file of notes by which keys of the log vouch for further ones.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A file with an older checkpoint that you kept.")
    ] = None,
    dropped: Annotated[bool, typer.Option("--dropped", help="Records may be there by their hash alone.")] = False,
    remember: Annotated[Path | None, typer.Option(help="Keep the checkpoint here, for next time.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Check the audit log, and trust nobody but the keys that you bring.

    All hashes are computed anew and held to the signed checkpoint, and to every older one that is given. It ends with 1
    and the first index where something is wrong. For the live server it needs an auditor's credentials, as `chamberlain
    api` does. audit/verify.py makes the same checks by itself, to be read whole and run without this program.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit_verify import trusted, verify

    with exits():
        who = (lambda: credentials(settings.credentials_path, endpoint)) if server else None
        keys = trusted(key or (), endorsement or ())
        verify(path, who, keys, witness or (), checkpoint or (), remember, dropped)


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
