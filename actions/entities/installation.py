"""The installation itself: its first start, and the way back in when every administrator is locked out.

Internal: no surface serves these; only the system principals run them, on the machine itself.
"""

from typing import Annotated
from uuid import UUID

from pydantic import Field, SecretStr

from actions.model import PERSONAL, SECRET, Input, Name, Output
from actions.standard import Standard
from actions.vocabulary import Entity, Operation, ScopeType

INSTALLATION = Entity("installation", "installations")
BOOTSTRAP = Operation("bootstrap", on_item=False)
RECOVER = Operation("recover", on_item=False)
SWEEP = Operation("sweep", on_item=False)


class Superadmin(Input):
    username: Annotated[Name, PERSONAL]
    password: SecretStr


class Swept(Output):
    signatures: int
    logins: int


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
)
