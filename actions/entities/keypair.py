"""Key pairs: what a user signs requests with. The secret is shown once, when it is made or replaced."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from actions.model import SECRET, Input, Kept, Output, Unsaid
from actions.query import BooleanFilter, DateTimeFilter, Filter, IntFilter, StringFilter, UUIDFilter
from actions.standard import Standard
from actions.vocabulary import CREATE, DELETE, GET, PURGE, SEARCH, UPDATE, Controls, Entity, Operation, ScopeType

KEYPAIR = Entity("keypair", "keypairs")
ROTATE = Operation("rotate")
ACTIVATE = Operation("activate")
DEACTIVATE = Operation("deactivate")
TALLY = Operation("tally", on_item=False)

RateLimit = Annotated[int, Field(ge=1, le=10_000_000, description="Requests in 15 minutes. Kept; not yet enforced.")]


class Keypair(Kept):
    user_id: UUID
    access_key: str
    is_active: bool
    is_default: bool
    rate_limit: int
    num_queries: int
    last_used: datetime | None


class IssuedKeypair(Keypair):
    secret_key: Annotated[str, SECRET] = Field(repr=False, description="Shown this once.")


class OwnKeypairChange(Input):
    is_default: Unsaid[bool] = Field(default=None, description="True makes it the default in place of the present one.")


class KeypairChange(OwnKeypairChange):
    rate_limit: Unsaid[RateLimit] = None


class NewKeypair(Input):
    is_default: bool = False


class KeypairFilter(Filter):
    id: UUIDFilter | None = None
    user_id: UUIDFilter | None = None
    access_key: StringFilter | None = None
    is_active: BooleanFilter | None = None
    is_default: BooleanFilter | None = None
    rate_limit: IntFilter | None = None
    num_queries: IntFilter | None = None
    last_used: DateTimeFilter | None = None
    created_at: DateTimeFilter | None = None
    updated_at: DateTimeFilter | None = None


class Use(Input):
    keypair_id: str
    queries: int
    last_used: datetime


class Tally(Input):
    """How often key pairs were used since the last tally of the same worker."""

    uses: list[Use]


class Tallied(Output):
    keypairs: int


KEYPAIRS = Standard(
    KEYPAIR,
    Keypair,
    NewKeypair,
    KeypairChange,
    KeypairFilter,
    ("created_at", "updated_at", "access_key", "rate_limit", "num_queries"),
)
TAKES_OVER = Controls()
"""Stopping or removing a key pair counts too: it shuts its user out."""
A, D, U = ScopeType.ADMIN, ScopeType.DOMAIN, ScopeType.USER

SPECS = (
    *KEYPAIRS.offer(CREATE, U, output=IssuedKeypair, controls=TAKES_OVER),
    *KEYPAIRS.offer(GET, A, D, U),
    *KEYPAIRS.offer(SEARCH, A, D, U),
    *KEYPAIRS.offer(UPDATE, A, D, controls=TAKES_OVER),
    *KEYPAIRS.offer(UPDATE, U, input=OwnKeypairChange, controls=TAKES_OVER),
    *KEYPAIRS.offer(DELETE, A, D, U, controls=TAKES_OVER),
    *KEYPAIRS.offer(PURGE, A, D, U, controls=TAKES_OVER),
    *KEYPAIRS.offer(
        ROTATE,
        A,
        D,
        U,
        output=IssuedKeypair,
        controls=TAKES_OVER,
        sentence="Replace the secret of a key pair {where}; the old one stops working at once.",
    ),
    *KEYPAIRS.offer(ACTIVATE, A, D, U, controls=TAKES_OVER, sentence="Let a key pair {where} sign requests again."),
    *KEYPAIRS.offer(
        DEACTIVATE, A, D, U, controls=TAKES_OVER, sentence="Stop a key pair {where} from signing requests."
    ),
    *KEYPAIRS.offer(
        TALLY,
        A,
        input=Tally,
        output=Tallied,
        internal=True,
        sentence="Note how often key pairs were used, and when last.",
    ),
)
