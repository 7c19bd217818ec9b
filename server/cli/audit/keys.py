"""``chamberlain audit keys``: what the log is signed with."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.audit.options import EndpointOption
from server.cli.exits import exits, settings_or_exit
from server.cli.output import Refused, unsteered

if TYPE_CHECKING:
    from server.cli.signing_client import Credentials

_PAGE = 100


def command(
    endorsements: Annotated[
        bool, typer.Option("--endorsements", help="The notes by which one vouches for the next, in place of the keys.")
    ] = False,
    endpoint: EndpointOption = None,
) -> None:
    """Print the keys that the log is signed with, and those that it was: what to give to whoever checks it.

    Whoever has the first one already takes the endorsements, and need not be told the others on another way.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials

    with exits():
        code = _show(credentials(settings.credentials_path, endpoint), endorsements=endorsements)
    raise typer.Exit(code)


def _show(who: "Credentials", *, endorsements: bool) -> int:
    """Print the keys that the log was ever signed with, the oldest first, each on a line as verifiers take it; or the
    notes by which they vouch for one another."""
    from server.cli.api import Call, send, show_answer

    told: list[dict[str, Any]] = []
    while True:
        params = {"order": ["created_at"], "limit": [str(_PAGE)], "offset": [str(len(told))]}
        response = send(who, Call("GET", "/admin/audit-keys", params))
        if not response.is_success:
            show_answer(response, err=True)
            return 1
        items = response.json()["items"]
        told += items
        if len(items) < _PAGE:
            break
    if endorsements:
        for note in (key["endorsement"] for key in told if key["endorsement"]):
            typer.echo("".join(f"{unsteered(line)}\n" for line in note.splitlines()), nl=False)
        return 0
    for key in told:
        typer.echo(unsteered(key["public_key"]))
    if not told:
        raise Refused("the log has no key yet")
    return 0
