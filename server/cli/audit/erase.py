"""``chamberlain audit erase``: what the log says of a person becomes unreadable."""

from typing import Annotated
from urllib.parse import quote

import typer

from server.cli.audit.options import EndpointOption
from server.cli.exits import exits, settings_or_exit
from server.cli.output import confirm


def command(
    user: Annotated[str, typer.Argument(help="The id of a user who has been purged.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the id once more.")] = False,
    endpoint: EndpointOption = None,
) -> None:
    """Make what the log says of a person unreadable, for good: their key is thrown away, and no record changes.

    It asks the server, as `chamberlain api` does and with the same credentials, which have to be a superadmin's.
    """
    settings = settings_or_exit()
    from server.cli.api import Call, credentials, send, show_answer

    with exits():
        who = credentials(settings.credentials_path, endpoint)
        if not yes:
            confirm("Nobody will ever read again what is sealed about this person. Type the id to erase it", user)
        response = send(who, Call("POST", f"/admin/audit-subjects/{quote(user, safe='')}/erase", {}))
        show_answer(response, err=not response.is_success)
    raise typer.Exit(0 if response.is_success else 1)
