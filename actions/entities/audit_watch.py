"""Watching the audit log: the records of a search, as a stream that goes on with each new one once it is numbered.

It shows what a search shows and no more, so whoever may search may watch.
"""

from typing import Annotated

from pydantic import Field

from actions.entities.audit_record import AUDIT_RECORDS, AuditFilter, AuditRecord, DomainAuditFilter
from actions.model import Input
from actions.streams import Part
from actions.vocabulary import SEARCH, Operation, ScopeType

WATCH = Operation("watch", on_item=False, reads=True, tells_of=SEARCH)
_After = Annotated[
    int | None,
    Field(
        ge=-1,
        lt=2**63,
        description="Begin after the record of this index, -1: with the first of all; left out: with what comes next.",
    ),
]


class DomainAuditWatch(Input):
    filter: DomainAuditFilter | None = Field(default=None, description="Only what a search would find by it.")
    after: _After = None


class AuditWatch(Input):
    filter: AuditFilter | None = Field(default=None, description="Only what a search would find by it.")
    after: _After = None


_SENTENCE = "Follow the audit records {where}, each as soon as it is numbered."
SPECS = tuple(
    spec
    for scope_type, asked in ((ScopeType.ADMIN, AuditWatch), (ScopeType.DOMAIN, DomainAuditWatch))
    for spec in AUDIT_RECORDS.offer(
        WATCH, scope_type, input=asked, output=Part[AuditRecord], sentence=_SENTENCE, stream="record"
    )
)
