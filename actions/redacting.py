"""What of a change stands in its record: in the open, sealed, as a keyed hash, or by the name of its field alone.

A secret's value stands nowhere, whatever an audit policy says. This module decides no level; it is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from actions.auditing import Level, Redaction
from actions.hooks import Outcome
from audit.keyed import KeyedHashes
from audit.record import LONGEST, canonical, cut

OMITTED = "omitted"
HASHED = "hashed"


@dataclass(frozen=True, slots=True)
class Told:
    """A part of one record: its changes, or its question. ``personal`` is to be sealed: for each field its old and its
    new value, or what was asked of it."""

    public: list[dict[str, object]]
    personal: Mapping[str, object]
    hashes: tuple[str, ...]


NOTHING = Told([], {}, ())


def changes_of(outcome: Outcome, level: Level, hashes: KeyedHashes) -> Told:
    """What the record of an outcome tells of its changes."""
    if not outcome.changes:
        return NOTHING
    public: list[dict[str, object]] = []
    personal: dict[str, object] = {}
    made: list[str] = []
    entity, audit = outcome.action.spec.entity.name, outcome.audit
    for change in outcome.changes:
        named: dict[str, object] = {"field": change.name}
        redaction = audit.redaction(entity, change.name) if audit is not None else None
        kind = change.confidentiality
        if level is not Level.FULL:
            named["confidential"] = kind or OMITTED
        elif kind == "secret":
            named["confidential"] = kind
            if redaction is Redaction.HASH and isinstance(change.new, str):
                named["new"] = hashed(change.new, hashes, made)
        elif redaction is Redaction.OMIT:
            named["confidential"] = OMITTED
        elif kind:
            named["confidential"] = kind
            personal[change.name] = [change.old, change.new]
        elif redaction is Redaction.HASH:
            named["confidential"] = HASHED
            named |= {"old": hashed(change.old, hashes, made), "new": hashed(change.new, hashes, made)}
        else:
            named |= {"old": _bounded(change.old), "new": _bounded(change.new)}
        public.append(named)
    return Told(public, personal, tuple(made))


def hashed(value: object, hashes: KeyedHashes, made: list[str]) -> str | None:
    """The keyed hash of a value, noted in ``made``: of a text its own, of anything else that of its canonical JSON.
    There is none of nothing."""
    if value is None:
        return None
    found = hashes.of(value if isinstance(value, str) else canonical(value).decode())
    made.append(found)
    return found


def _bounded(value: object) -> object:
    return cut(value) if isinstance(value, str) and len(value.encode(errors="replace")) > LONGEST else value
