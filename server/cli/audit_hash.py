"""``chamberlain audit hash``: the keyed hash of a value that is typed or piped in, and never an argument: those are
seen by whoever lists processes, and kept by shells."""

import sys
from getpass import getpass

import typer

from server.cli.api import Call, send, show_answer
from server.cli.output import CannotRun, Format, show_json
from server.cli.signing_client import Credentials


def hash_value(who: Credentials, form: Format) -> int:
    """Ask for the hash and print it: 0, or 1 for a problem, which goes to standard error."""
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
