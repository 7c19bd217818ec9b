"""Audit records, as whoever works on the machine reads them. Records are written by the pipeline, never by an action.

Internal: no surface serves this; ``system:operator`` alone may, on the machine itself.
"""

from typing import Annotated, Any

from pydantic import Field

from actions.model import Input, Output
from actions.standard import Standard
from actions.vocabulary import Entity, Operation, ScopeType

AUDIT_RECORD = Entity("audit_record", "audit_records")
TAIL = Operation("tail", on_item=False, reads=True)
LONGEST_TAIL = 1000


class Tail(Input):
    count: Annotated[int, Field(ge=1, le=LONGEST_TAIL)]


class Tailed(Output):
    records: list[dict[str, Any]] = Field(description="The public part of each record as it is kept, oldest first.")


AUDIT_RECORDS = Standard(AUDIT_RECORD, Tailed)

SPECS = AUDIT_RECORDS.offer(
    TAIL,
    ScopeType.ADMIN,
    input=Tail,
    internal=True,
    sentence="Show the latest records of the audit log, on the machine itself.",
)
