"""``chamberlain audit hash``: the keyed hash of a value that is typed or piped in, and never an argument: those are
seen by whoever lists processes, and kept by shells."""

import sys
from getpass import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.audit.options import EndpointOption
from server.cli.exits import exits, settings_or_exit
from server.cli.output import CannotRun, Format, show_json

if TYPE_CHECKING:
    from server.cli.signing_client import Credentials


def command(
    format: Annotated[Format, typer.Option(help="The hash alone, or JSON.")] = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Tell the keyed hash that the log holds in place of a secret, to find the records that speak of it.

    The value is read from standard input, or asked for; never an argument. It asks the server, which neither keeps nor
    logs it. Then: chamberlain api GET /admin/audit-records --filter '{"hash": {"equals": "hmac-sha256:..."}}'
    """
    settings = settings_or_exit()
    from server.cli.api import credentials

    with exits():
        code = _hash(credentials(settings.credentials_path, endpoint), format)
    raise typer.Exit(code)


def _hash(who: "Credentials", form: Format) -> int:
    """Ask for the hash and print it: 0, or 1 for a problem, which goes to standard error."""
    from server.cli.api import Call, send, show_answer

    response = send(who, Call("POST", "/admin/audit-records/hash", {}, {"value": _value()}))
    if not response.is_success:
        show_answer(response, err=True)
        return 1
    told = response.json()
    if form is Format.JSON:
        show_json(told)
    else:
        typer.echo(told["hash"])
    return 0


def _value() -> str:
    """From a prompt that shows nothing, or the whole of standard input less the newline at its end."""
    try:
        value = getpass("Value: ", stream=sys.stderr) if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
    except (EOFError, KeyboardInterrupt, UnicodeDecodeError):
        value = ""
    if not value:
        raise CannotRun("there is no value on standard input")
    return value
