"""The installation itself: its first start, and the way back in when every administrator is locked out.

Internal: no surface serves these; only the system principals run them, on the machine itself.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, SecretStr

from actions.model import PERSONAL, SECRET, Input, Name, Output
from actions.standard import Standard
from actions.vocabulary import Entity, Operation, ScopeType

INSTALLATION = Entity("installation", "installations")
BOOTSTRAP = Operation("bootstrap", on_item=False)
RECOVER = Operation("recover", on_item=False)
SWEEP = Operation("sweep", on_item=False)
RESEAL = Operation("reseal", on_item=False)


class Superadmin(Input):
    username: Annotated[Name, PERSONAL]
    password: SecretStr


class Swept(Output):
    signatures: int
    logins: int


Sealed = Literal["subject_key", "keypair", "signing_key", "audit_key"]
"""What holds something that the key ring sealed, in the order in which it is resealed."""


class Place(BaseModel):
    """Up to where everything that is sealed was gone over: what, and the last row of it; none: none yet."""

    what: Sealed
    after: UUID | None = None


class Resealing(Input):
    at: Place | None = None


class Resealed(Output):
    """``unopened`` are the values that do not open, each named; ``next`` is where to go on."""

    values: int
    unopened: list[str]
    next: Place | None


class Credentials(Output):
    user_id: UUID
    username: Annotated[str, PERSONAL]
    access_key: str
    secret_key: Annotated[str, SECRET] = Field(repr=False)


INSTALLATIONS = Standard(INSTALLATION, Credentials)

SPECS = (
    *INSTALLATIONS.offer(
        BOOTSTRAP,
        ScopeType.ADMIN,
        input=Superadmin,
        internal=True,
        sentence="Make the first domain, project and superadmin of an empty installation.",
    ),
    *INSTALLATIONS.offer(
        RECOVER,
        ScopeType.ADMIN,
        input=Superadmin,
        internal=True,
        sentence="Give a superadmin a new password and key pair, from the machine itself.",
    ),
    *INSTALLATIONS.offer(
        SWEEP,
        ScopeType.ADMIN,
        output=Swept,
        internal=True,
        sentence="Forget the request signatures that are too old to be replayed, and the logins that ended long ago.",
    ),
    *INSTALLATIONS.offer(
        RESEAL,
        ScopeType.ADMIN,
        input=Resealing,
        output=Resealed,
        internal=True,
        sentence="Seal what older keys of the key ring have sealed with the active one, a batch of it.",
    ),
)
