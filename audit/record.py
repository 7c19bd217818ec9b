"""The audit record, version 1: what was asked, decided and done, in the form in which it is kept for good.

A ``Draft`` is the account as the pipeline tells it. Sealing (``audit.redaction``) turns it into a ``Record``: the
*leaf bytes*, canonical JSON that is never rewritten and that proofs are made over, and beside them the sealed part,
encrypted under the key of each person it speaks of. The leaf holds commitments to the sealed part, so destroying a
person's key leaves the log verifiable. The columns beside the leaf repeat some of it for searching; they prove nothing.

This module knows no database and no pipeline.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import orjson
from uuid_utils.compat import uuid7

VERSION = 1
LONGEST = 256
"""Bytes that a caller-controlled string may take in a record."""


class Phase(StrEnum):
    """Which part of an action a record tells. Most have one, ``done``; an effect outside the database has an
    ``intent`` before it and an ``outcome`` after it; ``settled`` closes what was left open. A stream has ``opened`` and
    ``closed``: one that was opened and not closed runs still, or its process was killed."""

    DONE = "done"
    INTENT = "intent"
    OUTCOME = "outcome"
    SETTLED = "settled"
    OPENED = "opened"
    CLOSED = "closed"


class Columns(NamedTuple):
    """What a record can be searched by. Ids only; lineage of the scope and of the target."""

    action_id: UUID
    phase: Phase
    at: datetime
    action: str
    result: str
    principal: str
    principal_id: UUID | None = None
    request_id: str = ""
    scope_type: str = ""
    scope_domain_id: UUID | None = None
    scope_project_id: UUID | None = None
    scope_user_id: UUID | None = None
    target_id: str | None = None
    target_domain_id: UUID | None = None
    target_project_id: UUID | None = None
    target_user_id: UUID | None = None
    rule: str | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before sealing. ``public`` becomes the leaf; ``personal`` is sealed, grouped by subject."""

    columns: Columns
    public: Mapping[str, object]
    personal: Mapping[UUID, Mapping[str, object]] = field(default_factory=dict, repr=False)
    hashes: tuple[str, ...] = ()
    """The keyed hashes in ``public``, for finding the record by them."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it is stored. ``sealed`` is None when it speaks of nobody."""

    columns: Columns
    leaf: bytes
    sealed: bytes | None = field(repr=False)
    hashes: str | None = None
    """Keyed hashes of the secrets that it speaks of, with spaces between them: what it is found by, not part of it."""

    def row(self) -> tuple[object, ...]:
        """Its values in the order of the table's columns (``audit.log.COLUMN_NAMES``)."""
        return (*self.columns, self.leaf, self.sealed, self.hashes)


def new_id() -> UUID:
    """A fresh id, for actions and for what they make. Ids grow with time (UUID version 7): indexes stay compact."""
    return uuid7()


def canonical(value: object) -> bytes:
    """Canonical JSON: sorted keys, no white space, UTF-8. Times are RFC 3339 in UTC with microseconds."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS, default=str)


def cut(text: str, limit: int = LONGEST) -> str:
    """A caller-controlled string, no longer than ``limit`` bytes of UTF-8 and with nothing that breaks a line."""
    if text.isascii() and text.isprintable():
        return text[:limit]
    printable = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:limit]
    )
    return printable.encode()[:limit].decode(errors="ignore")
