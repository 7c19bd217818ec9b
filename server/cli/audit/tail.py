"""``chamberlain audit tail``: the latest records, and each further one: from this machine's database, or the server."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.audit.options import CountOption
from server.cli.audit.rows import COLUMNS, WIDTHS, row
from server.cli.exits import exits, settings_or_exit
from server.cli.output import Format, show_json, show_line, show_table

if TYPE_CHECKING:
    from actions.entities.audit_record import Tailed
    from server.settings import Settings


def command(
    count: CountOption = 20,
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
            from server.cli.audit.watching import tail

            tail(credentials(settings.credentials_path, endpoint), domain, count, format, follow=follow)
            return
        (_follow if follow else _show)(settings, count, format)


def _show(settings: "Settings", count: int, form: Format) -> None:
    from server.cli.local import run, tail

    records = run(settings, lambda: tail(settings, count)).records
    if form is Format.JSON:
        for record in records:
            show_json(record, indent=None)
    else:
        show_table(COLUMNS, [row(record) for record in records])


def _follow(settings: "Settings", count: int, form: Format) -> None:
    """The same, and every further record, until Ctrl-C. A row whose columns are wider than usual is wider."""
    from server.cli.local import follow, run

    def show(tailed: "Tailed") -> None:
        for record in tailed.records:
            if form is Format.JSON:
                show_json(record, indent=None)
            else:
                show_line(row(record), WIDTHS)

    if form is Format.TABLE:
        show_line(COLUMNS, WIDTHS)
    with suppress(KeyboardInterrupt):
        run(settings, lambda: follow(settings, count, show))
