"""``chamberlain policy download``: the files of a stored version, in a folder."""

import re
from pathlib import Path
from typing import Annotated

import typer

from server.cli.exits import exits
from server.cli.output import CannotRun
from server.cli.policy.options import EndpointOption, StoredArgument

_NAME = re.compile(r"(?:tests/)?[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def command(
    version: StoredArgument,
    out: Annotated[Path, typer.Option(help="The folder to write to. It is made, or has to be empty.")],
    endpoint: EndpointOption = None,
) -> None:
    """Write the files of a stored version of the policy into a folder, with its signature if it has one."""
    from actions.authorization.signing import SIGNATURE_FILE
    from actions.entities.policy import StoredFiles
    from server.cli.policy.asking import ask
    from server.cli.policy.stored import resolved
    from server.cli.policy.words import short

    with exits():
        _make_empty(out)
        digest = resolved(version, endpoint)
        told = ask("GET", f"/admin/policies/{digest}/files", {}, StoredFiles, endpoint)
        files = dict(told.files)
        if told.signature is not None:
            files[SIGNATURE_FILE] = f"{told.signature}\n"
        _write(out, files)
        typer.echo(f"{out}: {len(files)} files of version {short(digest)}")


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = next(folder.iterdir(), None) is not None
    except OSError as error:
        raise CannotRun(f"{folder} cannot be written to: {error.strerror}") from None
    if occupied:
        raise CannotRun(f"{folder} is not empty; nothing is written where something is")


def _write(folder: Path, files: dict[str, str]) -> None:
    if strange := next((name for name in files if not _NAME.fullmatch(name)), None):
        raise CannotRun(f"the server names a file {strange!r}, which is no name of a policy file")
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text.encode())
    except OSError as error:
        raise CannotRun(f"{error.filename} cannot be written: {error.strerror}") from None
