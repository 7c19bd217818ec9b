"""``chamberlain audit prove``: the proof of a record, to hand to somebody who is to check it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.record import Phase
from server.cli.audit.options import EndpointOption
from server.cli.exits import exits, settings_or_exit
from server.cli.output import CannotRun, unsteered

if TYPE_CHECKING:
    from server.cli.proofs import Checked
    from server.cli.signing_client import Credentials


def command(
    id: Annotated[str, typer.Argument(help="The action's id, or the index of a record: 1234 or #1234.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; standard output if unsaid.")] = None,
    phase: Annotated[Phase | None, typer.Option(help="Which of its records, where it has several.")] = None,
    endpoint: EndpointOption = None,
) -> None:
    """Write a file that proves by itself that a record is in the log (C2SP tlog-proof).

    It holds the record's public part, its place in the log, and a signed checkpoint. It is checked before it is
    written, with the keys that the server names; `audit verify` checks it with keys of your own.
    """
    settings = settings_or_exit()
    from server.cli.api import credentials
    from server.cli.audit.log import whole_id

    with exits():
        whom = credentials(settings.credentials_path, endpoint)
        code = _prove(whom, whole_id(whom, id, None), phase, output)
    raise typer.Exit(code)


def _prove(who: "Credentials", action_id: str, phase: Phase | None, output: Path | None) -> int:
    """Write the proof file of a record, after checking it: 0, or 1 for a problem, which goes to standard error."""
    from server.cli.api import show_answer
    from server.cli.proofs import ask, checked

    response = ask(who, action_id, phase)
    if not response.is_success:
        show_answer(response, err=True)
        return 1
    found = checked(response.json())
    if len(found) > 1:
        phases = ", ".join(unsteered(one.phase) for one in found)
        raise CannotRun(f"the action has several records: say --phase, one of {phases}")
    [one] = found
    if output is None:
        typer.echo(one.text, nl=False)
    else:
        _write(output, one.text)
    _tell(one)
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_bytes(text.encode())
    except OSError as error:
        raise CannotRun(f"{path} cannot be written: {error.strerror}") from None


def _tell(one: "Checked") -> None:
    """Say what was checked, on standard error: standard output is for the file."""
    from server.cli.proofs import vouching

    checkpoint = one.proof.checkpoint
    typer.echo(
        f"record {one.proof.index} of {checkpoint.size} in {unsteered(checkpoint.origin)}: it is there", err=True
    )
    for vouched in one.vouched:
        typer.echo(unsteered(vouching(vouched)), err=True)
