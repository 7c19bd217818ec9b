"""``chamberlain policy sign``: put a name to a policy folder. It needs no server."""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.output import CannotRun
from server.cli.policy.options import FolderArgument

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def command(
    key: Annotated[Path, typer.Option(help="Your private key, as `policy keygen` makes it.")],
    folder: FolderArgument = None,
) -> None:
    """Sign a policy folder: write the signature of its digest into policy.sig, in place of any before.

    A folder with errors is not signed. Whatever is changed afterwards needs a new signature.
    """
    from actions.authorization.signing import SIGNATURE_FILE, signature_of
    from server.cli.exits import exits
    from server.cli.policy.choice import chosen_folder, index_of
    from server.cli.policy.words import short

    with exits():
        private = _private_key(key)
        chosen = chosen_folder(folder)
        digest = index_of(chosen).digest
        _put(chosen / SIGNATURE_FILE, f"{signature_of(digest, private)}\n")
        typer.echo(f"{chosen / SIGNATURE_FILE}: signed version {short(digest)}")


def _private_key(path: Path) -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise CannotRun(f"{path} can be read by others; its mode must be 0600")
        found = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise CannotRun(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CannotRun(f"{path} holds no private key in PEM, or one behind a password") from None
    if not isinstance(found, Ed25519PrivateKey):
        raise CannotRun(f"the key in {path} is not of Ed25519")
    return found


def _put(path: Path, text: str) -> None:
    """In one step, so that a server that watches the folder never sees half of it."""
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(text)
        os.replace(draft, path)
    except OSError as error:
        raise CannotRun(f"{path} cannot be written: {error.strerror}") from None
