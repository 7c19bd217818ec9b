"""Keys of the audit log: what its checkpoints are signed with. Whoever checks it knows their public halves."""

from datetime import datetime

from pydantic import Field

from actions.model import Kept
from actions.query import DateTimeFilter, Filter, UUIDFilter
from actions.standard import Standard
from actions.vocabulary import GET, SEARCH, Entity, Operation, ScopeType

AUDIT_KEY = Entity("audit_key", "audit_keys", watched=True, governs=True)
ROTATE = Operation("rotate", on_item=False)
RENEW = Operation("renew", on_item=False)


class AuditKey(Kept):
    """The public half."""

    public_key: str = Field(description="As verifiers take it: `name+id+base64` (C2SP signed note, Ed25519).")
    not_after: datetime | None = Field(description="Signs no more from here on; null: it goes on.")
    endorsement: str | None = Field(
        description="The signed note by which the keys before it vouch for it; null: it is the first."
    )


class AuditKeyFilter(Filter):
    id: UUIDFilter | None = None
    not_after: DateTimeFilter | None = None
    created_at: DateTimeFilter | None = None
    updated_at: DateTimeFilter | None = None


AUDIT_KEYS = Standard(AUDIT_KEY, AuditKey, filter=AuditKeyFilter, orders=("created_at", "updated_at"))
A = ScopeType.ADMIN

SPECS = (
    *AUDIT_KEYS.offer(GET, A, sentence="Show a key that the audit log is signed with."),
    *AUDIT_KEYS.offer(SEARCH, A, sentence="Search the keys that the audit log is signed with."),
    *AUDIT_KEYS.offer(
        ROTATE, A, sentence="Sign the audit log with a new key too; the old one signs along for a week, then no more."
    ),
    *AUDIT_KEYS.offer(
        RENEW,
        A,
        internal=True,
        sentence="Make a key for the audit log where there is none, and put away those that sign no more.",
    ),
)
