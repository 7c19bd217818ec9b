"""Which keys are a log's: the one that signed its first checkpoint, and each that such a key vouches for.

Whoever makes a key known has it endorsed by one before it: a signed note that names it. So whoever trusts the first key
comes to trust the last, and a key that merely stands among them vouches for nothing. Knows no database.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.note import Kind, Note, NoteBroken, Signer, Verifier, signed

_SAYS = "another key of this log"
"""In the place of a checkpoint's size, so that neither passes for the other."""


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A key as it is kept: ``name+id+base64``, and the note by which others vouch for it; the first one has none."""

    key: str
    endorsement: str | None


def endorsement(key: Verifier, signers: Sequence[Signer]) -> str:
    """The note by which keys of a log vouch for another one."""
    return str(signed(_statement(key), signers))


def endorsed(note: Note) -> Verifier:
    """The key that a note names. Raises ``NoteBroken``. Looks at no signature."""
    key = Verifier.read(note.text.split("\n")[-2])
    if note.text != _statement(key):
        raise NoteBroken("this endorses no key: the name of a log, what is said of a key of its own, and the key")
    return key


def chain(origin: str, kept: Iterable[KeptKey], first: str | None) -> frozenset[str]:
    """Those of the kept keys that are the log's. ``first`` is its first checkpoint; before there is one, a key that
    nobody vouches for may be the first."""
    waiting = {one.key: (key, one.endorsement) for one in kept if (key := _key_of(origin, one.key)) is not None}
    trusted = {
        told: key for told, (key, note) in waiting.items() if (note is None if first is None else _vouches(key, first))
    }
    while found := {
        told: key
        for told, (key, note) in waiting.items()
        if told not in trusted and note is not None and _names(note, key, trusted.values())
    }:
        trusted |= found
    return frozenset(trusted)


def widened(trusted: Sequence[Verifier], endorsements: Iterable[str]) -> list[Verifier]:
    """Keys, and those that they vouch for. Raises ``NoteBroken`` for a note that endorses nothing."""
    waiting = {endorsed(Note.read(told)): told for told in endorsements}
    found = list(trusted)
    while more := [key for key, note in waiting.items() if key not in found and _names(note, key, found)]:
        found += more
    return found


def _statement(key: Verifier) -> str:
    return f"{key.name}\n{_SAYS}\n{key}\n"


def _key_of(origin: str, told: str) -> Verifier | None:
    try:
        key = Verifier.read(told)
    except NoteBroken:
        return None
    return key if (key.name, key.kind, str(key)) == (origin, Kind.PLAIN, told) else None


def _names(told: str, key: Verifier, trusted: Iterable[Verifier]) -> bool:
    """Whether a trusted key of the same name says that this is another one."""
    try:
        if endorsed(Note.read(told)) != key:
            return False
    except NoteBroken:
        return False
    return any(_vouches(one, told) for one in trusted if one.name == key.name)


def _vouches(key: Verifier, told: str) -> bool:
    """Each key is asked for by itself: one that was made to look like another by its id spoils nothing."""
    try:
        return bool(Note.read(told).vouched([key]))
    except NoteBroken:
        return False
