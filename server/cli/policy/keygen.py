"""``chamberlain policy keygen``: a key pair for signing policies. It needs no server."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from server.cli.output import CannotRun

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def command(
    out: Annotated[Path, typer.Option(help="The file for the private key. It must not be there yet.")],
    name: Annotated[str | None, typer.Option(help="Whose key it is; unset: what the file is called.")] = None,
) -> None:
    """Make a key for signing policies: the private part into a file for your eyes alone, the public part printed."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from actions.authorization.signing import public_text
    from server.cli.exits import exits

    with exits():
        owner = name if name is not None else out.stem
        if not _NAME.fullmatch(owner):
            raise CannotRun(f"--name: {owner!r} is no name; it is made of letters, digits and . _ @ -")
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(pem)
        except FileExistsError:
            raise CannotRun(f"{out} is there already; a key is never written over") from None
        except OSError as error:
            raise CannotRun(f"{out} cannot be written: {error.strerror}") from None
        typer.echo(f"{out} is the private key. Whoever has it signs as {owner}; it is shown nowhere.")
        typer.echo("Let your servers trust its public half, beside those that they trust already:")
        typer.echo(f"  CHAMBERLAIN_POLICY_PUBLIC_KEYS={public_text(owner, key.public_key())}")
