"""Those of whom the audit log speaks: whether what it says of a person is still to be read, and erasing it.

Named by the user's id. Callers without an identity share the id of zeros.
"""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from actions.model import Output
from actions.standard import Standard
from actions.vocabulary import GET, Entity, Operation, ScopeType

AUDIT_SUBJECT = Entity("audit_subject", "audit_subjects", watched=True, governs=True)
ERASE = Operation("erase")


class AuditSubject(Output):
    """Somebody of whom the log speaks, or did."""

    id: UUID = Field(description="The user's id; zeros are all callers without an identity.")
    readable: bool = Field(description="Whether there is a key that opens what is sealed about it.")
    since: datetime = Field(description="When that key was made.")
    erased_at: datetime | None = Field(description="When what was sealed until then became unreadable for good.")


SUBJECTS = Standard(AUDIT_SUBJECT, AuditSubject)
A = ScopeType.ADMIN

SPECS = (
    *SUBJECTS.offer(GET, A, sentence="Show whether what the audit log says of a person can still be read."),
    *SUBJECTS.offer(ERASE, A, sentence="Erase what the audit log says of a person who has been purged, for good."),
)
