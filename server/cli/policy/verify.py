"""``chamberlain policy verify``: whether evidence is what the installation signed. It needs no server."""

import hashlib
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.exits import exits
from server.cli.output import CannotRun, complain
from server.cli.policy.who_could import DOCUMENT, KEY, TABLE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def command(
    folder: Annotated[Path, typer.Argument(help="What `chamberlain policy who-could --out` wrote.")],
    key: Annotated[
        Path | None,
        typer.Option(help="The evidence key, from whom you trust; unset: the one beside it."),
    ] = None,
) -> None:
    """Check the signatures of evidence. The exit code is 1 if a file is not what was signed.

    The key that lies beside the evidence proves nothing about who signed it: compare its fingerprint with what
    `chamberlain api GET /admin/policies/evidence_key` tells a reader of the policy, or name a key file of your own.
    """
    from cryptography.exceptions import InvalidSignature

    with exits():
        public, fingerprint = _key(key or folder / KEY)
        broken = []
        for name in (DOCUMENT, TABLE):
            try:
                public.verify(_read(folder / f"{name}.sig"), _read(folder / name))
            except InvalidSignature:
                broken.append(name)
    if broken:
        for name in broken:
            complain(f"{folder / name} is NOT what the key {fingerprint} signed")
        raise typer.Exit(1)
    typer.echo(f"{folder}: {DOCUMENT} and {TABLE} are what the key {fingerprint} signed.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CannotRun(f"{path} cannot be read: {error.strerror}") from None


def _key(path: Path) -> "tuple[Ed25519PublicKey, str]":
    """The key, and the fingerprint by which people compare it. Raises ``CannotRun``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        raw = b64decode(_read(path).strip(), validate=True)
        return Ed25519PublicKey.from_public_bytes(raw), hashlib.sha256(raw).hexdigest()[:16]
    except ValueError:
        raise CannotRun(f"{path} holds no evidence key: 32 bytes in base64") from None
