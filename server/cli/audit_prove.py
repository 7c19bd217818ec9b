"""``chamberlain audit prove`` and ``chamberlain audit keys``: what one hands to somebody who is to check the log."""

from pathlib import Path
from typing import Any

import typer

from audit.record import Phase
from server.cli.api import Call, send, show_answer
from server.cli.output import CannotRun, Refused, unsteered
from server.cli.proofs import Checked, ask, checked, vouching
from server.cli.signing_client import Credentials

_PAGE = 100


def prove(who: Credentials, action_id: str, phase: Phase | None, output: Path | None) -> int:
    """Write the proof file of a record, after checking it: 0, or 1 for a problem, which goes to standard error."""
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


def keys(who: Credentials, endorsements: bool = False) -> int:
    """Print the keys that the log was ever signed with, the oldest first, each on a line as verifiers take it; or the
    notes by which they vouch for one another."""
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


def _write(path: Path, text: str) -> None:
    try:
        path.write_bytes(text.encode())
    except OSError as error:
        raise CannotRun(f"{path} cannot be written: {error.strerror}") from None


def _tell(one: Checked) -> None:
    """Say what was checked, on standard error: standard output is for the file."""
    checkpoint = one.proof.checkpoint
    typer.echo(
        f"record {one.proof.index} of {checkpoint.size} in {unsteered(checkpoint.origin)}: it is there", err=True
    )
    for vouched in one.vouched:
        typer.echo(unsteered(vouching(vouched)), err=True)
