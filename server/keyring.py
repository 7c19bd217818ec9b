"""The installation's key ring: what secrets at rest are sealed with. Each key has an id, one is active.

A sealed value names the key it was sealed with, so that keys can be rotated: new values take the active key, old ones
still open. Kept in one file of mode 0600 in the data folder, or wherever the settings say. Losing it loses every key
pair's secret and the personal part of every record.
"""

import json
import os
import secrets
from base64 import b64decode, b64encode
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HASHES = "keyed hashes"
"""The purpose of the key under which the log holds keyed hashes."""


class KeyRingError(Exception):
    """The key file cannot be used; the message names the file and what is wrong with it."""


class KeyRing:
    """Seals and opens values with AES-256-GCM. ``purpose`` is bound to each value: it opens for no other."""

    def __init__(self, keys: dict[str, bytes], active: str, path: Path | None = None) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._oldest = next(iter(keys.values()))
        self._active = active
        self._path = path

    def derived(self, purpose: str) -> bytes:
        """32 bytes for a purpose, the same for as long as the ring's oldest key is in it."""
        return HKDF(hashes.SHA256(), 32, None, f"chamberlain {purpose}".encode()).derive(self._oldest)

    def seal(self, plaintext: bytes, purpose: str) -> bytes:
        """``<key id>:<nonce><ciphertext>``."""
        nonce = os.urandom(12)
        box = self._ciphers[self._active].encrypt(nonce, plaintext, purpose.encode())
        return self._active.encode() + b":" + nonce + box

    def open(self, sealed: bytes, purpose: str) -> bytes:
        name, _, box = sealed.partition(b":")
        cipher = self._cipher(name.decode(errors="replace"))
        if cipher is None:
            raise KeyRingError(f"a value was sealed with the key {name[:32]!r}, which the key ring does not hold")
        try:
            return cipher.decrypt(box[:12], box[12:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise KeyRingError(f"a value of {purpose} does not open: it was altered, or belongs elsewhere") from error

    def _cipher(self, name: str) -> AESGCM | None:
        """A key by its id. One that is not known may have come since, and another process sealed with it."""
        if name not in self._ciphers and self._path is not None and self._path.exists():
            self._ciphers |= KeyRing.load(self._path)._ciphers
        return self._ciphers.get(name)

    @classmethod
    def load(cls, path: Path) -> "KeyRing":
        """Read the key file, making it if there is none. Raises ``KeyRingError``."""
        if not path.exists():
            _write(path, _grown({"active": "", "keys": {}}))
        if path.stat().st_mode & 0o077:
            raise KeyRingError(f"{path} can be read by others; its mode must be 0600")
        try:
            stored = json.loads(path.read_text())
            keys = {str(name): b64decode(key, validate=True) for name, key in stored["keys"].items()}
            if stored["active"] not in keys or any(len(key) != 32 for key in keys.values()):
                raise ValueError("no active key of 32 bytes")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise KeyRingError(f"{path} is not a key file: {type(error).__name__}") from None
        return cls(keys, stored["active"], path)


def rotate(path: Path) -> str:
    """Add a key to the file and make it the active one; returns its id. Running workers take it up at a restart."""
    KeyRing.load(path)
    stored = _grown(json.loads(path.read_text()))
    _write(path, stored)
    return str(stored["active"])


def _grown(stored: dict[str, object]) -> dict[str, object]:
    keys = dict(stored["keys"])  # type: ignore[call-overload]
    name = f"k{len(keys) + 1}"
    keys[name] = b64encode(secrets.token_bytes(32)).decode()
    return {"active": name, "keys": keys}


def _write(path: Path, stored: dict[str, object]) -> None:
    """Replace the file in one step, so that a crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(stored, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
