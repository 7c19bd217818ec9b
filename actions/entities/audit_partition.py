"""Partitions of the audit log, a month each: listed, archived, and dropped once their time is over.

Internal, and on the machine itself alone: what drops a table is the role that owns it, which the server does not have.
"""

from dataclasses import replace
from datetime import datetime
from typing import Annotated

from pydantic import Field

from actions.entities.audit_export import ExportPart
from actions.model import Input, Nothing, Output
from actions.standard import Standard
from actions.vocabulary import Effect, Entity, Operation, ScopeType

AUDIT_PARTITION = Entity("audit_partition", "audit_partitions", uuid_keyed=False, watched=True, governs=True)
LIST = Operation("list", on_item=False, reads=True)
ARCHIVE = Operation("archive", on_item=False, reads=True)
DROP = Operation("drop", on_item=False)
Name = Annotated[str, Field(pattern=r"^audit_record_[a-z0-9_]{1,40}$")]


class AuditPartition(Output):
    """A part of the log's table. Times and indexes are null where it has no bound, or no record."""

    name: str
    since: datetime | None
    until: datetime | None
    records: int
    numbered: int = Field(description="How many of its records have their index.")
    first_index: int | None
    end_index: int | None = Field(description="The first index after it.")
    bytes: int
    location: str | None = Field(default=None, description="Where it is kept, if it has been dropped.")


class AuditPartitions(Output):
    partitions: list[AuditPartition] = Field(description="The oldest first; those that were dropped as well.")


class NamedPartition(Input):
    partition: Name


class PartitionDrop(Input):
    partition: Name
    archive: Annotated[str, Field(min_length=1, max_length=4096)] = Field(description="A folder on the machine.")
    older_than_days: Annotated[int, Field(ge=1, le=36_500)] | None = None


class DroppedPartition(Output):
    partition: str
    records: int
    first_index: int
    end_index: int
    digest: str
    was_there: bool = Field(description="Whether it was there still: a drop that was cut short may have done it.")


PARTITIONS = Standard(AUDIT_PARTITION, AuditPartition)
A = ScopeType.ADMIN

[_DROP] = PARTITIONS.offer(
    DROP,
    A,
    input=PartitionDrop,
    output=DroppedPartition,
    internal=True,
    sentence="Drop a part of the audit log that stands whole in an archive, on the machine itself.",
)

SPECS = (
    *PARTITIONS.offer(
        LIST,
        A,
        input=Nothing,
        output=AuditPartitions,
        internal=True,
        sentence="List the parts of the audit log, on the machine itself.",
    ),
    *PARTITIONS.offer(
        ARCHIVE,
        A,
        input=NamedPartition,
        output=ExportPart,
        internal=True,
        sentence="Copy a part of the audit log with what proves it, sealed parts as they are, on the machine itself.",
    ),
    replace(_DROP, effect=Effect.OUTSIDE),
)
