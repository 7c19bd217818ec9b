"""Signed notes (C2SP signed-note): a text, and lines by which named keys vouch for it.

Two kinds of Ed25519 signature are known: the plain one that a log makes (type 1), and the cosignature of a witness,
which says when it was made (type 4, C2SP tlog-cosignature). What else stands under a note is passed over, as the
specification asks. Knows no database and no tree.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_DASH = "\N{EM DASH} "


class NoteBroken(ValueError):
    """A text is no signed note, or no key; the message says what is wrong with it."""


class Kind(IntEnum):
    """What a signature is made over."""

    PLAIN = 1
    COSIGNATURE = 4


@dataclass(frozen=True, slots=True)
class Verifier:
    """The public half of a key: whom a signature is believed to be of."""

    name: str
    public: bytes
    kind: Kind = Kind.PLAIN

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell the keys of one name apart."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        """The key as people pass it on: ``name+id+base64``."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(bytes([self.kind]) + self.public).decode()}"

    @classmethod
    def read(cls, text: str) -> "Verifier":
        """Raises ``NoteBroken``."""
        name, key_id, key = [*text.strip().split("+", 2), "", ""][:3]
        try:
            told = b64decode(key, validate=True)
            found = cls(name, told[1:], Kind(told[0]))
        except (ValueError, IndexError) as error:
            raise NoteBroken(f"{text[:80]!r} is no key: it is written name+id+base64") from error
        if not name or len(found.public) != 32 or found.key_id.hex() != key_id:
            raise NoteBroken(f"{text[:80]!r} is no key: its id is not that of its name and bytes")
        return found


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)
    kind: Kind = Kind.PLAIN

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.name, self.private.public_key().public_bytes_raw(), self.kind)

    def sign(self, text: str, at: int = 0) -> str:
        """The line by which this key vouches for a text; ``at`` is the time of a cosignature, in seconds."""
        stamp = at.to_bytes(8, "big") if self.kind is Kind.COSIGNATURE else b""
        signature = self.private.sign(_signed(self.kind, text, at))
        return f"{_DASH}{self.name} {b64encode(self.verifier.key_id + stamp + signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Vouched:
    """Who vouches for a note; ``at`` is None where the signature does not say when it was made."""

    by: Verifier
    at: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """A text, with its line feed at the end, and the signature lines under it."""

    text: str
    signatures: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(self.signatures)}"

    @classmethod
    def read(cls, told: str) -> "Note":
        """Raises ``NoteBroken``. Looks at no signature."""
        text, gap, below = told.rpartition("\n\n")
        lines = below.splitlines(keepends=True)
        if not gap or not lines or any(not line.startswith(_DASH) or line[-1] != "\n" for line in lines):
            raise NoteBroken("this is no signed note: a text, an empty line, and lines of signatures")
        return cls(text + "\n", tuple(lines))

    def vouched(self, keys: Iterable[Verifier]) -> list[Vouched]:
        """Which of the keys vouch for the text. Raises ``NoteBroken`` if a line in a key's name is not of that key."""
        known = {(key.name, key.key_id): key for key in keys}
        found = []
        for line in self.signatures:
            name, _, told = line.removeprefix(_DASH).rstrip("\n").rpartition(" ")
            try:
                bytes_ = b64decode(told, validate=True)
            except ValueError as error:
                raise NoteBroken(f"a signature of {name!r} is no base64") from error
            if (key := known.get((name, bytes_[:4]))) is not None:
                found.append(_checked(key, self.text, bytes_[4:]))
        return found


def _checked(key: Verifier, text: str, signature: bytes) -> Vouched:
    at = None
    if key.kind is Kind.COSIGNATURE:
        at, signature = int.from_bytes(signature[:8], "big"), signature[8:]
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, _signed(key.kind, text, at or 0))
    except InvalidSignature as error:
        raise NoteBroken(f"the signature of {key.name} (key {key.key_id.hex()}) does not hold") from error
    return Vouched(key, at)


def _signed(kind: Kind, text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode() if kind is Kind.COSIGNATURE else text.encode()


def signed(text: str, signers: Sequence[Signer]) -> Note:
    """A text that each of the signers vouches for."""
    return Note(text, tuple(signer.sign(text) for signer in signers))
