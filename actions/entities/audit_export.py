"""Exporting the audit log: a range of its leaves, exactly as they are kept, with what ties them to a checkpoint.

An export is a stream. Its first part says what the range is and what it is checked by; each part brings some of the
leaves, and says where the next one begins. Whoever has the last one hangs up.
"""

from typing import Annotated

from pydantic import Field

from actions.entities.audit_record import AUDIT_RECORDS
from actions.model import Input, Output, Time
from actions.streams import Part
from actions.vocabulary import Operation, ScopeType

EXPORT = Operation("export", on_item=False, reads=True, conflicts=True)
Index = Annotated[int, Field(ge=0, le=2**53 - 1)]


class ExportQuestion(Input):
    """A range by index, or one by time. Whatever is left out is as far as the log goes."""

    first: Index | None = Field(default=None, description="The first index.")
    end: Index | None = Field(default=None, description="The index after the last.")
    since: Time | None = Field(
        default=None, description="With `until`, in place of indexes: every record made from here on ..."
    )
    until: Time | None = Field(
        default=None, description="... and before this, in the smallest range of indexes that holds them all."
    )
    sealed: bool = Field(default=False, description="With the sealed parts, which stay sealed.")
    after: Index | None = Field(
        default=None, description="Of that range what comes after this index, for whoever has the rest already."
    )


class ExportRange(Output):
    """What an export holds, and what shows that the log holds it."""

    origin: str = Field(description="The name of the log.")
    first: int
    end: int = Field(description="The index after the last.")
    checkpoint: str = Field(description="A checkpoint that covers the range, with all its signatures.")
    before: list[str] = Field(description="The hashes of the subtrees before `first`, widest first.")
    consistency: list[str] = Field(
        description="The proof from the tree of `end` leaves to the checkpoint's (RFC 6962); empty if it is that."
    )
    checkpoints: list[str] = Field(
        description="Checkpoints that were signed along the range, in order; of more than 1000, every so many."
    )
    keys: list[str] = Field(description="The log's keys. For convenience: whoever checks has them from elsewhere.")


class ExportEntry(Output):
    """One leaf."""

    index: int
    hash: str = Field(description="The leaf's hash as the tree has it, in hex.")
    leaf: str | None = Field(description="The leaf's bytes; null where the record's time was over and it was dropped.")
    sealed: dict[str, str] | None = Field(
        default=None, description="If asked for: the sealed part of each person it speaks of, by the person's id."
    )


class ExportPart(Output):
    range: ExportRange | None = Field(description="In the first part only.")
    entries: list[ExportEntry]
    next: int | None = Field(description="Where the next part begins; null in the last.")


SPECS = AUDIT_RECORDS.offer(
    EXPORT,
    ScopeType.ADMIN,
    input=ExportQuestion,
    output=Part[ExportPart],
    stream="part",
    sentence="Export a range of the audit log, with what it is verified by.",
)
