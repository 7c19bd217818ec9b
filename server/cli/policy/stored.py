"""What the commands about stored versions share: finding one by the beginning of its digest, and telling of it."""

import re
import time
from pathlib import Path

import httpx
import typer

from actions.authorization.signing import read_signed
from actions.entities.policy import ActivationKind, PolicyHistory, PolicyVersion
from actions.query import Page
from server.cli.api import Call, credentials, send
from server.cli.exits import settings_or_exit
from server.cli.output import CannotRun, Format, Refused, show_json, unsteered
from server.cli.policy.asking import ask, files_of
from server.cli.policy.choice import chosen_folder
from server.cli.policy.words import short

_PREFIX = re.compile(r"[0-9a-f]{4,64}")
_WAIT_SECONDS = 30.0
_IN_A_ROW = 5


def resolved(prefix: str, endpoint: str | None) -> str:
    """The whole digest of the one stored version that begins so. Raises ``CannotRun`` and ``Refused``."""
    if not _PREFIX.fullmatch(prefix):
        raise CannotRun(f"{unsteered(prefix)!r} is no digest, nor 4 or more of its first characters (0-9, a-f)")
    if len(prefix) == 64:
        return prefix
    found = beginning_with(prefix, endpoint)
    if found is None:
        raise CannotRun(f"no stored version begins with {prefix}; `chamberlain policy versions` lists them")
    return found


def beginning_with(prefix: str, endpoint: str | None) -> str | None:
    """The digest of the one stored version that begins so; None: there is none. Raises ``CannotRun`` for several."""
    question = {"filter": {"id": {"starts_with": prefix}}, "limit": 2}
    found = ask("GET", "/admin/policies", question, Page[PolicyVersion], endpoint).items
    if len(found) > 1:
        raise CannotRun(f"more than one stored version begins with {prefix}; write more of it")
    return found[0].id if found else None


def uploaded(folder: Path | None, reason: str | None, endpoint: str | None) -> PolicyVersion:
    """Have a folder checked and stored as a version, with the signature in it. Raises ``CannotRun`` and ``Refused``."""
    chosen = chosen_folder(folder)
    question = {"files": files_of(chosen), "signature": read_signed(chosen).signature, "reason": reason}
    return ask("POST", "/admin/policies", question, PolicyVersion, endpoint)


def tell_activated(version: PolicyVersion, form: Format, endpoint: str | None) -> None:
    """What an activation or a rollback has done, and what to do next."""
    if form is Format.JSON:
        show_json(version.model_dump(mode="json"))
        return
    typer.echo(f"active now: {short(version.id)}")
    question = {"version": version.id, "limit": 1}
    try:
        [entry] = ask("GET", "/admin/policies/history", question, PolicyHistory, endpoint).items
    except (Refused, CannotRun):  # it is done all the same, by somebody who may not read of it
        return
    if entry.left in (None, version.id):
        return
    left = short(entry.left)
    if entry.kind is ActivationKind.ROLLED_BACK:
        typer.echo(f"refused now: {left}, until it is activated by name")
        typer.echo(
            "A policy folder that still holds it will not bring it back. Put the folders right, too: /readyz?verbose "
            "of each server tells whether its folder is the active version."
        )
    else:
        typer.echo(f"left: {left}; `chamberlain policy rollback` goes back to it")


def wait_until_deciding(digest: str, endpoint: str | None) -> None:
    """Wait until the server decides by a version: several answers in a row say so, for each worker answers for itself.

    Raises ``CannotRun`` when it does not come about.
    """
    who = credentials(settings_or_exit().credentials_path, endpoint)
    deadline, in_a_row = time.monotonic() + _WAIT_SECONDS, 0
    while in_a_row < _IN_A_ROW:
        response = send(who, Call("GET", "/readyz", {"verbose": ["1"]}))
        in_a_row = in_a_row + 1 if f"version {short(digest)}" == _decides_by(response) else 0
        if time.monotonic() > deadline:
            raise CannotRun(f"it is active, but not every worker decides by it after {_WAIT_SECONDS:.0f} s")
        time.sleep(0.05)


def _decides_by(response: httpx.Response) -> str | None:
    try:
        return str(response.json()["checks"]["policy"]["detail"])
    except (ValueError, KeyError, TypeError):  # something else answers there, or it is about to start
        return None
