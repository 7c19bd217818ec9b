"""Policy versions: immutable snapshots of the policy files, named by digest, one of them active."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from actions.model import WITHOUT_NUL, Input, Output, Shown, Text, Unsaid, without_nul
from actions.query import MAX_OFFSET, MAX_PAGE, BooleanFilter, DateTimeFilter, Filter, StringFilter
from actions.standard import Standard
from actions.vocabulary import CREATE, GET, SEARCH, Entity, Operation, ScopeType

POLICY = Entity("policy", "policies", uuid_keyed=False, governs=True)
ACTIVATE = Operation("activate")
PUBLISH = Operation("publish", on_item=False)
ROLLBACK = Operation("rollback", on_item=False)
FILES = Operation("files", reads=True, tells_of=GET)
HISTORY = Operation("history", on_item=False, reads=True, tells_of=GET)


class PolicyVersion(Output):
    id: str = Field(description="The SHA-256 digest of its files, in hexadecimal.")
    created_at: datetime
    active: bool
    refused: bool = Field(description="Left by a rollback: only activating it by name brings it back.")
    activated_at: datetime | None
    activated_by: str | None
    reason: str | None
    signed_by: str | None = Field(
        description="Whose key signed it, found when it was stored. Null: none was asked for."
    )
    uploaded_by: str | None = Field(description="Who stored it by hand. Null: it came from a policy folder.")
    upload_reason: str | None


Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^(?:tests/)?[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
PolicyFiles = Annotated[
    dict[FileName, Annotated[str, AfterValidator(without_nul), WITHOUT_NUL]],
    Field(min_length=1, max_length=100, description="The text of each file of a policy folder, by its name."),
    Shown(propertyNames={"pattern": r"^(?:tests/)?[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"}),
]


class PolicyQuestion(Input):
    """What is asked of a policy: of the active one, of a stored version by its digest, or of files stored nowhere.

    ``version`` and ``files`` exclude one another.
    """

    version: Unsaid[Digest] = Field(default=None, description="The digest of a stored version; unsaid: the active one.")
    files: Unsaid[PolicyFiles] = Field(default=None, description="A candidate's files, instead of a stored version.")


Reason = Annotated[Text, Field(min_length=1), Shown(pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
Signature = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9+/]{86}==$"),
    Field(description="An Ed25519 signature over the digest, in base64: what `policy.sig` holds."),
]


class Activation(Input):
    reason: Reason


class NewPolicy(Input):
    """A policy to be checked and stored. It decides nothing until it is activated."""

    files: PolicyFiles
    signature: Unsaid[Signature] = None
    reason: Unsaid[Reason] = None


class Rollback(Input):
    reason: Reason
    to: Unsaid[Digest] = Field(
        default=None,
        description="A version that was active before the present one; unsaid: the last such one that is not refused.",
    )


class Publication(Input):
    """A checked folder of policy files, by name, on its way to being active.

    ``before`` is what the folder held when it was last in force: the version that its change is a change of.
    """

    digest: str
    files: dict[str, str]
    reason: str
    signature: str | None = None
    before: str | None = None


class StoredFiles(Output):
    """The files of a stored version, as they were checked."""

    id: str
    files: dict[str, str] = Field(description="The text of each file, by its name.")
    signature: str | None = Field(description="What stood in `policy.sig` beside them.")


class ActivationKind(StrEnum):
    """How a version came to be active: a policy folder brought it, or somebody named it, or went back to it."""

    PUBLISHED = "published"
    ACTIVATED = "activated"
    ROLLED_BACK = "rolled_back"


class PolicyActivation(Output):
    """One entry of the history: from then on this version decided."""

    id: UUID
    version: str
    left: str | None = Field(description="The version that was active before it. Null: it was the first.")
    kind: ActivationKind
    at: datetime
    by: str
    reason: str


class HistoryAsked(Input):
    version: Unsaid[Digest] = Field(default=None, description="Only the activations of this version.")
    offset: int = Field(default=0, ge=0, le=MAX_OFFSET)
    limit: int = Field(default=20, ge=1, le=MAX_PAGE)


class PolicyHistory(Output):
    """Which version was active when, the newest first."""

    items: list[PolicyActivation]
    total_count: int
    offset: int
    limit: int


class PolicyFilter(Filter):
    id: StringFilter | None = None
    active: BooleanFilter | None = None
    refused: BooleanFilter | None = None
    created_at: DateTimeFilter | None = None


POLICIES = Standard(POLICY, PolicyVersion, create=NewPolicy, filter=PolicyFilter, orders=("created_at", "id"))

SPECS = (
    *POLICIES.offer(
        CREATE, ScopeType.ADMIN, sentence="Check a policy and store it as a version, which decides nothing yet."
    ),
    *POLICIES.offer(GET, ScopeType.ADMIN, sentence="Show a policy version."),
    *POLICIES.offer(SEARCH, ScopeType.ADMIN, sentence="Search the policy versions."),
    *POLICIES.offer(
        ACTIVATE,
        ScopeType.ADMIN,
        input=Activation,
        sentence="Make a stored policy version the one that decides, on every worker.",
    ),
    *POLICIES.offer(
        ROLLBACK,
        ScopeType.ADMIN,
        input=Rollback,
        sentence="Go back to a policy version that was active before, and refuse the one that is left.",
    ),
    *POLICIES.offer(FILES, ScopeType.ADMIN, output=StoredFiles, sentence="Show the files of a stored policy version."),
    *POLICIES.offer(
        HISTORY,
        ScopeType.ADMIN,
        input=HistoryAsked,
        output=PolicyHistory,
        sentence="Show which policy version was made active when, by whom and why.",
    ),
    *POLICIES.offer(
        PUBLISH,
        ScopeType.ADMIN,
        input=Publication,
        internal=True,
        sentence="Store the policy folder's present version and make it active, unless a rollback or a later version "
        "has left it.",
    ),
)
