"""Audit records, as they are read. The pipeline writes them, never an action: there is no word for making, changing or
removing one.

What is regular in a record has a field; what only some kinds of record have stands in ``more`` as it was written. So a
record of any kind comes out, an old one as well.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from actions.hooks import Result
from actions.model import Input, Output
from actions.query import DateTimeFilter, EnumFilter, Filter, IntFilter, Operators, StringFilter, UUIDFilter
from actions.standard import Standard
from actions.vocabulary import GET, SEARCH, Entity, Operation, ScopeType
from audit.record import Phase

AUDIT_RECORD = Entity("audit_record", "audit_records", watched=True)
TAIL = Operation("tail", on_item=False, reads=True)
LONGEST_TAIL = 1000


class AuditPrincipal(Output):
    """Who asked."""

    kind: str = Field(description="`user`, `system` or `anonymous`.")
    name: str = Field(description="`user:` and the user's id, or the name of a system principal.")
    credential: str | None = Field(
        default=None, description="The public id of what it proved itself with. A domain sees those of its own users."
    )


class AuditPlace(Output):
    """A scope, by its id."""

    type: str
    id: UUID


class AuditScope(Output):
    """Where it was asked."""

    type: str
    lineage: list[AuditPlace] | None = Field(
        default=None, description="The scope and all that contain it, narrowest first; null where it was not found."
    )
    asked_for: str | None = Field(
        default=None, description="The id that the caller named, where there is no such scope."
    )


class AuditTarget(Output):
    """What it was asked of."""

    id: str
    lineage: list[AuditPlace] | None = Field(
        default=None, description="Where that lies, narrowest first; null where it was not found."
    )


class AuditDecision(Output):
    """What the policy said."""

    allowed: bool
    rule: str | None = Field(description="`file:line` of the rule that decided, in the version `policy`.")
    policy: str = Field(description="The digest of the policy version.")
    roles: list[str] = Field(default_factory=list, description="The roles that counted.")


class AuditHeld(Output):
    """The roles that counted in a scope of this type."""

    scope: str
    roles: list[str]


class AuditUse(Output):
    """A thing that the input named, and whether it might be used."""

    field: str
    entity: str
    operation: str | None = Field(default=None, description="What was needed of it. Older records do not say.")
    held: list[AuditHeld] | None = Field(
        default=None,
        description="What it was decided with: the roles that counted where the thing lies, narrowest scope first.",
    )
    id: str | None = Field(description="A domain sees of what lies elsewhere that it was named, and no more.")
    allowed: bool | None
    rule: str | None


class AuditChange(Output):
    """A field of the target, before and after."""

    field: str
    old: Any = None
    new: Any = None
    confidential: str | None = Field(
        default=None,
        description="`personal`: the values are sealed. `secret`: they are nowhere. `omitted`: the audit policy wants "
        "them nowhere. What is `hashed`, and a secret perhaps, has a keyed hash in place of its value.",
    )


class AuditAsked(Output):
    """A part of the question: of a filter, an order, a page, or whatever else was asked beyond the address."""

    field: str = Field(description="Where it stands in the input; empty: what is left out for its length.")
    value: Any = None
    confidential: str | None = Field(
        default=None,
        description="`personal`: the value is sealed, so is what may be anything, a text that is no word. The others "
        "as of a change.",
    )
    more: int | None = Field(default=None, description="How many parts of it are left out.")


class AuditRequest(Output):
    id: str
    surface: str


class AuditRecord(Output):
    """One record, less what is sealed in it. An action has one, or one for each of its phases."""

    id: UUID = Field(description="The action's.")
    index: int | None = Field(
        default=None, description="Its place in the log, from 0 on; null for the moment until it has one."
    )
    phase: str
    at: datetime = Field(description="When the record was made.")
    action: str
    entity: str | None = None
    operation: str | None = None
    result: str
    principal: AuditPrincipal
    scope: AuditScope | None = None
    target: AuditTarget | None = None
    decision: AuditDecision | None = None
    uses: list[AuditUse] = Field(default_factory=list)
    asked: list[AuditAsked] = Field(default_factory=list, description="What was asked, beyond scope and target.")
    changes: list[AuditChange] = Field(default_factory=list)
    request: AuditRequest | None = None
    error: dict[str, Any] | None = Field(default=None, description="Why it did not succeed.")
    duration_us: int | None = Field(default=None, description="Microseconds from the request to the record.")
    more: dict[str, Any] = Field(
        default_factory=dict, description="What only some kinds of record have, as it was written."
    )


class Seal(StrEnum):
    """What became of a sealed part: ``open``, it is shown; ``erased``, its person's key is gone, for good;
    ``withheld``, it is about somebody outside the domain that asks; ``broken``, it is not what the record vouches
    for."""

    OPEN = "open"
    ERASED = "erased"
    WITHHELD = "withheld"
    BROKEN = "broken"


class AuditPersonalChange(Output):
    field: str
    old: Any = None
    new: Any = None


class AuditPersonalAsked(Output):
    field: str
    value: Any = None


class AuditPersonal(Output):
    """What a record says of one person."""

    subject: UUID | None = Field(description="The person; null for callers without an identity.")
    seal: Seal
    client_address: str | None = Field(default=None, description="Where the person's request came from.")
    changes: list[AuditPersonalChange] = Field(default_factory=list, description="Personal fields, old and new.")
    asked: list[AuditPersonalAsked] = Field(default_factory=list, description="What was sealed of the question.")
    more: dict[str, Any] = Field(default_factory=dict, description="Whatever else was sealed, as it was written.")


class OpenedRecord(AuditRecord):
    """One record, with what is sealed in it."""

    personal: list[AuditPersonal] = Field(default_factory=list)


class ArchivedAction(Output):
    """Where the records of an action are kept that are no longer here."""

    index: int = Field(description="Of the first of them.")
    location: str = Field(description="The archive, as whoever dropped them named it.")
    digest: str = Field(description="The SHA-256 of its `manifest.json`.")


class AuditedAction(Output):
    """An action with all of its records, in the order in which they were made."""

    id: UUID
    records: list[OpenedRecord]
    archived: ArchivedAction | None = Field(
        default=None, description="Where they are kept, if they have been archived and dropped; then none is here."
    )


class DomainAuditFilter(Filter):
    """What the log is searched by. Where a place lies outside the domain that searches, it is as if it were null."""

    id: UUIDFilter | None = None
    index: IntFilter | None = None
    phase: EnumFilter[Phase] | None = None
    at: DateTimeFilter | None = None
    action: StringFilter | None = None
    result: EnumFilter[Result] | None = None
    principal: StringFilter | None = None
    principal_id: UUIDFilter | None = None
    request_id: StringFilter | None = None
    scope_type: EnumFilter[ScopeType] | None = None
    scope_project_id: UUIDFilter | None = None
    scope_user_id: UUIDFilter | None = None
    target_id: StringFilter | None = None
    target_project_id: UUIDFilter | None = None
    target_user_id: UUIDFilter | None = None
    rule: StringFilter | None = None
    policy: StringFilter | None = None


class HashFilter(Operators):
    """A keyed hash is looked for as a whole."""

    equals: Annotated[str, StringConstraints(pattern=r"^hmac-sha256:[0-9a-f]{64}$")] | None = None


class AuditFilter(DomainAuditFilter):
    hash: HashFilter | None = Field(
        default=None, description="Records that hold this keyed hash; `audit_record` *hash* tells that of a value."
    )
    scope_domain_id: UUIDFilter | None = None
    target_domain_id: UUIDFilter | None = None


class Tail(Input):
    count: Annotated[int, Field(ge=1, le=LONGEST_TAIL)]


class Tailed(Output):
    records: list[dict[str, Any]] = Field(description="The public part of each record as it is kept, oldest first.")


AUDIT_RECORDS = Standard(AUDIT_RECORD, AuditRecord, filter=AuditFilter, orders=("id", "index"), descending=True)
A, D = ScopeType.ADMIN, ScopeType.DOMAIN
_SHOW = "Show what is recorded of an action {where}, with the personal parts opened."

SPECS = (
    *AUDIT_RECORDS.offer(GET, A, D, output=AuditedAction, sentence=_SHOW),
    *AUDIT_RECORDS.offer(SEARCH, A),
    *AUDIT_RECORDS.offer(SEARCH, D, filter=DomainAuditFilter),
    *AUDIT_RECORDS.offer(
        TAIL,
        A,
        input=Tail,
        output=Tailed,
        internal=True,
        sentence="Show the latest records of the audit log, on the machine itself.",
    ),
)
