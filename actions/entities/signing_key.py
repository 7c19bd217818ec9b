"""Signing keys: what the server signs bearer tokens with. One signs; those before it verify for a while yet."""

from datetime import datetime

from pydantic import Field

from actions.model import Kept
from actions.query import DateTimeFilter, Filter, UUIDFilter
from actions.standard import Standard
from actions.vocabulary import DELETE, GET, SEARCH, Entity, Operation, ScopeType

SIGNING_KEY = Entity("signing_key", "signing_keys")
ROTATE = Operation("rotate", on_item=False)
RENEW = Operation("renew", on_item=False)


class SigningKey(Kept):
    """The public half. The id is the ``kid`` of the tokens that it signs."""

    public_key: str = Field(description="Ed25519, 32 bytes in base64url.")
    not_after: datetime | None = Field(description="Verifies no more from here on; null: it is the one that signs.")


class SigningKeyFilter(Filter):
    id: UUIDFilter | None = None
    not_after: DateTimeFilter | None = None
    created_at: DateTimeFilter | None = None
    updated_at: DateTimeFilter | None = None


SIGNING_KEYS = Standard(SIGNING_KEY, SigningKey, filter=SigningKeyFilter, orders=("created_at", "updated_at"))
A = ScopeType.ADMIN

SPECS = (
    *SIGNING_KEYS.offer(GET, A, sentence="Show a key that bearer tokens are signed with."),
    *SIGNING_KEYS.offer(SEARCH, A, sentence="Search the keys that bearer tokens are signed with."),
    *SIGNING_KEYS.offer(
        ROTATE, A, sentence="Sign with a new key from now on; the old one verifies until its last token has expired."
    ),
    *SIGNING_KEYS.offer(DELETE, A, sentence="Retire a signing key at once, and with it every token that it signed."),
    *SIGNING_KEYS.offer(
        RENEW, A, internal=True, sentence="Make a signing key where there is none, or the present one is old."
    ),
)
