"""Archives of the audit log: where its partitions are kept that have left the database, or are about to."""

from datetime import datetime

from pydantic import Field

from actions.model import Kept
from actions.query import BooleanFilter, DateTimeFilter, Filter, IntFilter, StringFilter, UUIDFilter
from actions.standard import Standard
from actions.vocabulary import GET, SEARCH, Entity, ScopeType

AUDIT_ARCHIVE = Entity("audit_archive", "audit_archives", watched=True)


class AuditArchive(Kept):
    """Part of the log, checked and written down before it left."""

    partition: str = Field(description="Its name in the database.")
    dropped: bool = Field(description="Whether it is there no more: its records are in the archive alone.")
    since: datetime | None = Field(description="Its actions began from here on; null: it is the first part of all.")
    until: datetime = Field(description="And before this.")
    first_index: int = Field(description="The archive's first index.")
    end_index: int = Field(description="The first index after it.")
    records: int = Field(description="How many records the partition had.")
    location: str = Field(description="The folder that was checked, as whoever dropped the partition named it.")
    digest: str = Field(description="The SHA-256 of the archive's `manifest.json`.")
    checkpoint: int = Field(description="The size of the tree whose signed checkpoint covers the archive.")
    account: str = Field(description="Who dropped it: an account of the machine's operating system.")


class AuditArchiveFilter(Filter):
    id: UUIDFilter | None = None
    partition: StringFilter | None = None
    dropped: BooleanFilter | None = None
    until: DateTimeFilter | None = None
    first_index: IntFilter | None = None
    end_index: IntFilter | None = None
    digest: StringFilter | None = None
    created_at: DateTimeFilter | None = None


AUDIT_ARCHIVES = Standard(
    AUDIT_ARCHIVE, AuditArchive, filter=AuditArchiveFilter, orders=("created_at", "until", "first_index")
)
A = ScopeType.ADMIN

SPECS = (
    *AUDIT_ARCHIVES.offer(GET, A, sentence="Show where a part of the audit log is kept that was dropped."),
    *AUDIT_ARCHIVES.offer(SEARCH, A, sentence="Search for where parts of the audit log are kept that were dropped."),
)
