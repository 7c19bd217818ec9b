"""Policy versions: immutable snapshots of the policy files, named by digest, one of them active."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from actions.model import WITHOUT_NUL, Input, Output, Shown, Text, Unsaid, without_nul
from actions.query import BooleanFilter, DateTimeFilter, Filter, StringFilter
from actions.standard import Standard
from actions.vocabulary import GET, SEARCH, Entity, Operation, ScopeType

POLICY = Entity("policy", "policies", uuid_keyed=False)
ACTIVATE = Operation("activate")
PUBLISH = Operation("publish", on_item=False)


class PolicyVersion(Output):
    id: str = Field(description="The SHA-256 digest of its files, in hexadecimal.")
    created_at: datetime
    active: bool
    refused: bool = Field(description="Left by a rollback: only activating it by name brings it back.")
    activated_at: datetime | None
    activated_by: str | None
    reason: str | None


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


class Activation(Input):
    reason: Annotated[Text, Field(min_length=1), Shown(pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]


class Publication(Input):
    """A checked folder of policy files, by name, on its way to being active."""

    digest: str
    files: dict[str, str]
    reason: str


class PolicyFilter(Filter):
    id: StringFilter | None = None
    active: BooleanFilter | None = None
    refused: BooleanFilter | None = None
    created_at: DateTimeFilter | None = None


POLICIES = Standard(POLICY, PolicyVersion, filter=PolicyFilter, orders=("created_at", "id"))

SPECS = (
    *POLICIES.offer(GET, ScopeType.ADMIN, sentence="Show a policy version."),
    *POLICIES.offer(SEARCH, ScopeType.ADMIN, sentence="Search the policy versions."),
    *POLICIES.offer(
        ACTIVATE,
        ScopeType.ADMIN,
        input=Activation,
        sentence="Make a stored policy version the one that decides, on every worker.",
    ),
    *POLICIES.offer(
        PUBLISH,
        ScopeType.ADMIN,
        input=Publication,
        internal=True,
        sentence="Store the policy folder's present version and make it active, unless a rollback has left it.",
    ),
)
