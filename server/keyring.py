"""The installation's key ring: what secrets at rest are sealed with. Each key has an id, one is active.

A sealed value names the key it was sealed with, so that keys can be rotated: new values take the active key, old ones
still open until they are resealed and their key is retired. Kept in one file of mode 0600 in the data folder, or
wherever the settings say, and followed there: what runs seals with the key that the file says is active now. Losing it
loses every key pair's secret and the personal part of every record.
"""

import fcntl
import json
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from actions.errors import Unavailable

HASHES = "keyed hashes"
"""The purpose of the key under which the log holds keyed hashes."""


class KeyRingError(Exception):
    """The key file cannot be used; the message names the file and what is wrong with it."""


class KeyRing:
    """Seals and opens values with AES-256-GCM. ``purpose`` is bound to each value: it opens for no other."""

    def __init__(
        self, keys: dict[str, bytes], active: str, path: Path | None = None, derivation: bytes | None = None
    ) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._derivation = derivation or _derivation(next(iter(keys.values())))
        self._active = active
        self._path = path
        self._seen: tuple[int, ...] | None = None

    @property
    def active(self) -> str:
        """The id of the key that seals now."""
        if self._path is not None and self._seen != _state(self._path):
            self._follow(self._path)
        return self._active

    def derived(self, purpose: str) -> bytes:
        """32 bytes for a purpose, the same for as long as the ring is kept, whichever of its keys are retired."""
        return HKDFExpand(hashes.SHA256(), 32, f"chamberlain {purpose}".encode()).derive(self._derivation)

    def seal(self, plaintext: bytes, purpose: str) -> bytes:
        """``<key id>:<nonce><ciphertext>``, with the key that the file says is active now. Raises ``Unavailable`` where
        no file says so: what is sealed with a key that no file holds is lost."""
        try:
            name = self.active
        except KeyRingError as error:
            raise Unavailable("The key ring cannot be used.", reason="key-ring-unavailable") from error
        nonce = os.urandom(12)
        return name.encode() + b":" + nonce + self._ciphers[name].encrypt(nonce, plaintext, purpose.encode())

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
            self._follow(self._path)
        return self._ciphers.get(name)

    def _follow(self, path: Path) -> None:
        """Hold what the file holds, and no more."""
        seen = _state(path)  # before it is read: what changes meanwhile is seen the next time
        ring = _Stored.read(path).ring(path)
        self._ciphers, self._active, self._seen = ring._ciphers, ring._active, seen

    @classmethod
    def load(cls, path: Path) -> "KeyRing":
        """Read the key file, making it if there is none. Raises ``KeyRingError``."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone_with(path):
                if not path.exists():
                    _write(path, _Stored({}, "").grown())
        seen = _state(path)
        ring = _Stored.read(path).ring(path)
        ring._seen = seen
        return ring


@dataclass(frozen=True)
class _Stored:
    """What the file says. ``derivation`` is there once the key that it comes from may have gone."""

    keys: dict[str, bytes] = field(repr=False)
    active: str
    since: str | None = None
    derivation: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, path: Path) -> "_Stored":
        _state(path)
        if path.stat().st_mode & 0o077:
            raise KeyRingError(f"{path} can be read by others; its mode must be 0600")
        try:
            told = json.loads(path.read_text())
            keys = {str(name): b64decode(key, validate=True) for name, key in told["keys"].items()}
            if told["active"] not in keys or any(len(key) != 32 for key in keys.values()):
                raise ValueError("no active key of 32 bytes")
            kept = told.get("derivation")
            derivation = None if kept is None else b64decode(kept, validate=True)
            if derivation is not None and len(derivation) != 32:
                raise ValueError("what is derived from is not 32 bytes")
            since = told.get("since")
            if since is not None:
                datetime.fromisoformat(since)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise KeyRingError(f"{path} is not a key file: {type(error).__name__}") from None
        return cls(keys, told["active"], since, derivation)

    def ring(self, path: Path) -> KeyRing:
        return KeyRing(self.keys, self.active, path, self.derivation)

    def grown(self) -> "_Stored":
        """With another key, which is active. Its id is one that no key of the ring has had."""
        numbers = [int(name[1:]) for name in self.keys if name[:1] == "k" and name[1:].isdecimal()]
        name = f"k{max(numbers, default=0) + 1}"
        keys = {**self.keys, name: secrets.token_bytes(32)}
        return replace(self, keys=keys, active=name, since=datetime.now(UTC).isoformat())

    def without(self, names: Collection[str]) -> "_Stored":
        """Less some keys. What was derived from the oldest is derived from what is left of it: that opens nothing."""
        keys = {name: key for name, key in self.keys.items() if name not in names or name == self.active}
        return replace(self, keys=keys, derivation=self.derivation or _derivation(next(iter(self.keys.values()))))


@dataclass(frozen=True)
class Standing:
    """Which keys the file holds. ``since`` is when the active one was made, if the file says."""

    active: str
    older: frozenset[str]
    since: datetime | None


def standing(path: Path) -> Standing:
    """Raises ``KeyRingError``."""
    stored = _Stored.read(path)
    since = None if stored.since is None else datetime.fromisoformat(stored.since).astimezone(UTC)
    return Standing(stored.active, frozenset(stored.keys) - {stored.active}, since)


def rotate(path: Path) -> str:
    """Add a key to the file and make it the active one; returns its id. What runs seals with it from now on."""
    return _changed(path, _Stored.grown).active


def remove(path: Path, names: Collection[str]) -> None:
    """Take keys out of the file for good; the active one stays. What they sealed opens no more."""
    _changed(path, lambda stored: stored.without(names))


def _changed(path: Path, change: Callable[[_Stored], _Stored]) -> _Stored:
    with _alone_with(path):
        stored = change(_Stored.read(path))
        _write(path, stored)
        return stored


def _derivation(key: bytes) -> bytes:
    return HKDF.extract(hashes.SHA256(), None, key)


def _state(path: Path) -> tuple[int, ...]:
    """By what a file is known to be another than before: it is only ever replaced."""
    try:
        stat = path.stat()
    except OSError as error:
        raise KeyRingError(f"{path} cannot be read: {error.strerror}") from None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size, stat.st_mode


@contextmanager
def _alone_with(path: Path) -> Iterator[None]:
    """Two who change the file take turns: each begins with what the other has left. What was changed is durable at the
    end: a key that seals and is lost with the power would take with it what it sealed."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, stored: _Stored) -> None:
    """Replace the file in one step, so that a crash leaves the old one or the new one."""
    told: dict[str, object] = {"active": stored.active}
    told["keys"] = {name: b64encode(key).decode() for name, key in stored.keys.items()}
    if stored.since is not None:
        told["since"] = stored.since
    if stored.derivation is not None:
        told["derivation"] = b64encode(stored.derivation).decode()
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(told, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
