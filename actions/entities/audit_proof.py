"""Proofs over the audit log: that a record is in it, that it only grew, and its entries one by one.

Each is decided as *get* of a record in the widest scope: what is proven is the whole leaf, so a domain, which sees only
its own half of a record, is given none.
"""

from uuid import UUID

from pydantic import Field

from actions.entities.audit_record import AUDIT_RECORDS
from actions.model import Input, Output, Unsaid
from actions.vocabulary import GET, Operation, ScopeType
from audit.record import Phase

PROVE = Operation("prove", reads=True, tells_of=GET, conflicts=True)
CONSISTENCY = Operation("consistency", on_item=False, reads=True, tells_of=GET)
ENTRIES = Operation("entries", on_item=False, reads=True, tells_of=GET)
MOST_ENTRIES = 256
_FURTHEST = 2**62


class ProofAsked(Input):
    phase: Unsaid[Phase] = Field(default=None, description="Which of its records; unsaid: all of them.")


class AuditProof(Output):
    """That one record is in the log."""

    phase: str
    index: int = Field(description="The record's place in the log, from 0 on.")
    proof: str = Field(description="A file that proves it by itself (C2SP tlog-proof); `extra` is the leaf.")


class ProvenAction(Output):
    """The proofs of an action's records, all of them under one checkpoint."""

    id: UUID
    size: int = Field(description="The records that the checkpoint covers.")
    proofs: list[AuditProof]
    keys: list[str] = Field(
        description="The keys of the log and of the checkpoint's witnesses as the server knows them: a convenience. "
        "Whoever does not trust the server has them from elsewhere."
    )


class Growth(Input):
    """Two sizes of the log."""

    first: int = Field(ge=1, le=_FURTHEST)
    second: Unsaid[int] = Field(
        default=None,
        ge=1,
        le=_FURTHEST,
        description="Not less than `first`; unsaid: what the newest checkpoint covers.",
    )


class AuditConsistency(Output):
    """That the log of one size begins with the log of the other (RFC 6962). Hashes are in hexadecimal."""

    first: int
    first_root: str
    second: int
    second_root: str
    hashes: list[str] = Field(description="The proof; empty if the two are the same.")


class EntryRange(Input):
    first: int = Field(ge=0, le=_FURTHEST)
    count: int = Field(default=MOST_ENTRIES, ge=1, le=MOST_ENTRIES)


class AuditEntry(Output):
    """One record as the tree has it."""

    index: int
    id: UUID = Field(description="The action's.")
    phase: str
    leaf: str | None = Field(description="The exact text that is hashed; null where the record's time was over.")
    hash: str = Field(description="Of the leaf, in hexadecimal: SHA-256 over a zero byte and its UTF-8.")


class AuditEntries(Output):
    """Records by their place in the log, as far as there are so many."""

    size: int = Field(description="The records that the newest checkpoint covers.")
    entries: list[AuditEntry]


A = ScopeType.ADMIN

SPECS = (
    *AUDIT_RECORDS.offer(
        PROVE, A, input=ProofAsked, output=ProvenAction, sentence="Prove that the records of an action are in the log."
    ),
    *AUDIT_RECORDS.offer(
        CONSISTENCY,
        A,
        input=Growth,
        output=AuditConsistency,
        sentence="Prove that the audit log only grew from one size to another.",
    ),
    *AUDIT_RECORDS.offer(
        ENTRIES,
        A,
        input=EntryRange,
        output=AuditEntries,
        sentence="Show records of the audit log by their place in it, as they are hashed.",
    ),
)
