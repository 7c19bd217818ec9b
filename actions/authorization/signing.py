"""Signed policies: who has put a name to a policy's digest, and whether that name counts.

The signature stands in ``policy.sig`` beside the files: one line of base64, by Ed25519, over the digest of the files
behind a prefix, so that it can be taken for nothing else. Which keys count is told by whoever asks. This module
decides nothing, and knows neither the settings nor the database.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from actions.authorization.source import PolicySource, read_folder

SIGNATURE_FILE = "policy.sig"
_PREFIX = b"chamberlain policy v1\n"
_SIGNATURE_BYTES = 64
_KEY_BYTES = 32
_READ_AT_MOST = 4096
_SIGN = "Sign the folder: chamberlain policy sign."


class NotSigned(ValueError):
    """A signature is asked for, and there is none that counts. The message is a finding."""


class NoKey(ValueError):
    """A text is no public key; the message says what is wrong with it."""


@dataclass(frozen=True)
class TrustedKeys:
    """The public keys that count, by the names of their owners. Without any, no signature is asked for."""

    keys: Mapping[str, Ed25519PublicKey]

    @classmethod
    def read(cls, texts: Iterable[str]) -> "TrustedKeys":
        """From texts like ``alice:<base64 of 32 bytes>``. Raises ``NoKey``."""
        keys: dict[str, Ed25519PublicKey] = {}
        for text in texts:
            name, colon, key = text.partition(":")
            if not (name and colon) or not name.isprintable() or " " in name:
                raise NoKey("each key looks like name:base64, as `chamberlain policy keygen` prints it")
            if name in keys:
                raise NoKey(f"two keys are called {name}")
            raw = _decoded(key)
            if raw is None or len(raw) != _KEY_BYTES:
                raise NoKey(f"the key of {name} is not the base64 of 32 bytes")
            keys[name] = Ed25519PublicKey.from_public_bytes(raw)
        return cls(MappingProxyType(keys))

    def signer(self, digest: str, signature: str | None) -> str | None:
        """Whose key the signature of a digest is by; None if none is asked for. Raises ``NotSigned``."""
        if not self.keys:
            return None
        if signature is None:
            _refuse("There is no signature, and this server takes signed policies alone", _SIGN)
        if not is_signature(signature):
            _refuse("This is no signature, which is one line: the base64 of 64 bytes", _SIGN)
        for name, key in self.keys.items():
            try:
                key.verify(b64decode(signature), _signed(digest))
            except InvalidSignature:
                continue
            return name
        message = "The signature is of other files than these, or by none of the keys that this server trusts"
        _refuse(message, "Look at what changed since it was signed; then sign it anew.")


def is_signature(text: str) -> bool:
    """Whether a text has the form of a signature, whoever it is by."""
    raw = _decoded(text)
    return raw is not None and len(raw) == _SIGNATURE_BYTES


def signature_of(digest: str, key: Ed25519PrivateKey) -> str:
    """The signature of a digest, as it stands in ``policy.sig`` and as it is sent, without the end of the line."""
    return b64encode(key.sign(_signed(digest))).decode()


def public_text(name: str, key: Ed25519PublicKey) -> str:
    """A public key as ``TrustedKeys`` reads it."""
    return f"{name}:{b64encode(key.public_bytes_raw()).decode()}"


def read_signed(folder: Path) -> PolicySource:
    """The policy files of a folder as they are now, with their signature if there is one. Never raises."""
    return replace(read_folder(folder), signature=_read_signature(folder / SIGNATURE_FILE))


def _read_signature(path: Path) -> str | None:
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return file.read(_READ_AT_MOST).decode("ascii", "replace").removesuffix("\n")
    except OSError:
        return None


def _signed(digest: str) -> bytes:
    return _PREFIX + digest.encode()


def _decoded(text: str) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _refuse(message: str, hint: str) -> NoReturn:
    raise NotSigned(f"{SIGNATURE_FILE}:1:1: error: {message}. {hint}")
