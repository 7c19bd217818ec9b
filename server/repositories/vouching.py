"""Who vouches for what is kept of the log's tree: its own keys, one after another, and its witnesses.

The database sees to it that a checkpoint is of a tree that there was, and a cosignature of a checkpoint. It checks no
signature, and whoever has the application's rights can write one that is none. So nothing is served, and nothing handed
out, before it was looked at here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import func, select

from actions.errors import Unavailable
from audit.checkpoint import Checkpoint
from audit.keychain import KeptKey, chain
from audit.note import Kind, Note, NoteBroken, Verifier
from audit.tree import audit_checkpoints, audit_logs
from server.repositories.database import Query, Row
from server.repositories.rows import audit_keys
from server.repositories.unit import Unit

Reads: TypeAlias = Callable[[Query, Mapping[str, object]], Awaitable[list[Row]]]
"""What runs a statement; a ``Database``'s ``fetch`` is one."""
AT_ONCE = 50
"""Signatures that are checked without a pause, of some 0.1 ms each."""
_first = select(func.min(audit_checkpoints.c.size)).scalar_subquery()
KEYS = Query(
    select(
        audit_keys.c.id,
        audit_keys.c.public_key,
        audit_keys.c.endorsement,
        audit_keys.c.sealed_private_key,
        audit_keys.c.not_after,
        (audit_keys.c.not_after <= func.clock_timestamp()).is_(True).label("over"),
        select(audit_logs.c.origin).scalar_subquery().label("origin"),
        select(audit_checkpoints.c.note).where(audit_checkpoints.c.size == _first).scalar_subquery().label("first"),
    ).order_by(audit_keys.c.created_at, audit_keys.c.id)
)


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The rows of the keys, oldest first."""

    own: tuple[Row, ...]
    """Those of the log."""
    strange: tuple[Row, ...]
    """Those that no key of the log vouches for: somebody wrote them who had no business to."""

    @property
    def verifiers(self) -> list[Verifier]:
        return [Verifier.read(row["public_key"]) for row in self.own]

    @property
    def public(self) -> list[str]:
        """As people pass them on."""
        return [row["public_key"] for row in self.own]


def log_keys(rows: Sequence[Row]) -> LogKeys:
    """What the rows of ``KEYS`` tell."""
    if not rows:
        return LogKeys((), ())
    kept = [KeptKey(row["public_key"], row["endorsement"]) for row in rows]
    trusted = chain(rows[0]["origin"], kept, rows[0]["first"])
    own = tuple(row for row in rows if row["public_key"] in trusted)
    return LogKeys(own, tuple(row for row in rows if row["public_key"] not in trusted))


def reading(unit: Unit) -> Reads:
    """Reads by a unit of work."""
    return lambda query, values: unit.read_all(query, **values)


async def kept_keys(reads: Reads) -> LogKeys:
    return log_keys(await reads(KEYS, {}))


class NotVouched(Unavailable):
    """No key of the log has signed what stands as its newest checkpoint."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"The checkpoint of {size} records is signed with no key of the log. Somebody else wrote it.",
            reason="checkpoint-not-signed",
        )


async def must_be_signed(reads: Reads, size: int, note: str) -> None:
    """Raises ``NotVouched`` unless a key of the log has signed a checkpoint."""
    if not _signed(note, (await kept_keys(reads)).verifiers):
        raise NotVouched(size)


async def signed_among(keys: LogKeys, notes: Sequence[str]) -> list[str]:
    """The checkpoints that a key of the log has signed."""
    found, verifiers = [], keys.verifiers
    for place, note in enumerate(notes):
        if place % AT_ONCE == 0:
            await asyncio.sleep(0)  # others of this worker wait for no more than these
        if _signed(note, verifiers):
            found.append(note)
    return found


def _signed(note: str, keys: Sequence[Verifier]) -> bool:
    try:
        told = Note.read(note)
        return told.text == Checkpoint.of(told).text() and bool(told.vouched(keys))
    except NoteBroken:
        return False


def true_lines(note: str, kept: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of witnesses (their keys) and the lines that are kept of them, those by which they do vouch for a checkpoint."""
    text = Note.read(note).text
    return [(witness, line) for witness, line in kept if _vouches(text, witness, line)]


def _vouches(text: str, witness: str, line: str) -> bool:
    try:
        key = Verifier.read(witness)
        return key.kind is Kind.COSIGNATURE and bool(Note.read(f"{text}\n{line.rstrip()}\n").vouched([key]))
    except NoteBroken:
        return False
