"""What every form of credentials comes to: a proof of who is calling, or a refusal."""

from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from starlette.types import Scope

from actions.action import Principal
from server.http.exchange import Exchange
from server.http.signature import SignatureError
from server.tokens import TokenError

KEY_NOT_USABLE = "key-not-usable"
LOGIN_NOT_USABLE = "login-not-usable"


class Refused(Exception):
    """Credentials that are in order and not good. The reason is one of a closed set, fit for a metric label."""

    def __init__(self, reason: str, status: int = 401) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


FAILURES = (SignatureError, TokenError, Refused)
"""All that checking credentials can end in. Each has a ``reason``; those without a ``status`` are a 401."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Who is calling, and from where it may. ``keypair`` is whose use is to be counted. The digests are a signed
    request's: what to remember against replay, and what its body has to be."""

    principal: Principal
    allowed_addresses: tuple[str, ...]
    keypair: UUID | None = None
    replay_digest: bytes | None = field(default=None, repr=False)
    body_digest: bytes | None = field(default=None, repr=False)


class Form(Protocol):
    @property
    def of_its_moment(self) -> bool:
        """Whether they prove who sent this request for as long as it runs, as a signature does. A token proves it until
        it expires."""

    async def prove(self, credentials: bytes, scope: Scope, exchange: Exchange) -> Proof:
        """Check the credentials that a request carries. Raises one of ``FAILURES``."""

    def claimed(self, credentials: bytes) -> str:
        """The access key that they name, as far as it can be read: told of a refusal, believed by nobody."""


class Keypair(Protocol):
    """A key pair as authentication sees it."""

    @property
    def keypair_id(self) -> UUID: ...
    @property
    def user_id(self) -> UUID: ...
    @property
    def access_key(self) -> str: ...
    @property
    def usable(self) -> bool: ...
    @property
    def allowed_addresses(self) -> tuple[str, ...]: ...


class Keypairs(Protocol):
    """Where key pairs are looked up: in memory, or in the database. The secret comes beside, never inside."""

    def remembered(self, access_key: str) -> tuple[Keypair, str] | None: ...
    async def find(self, access_key: str) -> tuple[Keypair, str] | None: ...
