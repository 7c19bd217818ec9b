"""``chamberlain audit search``: the latest records by who, what, on what and when."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from actions.hooks import Result
from server.cli.audit.options import CountOption, DomainOption, EndpointOption
from server.cli.audit.rows import COLUMNS, row, shown_index
from server.cli.exits import exits, settings_or_exit
from server.cli.output import Format, show_json, show_table


def command(
    since: Annotated[str | None, typer.Option(help="Not before this time, or so long ago: 15m, 2h, 3d.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time, or so long ago.")] = None,
    who: Annotated[
        str | None, typer.Option(help="Done by this user (name or id) or principal (system:sweeper).")
    ] = None,
    on: Annotated[str | None, typer.Option(help="Done to this user (by name), or to what has this id.")] = None,
    action: Annotated[str | None, typer.Option(help="A part of the action's name: delete_user, keypair.")] = None,
    result: Annotated[Result | None, typer.Option(help="What came of it.")] = None,
    index: Annotated[str | None, typer.Option(help="At this index, or in this span: 100..200, 100.. .")] = None,
    count: CountOption = 20,
    domain: DomainOption = None,
    format: Annotated[Format, typer.Option(help="A table, or JSON with a record a line.")] = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Search the audit log, and show the latest records that match, the newest last.

    It asks the server, as `chamberlain api` does and with the same credentials, which have to be an auditor's. All
    that is given has to hold. Times without a zone are UTC.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit.log import Log, Question

    with exits():
        asked = Question(since, until, who, on, action, result, index)
        log = Log(credentials(settings.credentials_path, endpoint), domain)
        _show(log.latest(log.filter(asked), count), format)


def _show(records: Sequence[Mapping[str, Any]], form: Format) -> None:
    if form is Format.JSON:
        for record in records:
            show_json(record, indent=None)
    else:
        show_table(("index", *COLUMNS), [(shown_index(record), *row(record)) for record in records])
