"""The history checker: what clients were told, held against the log and against the rows.

It is pure. A history is what was asked and told, the records, and the rows as they are in the end; what comes out is a
list of what cannot be. Each thing is changed by one client, one change after the other, so its records in their order
say exactly what its row must be.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What may be wrong."""

    LOST = "lost"
    """Something was told to be done, or shown, and the log does not say so."""
    INVENTED = "invented"
    """The log says that something was done, and it was not, or its caller was told that it was not."""
    DUPLICATE = "duplicate"
    OPEN = "open"
    """What became of a change is not known, and nobody has found out."""
    INDEX = "index"
    CHECKPOINT = "checkpoint"
    ANSWER = "answer"
    """An answer that is no answer: a 500, or a 503 that does not say when to come back."""
    SLOW = "slow"
    """A refusal that came later than it is promised, or nothing at all for as long as anybody waits."""
    RECOVERY = "recovery"
    FAILOVER = "failover"
    COUNT = "count"
    """Failures to sign that stand in the log neither one by one nor as a number; or more of them than there were."""


@dataclass(frozen=True, slots=True)
class Wrong:
    kind: Kind
    what: str


@dataclass(frozen=True, slots=True)
class Told:
    """One request, and what its client was told. ``status`` is 0 where there was no answer at all.

    ``makes`` is how many records of changes it makes if it is done: none for a read, one, or one for each of a batch.
    """

    request_id: str
    what: str
    makes: int
    status: int
    reason: str = ""
    action_id: str | None = None
    retry_after: bool = True
    begun: float = 0.0
    ended: float = 0.0
    silent: bool = False
    """Nothing came, not even the end of the connection, for as long as its client waited."""
    overtaken: bool = False
    """The server's clock jumped meanwhile: who signed before it and was heard after it signed at a wrong time."""

    @property
    def done(self) -> bool:
        return 200 <= self.status < 300

    @property
    def unknown(self) -> bool:
        return self.reason == "outcome-unknown"

    @property
    def refused(self) -> bool:
        """Told that nothing was done."""
        return self.status >= 400 and not self.unknown


@dataclass(frozen=True, slots=True)
class Kept:
    """A record. ``changes`` is the operation on the target's row, or empty for what changes none; ``text`` the
    description that it gave the row, if it did."""

    request_id: str
    action_id: str
    phase: str
    result: str
    target: str | None = None
    changes: str = ""
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    version: int
    text: str
    deleted: bool


COUNTED = (401, 429)
"""What strangers are told. Of these only some have a record of their own; the others are counted."""
STRANGER = "stranger"
"""What a request is called that is signed badly, on purpose."""


def unrecorded(told: Sequence[Told], kept: Sequence[Kept]) -> int:
    """How many failures have to stand in the log as a part of a number."""
    recorded = {record.request_id for record in kept}
    return sum(one.status in COUNTED and one.request_id not in recorded for one in told)


def check_counts(unrecorded: int, counted: int, *, killed: bool) -> list[Wrong]:
    """Failures without a record of their own, and those that the log counts. A worker that was ``killed`` takes with
    it what it had not told yet; one that ends in good order takes nothing."""
    if counted > unrecorded:
        return [Wrong(Kind.COUNT, f"{counted} failures are counted, and there were {unrecorded}")]
    if counted < unrecorded and not killed:
        return [Wrong(Kind.COUNT, f"{unrecorded} failures have no record, and {counted} are counted")]
    return []


def check(told: Sequence[Told], kept: Sequence[Kept], rows: Mapping[str, Row]) -> list[Wrong]:
    """What cannot be. ``kept`` is in the order of the log."""
    by_request: dict[str, list[Kept]] = defaultdict(list)
    for record in kept:
        by_request[record.request_id].append(record)
    found = [*_twice(kept), *_against_rows(kept, rows)]
    ids = {record.action_id for record in kept}
    for one in told:
        found += _of_one(one, by_request[one.request_id], ids)
    return found


