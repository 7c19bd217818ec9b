"""``Authorization: Bearer <access token>``: what a login was answered with.

A token that was verified is remembered by its digest until it expires, so that most requests cost a hash and no
parsing. That a token was good says nothing of now: its signing key and its login, with the state of the user, are
asked for on every request, and so a revocation acts as fast as that of a key pair.
"""

import hashlib
from base64 import urlsafe_b64decode
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from starlette.types import Scope

from actions.action import Principal, PrincipalKind
from server import tokens
from server.http.credentials.proof import LOGIN_NOT_USABLE, Proof, Refused
from server.http.exchange import Exchange
from server.tokens import TokenError, TokenReason

_REMEMBERED = 10_000


class SigningKey(Protocol):
    @property
    def public_key(self) -> str: ...
    @property
    def not_after(self) -> datetime | None: ...


class KnownLogin(Protocol):
    @property
    def user_id(self) -> UUID: ...
    @property
    def usable(self) -> bool: ...
    @property
    def expires_at(self) -> datetime: ...
    @property
    def allowed_addresses(self) -> tuple[str, ...]: ...


class Logins(Protocol):
    """Where logins and signing keys are looked up: in memory, or in the database."""

    def remembered_login(self, login_id: UUID) -> KnownLogin | None: ...
    async def login(self, login_id: UUID) -> KnownLogin | None: ...
    def remembered_signing_key(self, key_id: UUID) -> SigningKey | None: ...
    async def signing_key(self, key_id: UUID) -> SigningKey | None: ...


@dataclass(frozen=True, slots=True)
class _Verified:
    login_id: UUID
    key_id: UUID
    expires_at: int
    principal: Principal


class BearerTokens:
    of_its_moment = False

    def __init__(self, logins: Logins, issuer: str) -> None:
        self._logins = logins
        self._issuer = issuer
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def prove(self, credentials: bytes, scope: Scope, exchange: Exchange) -> Proof:
        token, now = credentials[len(b"bearer ") :].strip(), exchange.received_at
        seconds = now.timestamp()
        digest = hashlib.sha256(token).digest()
        verified = self._verified.get(digest) or await self._verify(token, digest, seconds)
        if seconds >= verified.expires_at:
            self._verified.pop(digest, None)
            raise TokenError(TokenReason.EXPIRED)
        key = self._logins.remembered_signing_key(verified.key_id) or await self._logins.signing_key(verified.key_id)
        if key is None or (key.not_after is not None and key.not_after <= now):
            raise TokenError(TokenReason.MISMATCH)
        login = self._logins.remembered_login(verified.login_id)
        if login is None or not login.usable:
            login = await self._logins.login(verified.login_id)
        if login is None or not login.usable or login.expires_at <= now or login.user_id != verified.principal.id:
            raise Refused(LOGIN_NOT_USABLE)
        return Proof(verified.principal, login.allowed_addresses)

    def claimed(self, credentials: bytes) -> str:
        return ""

    async def _verify(self, token: bytes, digest: bytes, now: float) -> _Verified:
        key_id = tokens.key_of(token)
        key = self._logins.remembered_signing_key(key_id) or await self._logins.signing_key(key_id)
        public_key = urlsafe_b64decode(key.public_key + "=") if key else None
        access = tokens.check_access(token, public_key, self._issuer, now)
        user, login = access.user_id, access.login_id
        principal = Principal(PrincipalKind.USER, f"user:{user}", user, f"login:{login}", login)
        verified = self._verified[digest] = _Verified(login, key_id, access.expires_at, principal)
        if len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return verified
