"""Where a witness of the log is asked, and by which key it is known: ``name+id+base64@https://witness.example.org``."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from audit.note import Kind, NoteBroken, Verifier


@dataclass(frozen=True, slots=True)
class WitnessAddress:
    key: Verifier
    url: str
    """What stands before ``/add-checkpoint``; without a slash at the end."""

    @classmethod
    def read(cls, text: str) -> "WitnessAddress":
        """Raises ``ValueError``."""
        key, _, url = text.rpartition("@")
        try:
            found, parts = Verifier.read(key), urlsplit(url)
            usable = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
        except (NoteBroken, ValueError):
            usable = False
        if not usable or found.kind is not Kind.COSIGNATURE or parts.query or parts.fragment:
            raise ValueError(f"{text[:120]!r} is no witness: one is its key, an @, and the URL at which it is asked")
        return cls(found, url.rstrip("/"))


def read_witnesses(texts: Iterable[str]) -> tuple[WitnessAddress, ...]:
    """Raises ``ValueError``; the names of witnesses tell them apart."""
    found = tuple(WitnessAddress.read(text) for text in texts)
    names = [one.key.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two witnesses are called {twice}")
    return found