def _twice(kept: Sequence[Kept]) -> Iterator[Wrong]:
    for (action, phase), count in Counter((record.action_id, record.phase) for record in kept).items():
        if count > 1:
            yield Wrong(Kind.DUPLICATE, f"{count} records of {action}, {phase}")
    ends: dict[str, set[str]] = defaultdict(set)
    for record in kept:
        if record.phase in ("done", "settled"):
            ends[record.action_id].add(record.result)
    for action, results in ends.items():
        if len(results) > 1:
            yield Wrong(Kind.DUPLICATE, f"{action} ended as {' and '.join(sorted(results))}")


def _of_one(one: Told, records: Sequence[Kept], ids: set[str]) -> Iterator[Wrong]:
    changed = [record for record in records if record.changes and record.result == "succeeded"]
    name = f"{one.what} {one.request_id} ({one.status} {one.reason})"
    if one.status >= 500 and one.status != 503:
        yield Wrong(Kind.ANSWER, f"{name}: no such answer is promised")
    if one.status in COUNTED and one.what != STRANGER and not one.overtaken:
        yield Wrong(Kind.ANSWER, f"{name}: an honest caller is turned away")
    if one.status == 503 and not one.retry_after:
        yield Wrong(Kind.ANSWER, f"{name}: it does not say when to come back")
    if one.done and len(changed) < one.makes:
        yield Wrong(Kind.LOST, f"{name}: {len(changed)} of {one.makes} records")
    if one.status and one.status not in (*COUNTED, 503) and not records:
        yield Wrong(Kind.LOST, f"{name}: no record")
    if one.done and records and all(record.result != "succeeded" for record in records):
        yield Wrong(Kind.LOST, f"{name}: the log says that it was {records[0].result}")
    if 400 <= one.status < 500 and any(record.result == "succeeded" for record in records):
        yield Wrong(Kind.INVENTED, f"{name}: the log says that it succeeded")
    if one.refused and changed:
        yield Wrong(Kind.INVENTED, f"{name}: told that nothing was done, and the log says otherwise")
    if len(changed) > one.makes:
        yield Wrong(Kind.DUPLICATE, f"{name}: {len(changed)} records of {one.makes}")
    if one.unknown and one.action_id not in ids:
        yield Wrong(Kind.OPEN, f"{name}: nothing closes {one.action_id}")


def _against_rows(kept: Sequence[Kept], rows: Mapping[str, Row]) -> Iterator[Wrong]:
    lives: dict[str, list[Kept]] = defaultdict(list)
    for record in kept:
        if record.changes and record.result == "succeeded" and record.target:
            lives[record.target].append(record)
    for target, row in rows.items():
        if target not in lives:
            yield Wrong(Kind.LOST, f"{target} is there, and the log does not say who made it (version {row.version})")
    for target, changes in lives.items():
        if (there := rows.get(target)) is None:
            yield Wrong(Kind.INVENTED, f"{target}: {len(changes)} changes are recorded of what is not there")
            continue
        if there.version != len(changes):
            kind = Kind.LOST if there.version > len(changes) else Kind.INVENTED
            yield Wrong(kind, f"{target} was changed {there.version} times; {len(changes)} are recorded")
        texts = [record.text for record in changes if record.text is not None]
        if texts and there.text != texts[-1]:
            yield Wrong(Kind.INVENTED, f"{target} says {there.text!r}; the last record says {texts[-1]!r}")
        if there.deleted != (changes[-1].changes == "delete"):
            yield Wrong(
                Kind.INVENTED, f"{target}: deleted is {there.deleted}; the last record is {changes[-1].changes}"
            )


@dataclass(frozen=True, slots=True)
class Leaf:
    """A row of the tree, and the leaf bytes that the record of its action and phase holds now."""

    index: int
    hash: bytes
    bytes: bytes | None
