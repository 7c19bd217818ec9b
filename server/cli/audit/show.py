"""``chamberlain audit show``: all that is recorded of one action, with its proof."""

from typing import Annotated

import typer

from server.cli.audit.options import DomainOption, EndpointOption
from server.cli.exits import exits, settings_or_exit
from server.cli.output import Format


def command(
    id: Annotated[str, typer.Argument(help="The action's id, or the index of a record: 1234 or #1234.")],
    domain: DomainOption = None,
    format: Annotated[Format, typer.Option(help="For a person, or JSON.")] = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Tell everything that is recorded of one action, and prove it.

    It asks the server, as `chamberlain api` does and with the same credentials, which have to be an auditor's. What is
    sealed is opened for them. That each record is in the log as it is told is checked here; a domain's auditor, who is
    shown a part of it, is given no proof. A problem is printed on standard error, and the exit code is 1.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit.log import whole_id
    from server.cli.audit.telling import show

    with exits():
        whom = credentials(settings.credentials_path, endpoint)
        code = show(whom, whole_id(whom, id, domain), domain, format)
    raise typer.Exit(code)
