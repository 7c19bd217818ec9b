"""The rules of logins: who gets in, what they get, and what ends it.

Every way to be refused has one face and costs one look-up and one check of a password, whoever was claimed. Nothing
slow happens inside a transaction: what was checked before it is held to what is there once it has begun.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from actions.action import ADMIN_SCOPE, Lineage, Scope
from actions.addresses import address_allowed
from actions.directory import SUPERADMIN
from actions.entities.login import (
    AUTHORIZE,
    LOGOUT,
    REFRESH,
    SPECS,
    Authorization,
    KeypairGrant,
    Login,
    LoginForm,
    Tokens,
)
from actions.errors import Conflict, Fault, Invalid, NotFound, Unauthenticated, Unavailable
from actions.hooks import FieldChange
from actions.processor import Given, Handler
from actions.vocabulary import Operation, ScopeType
from server.buckets import network_of
from server.keyring import KeyRing
from server.login_throttle import LoginThrottle, Try
from server.passwords import Passwords
from server.repositories.database import Row
from server.repositories.logins import LoginRepository
from server.repositories.signing_keys import SigningKeyRepository
from server.repositories.unit import Unit
from server.repositories.users import UserRepository
from server.services import keypairs, signing_keys
from server.services.base import Service
from server.tokens import Access, Terms, sign_access

_ADMIN = "domain_admin"
_SECRET_BYTES = 32


class Cause(StrEnum):
    """Why somebody was not let in: a closed set, fit for a metric label. ``WRONG``: or nobody of that name is there."""

    WRONG = "wrong-password"
    NOT_IN_FORCE = "account-not-in-force"
    ADDRESS_NOT_ALLOWED = "address-not-allowed"
    CHANGE_NEEDED = "password-change-needed"
    MISMATCH = "refresh-token-mismatch"
    REUSED = "refresh-token-reused"
    OVER = "login-over"


class LoginService(Service[Login]):
    def __init__(
        self,
        logins: LoginRepository,
        users: UserRepository,
        keys: SigningKeyRepository,
        passwords: Passwords,
        ring: KeyRing,
        terms: Terms,
        throttle: LoginThrottle,
    ) -> None:
        super().__init__(logins, SPECS)
        self._logins = logins
        self._users = users
        self._keys = keys
        self._passwords = passwords
        self._ring = ring
        self._terms = terms
        self._throttle = throttle

    def handlers(self) -> Mapping[Operation, Handler[Unit]]:
        return {**super().handlers(), AUTHORIZE: self.authorize, REFRESH: self.refresh, LOGOUT: self.logout}

    def stale(self, row: Row, changed: Set[str]) -> tuple[str, ...]:
        return (f"login:{row['id']}",)

    # -- getting in ----------------------------------------------------------------------------------------------------

    async def authorize(self, unit: Unit, given: Given[Any]) -> BaseModel:
        wanted: Authorization = given.input
        address = _address(unit)
        account = await self._logins.claimed(unit, wanted.domain, wanted.username, str(network_of(address)))
        if account is not None:
            unit.targets(account["id"], _lineage(account))
        else:
            unit.outcome.claimed = wanted.username
        familiar = account is not None and account["familiar"]
        trial = self._throttle.password(wanted.domain, wanted.username, address, familiar=familiar)
        await self._check(account, wanted.password.get_secret_value(), address, trial)
        assert account is not None  # or it would have been refused  # noqa: S101
        self._check_change(account, wanted)
        renewed = await self._renewed_hash(account, wanted)
        # Checking is slow and done with no transaction open, so what was checked is held to what is there now.
        await unit.begin()
        present = await self._logins.held(unit, account["id"])
        if present is None or present["password_hash"] != account["password_hash"]:
            raise Conflict("The account is being changed just now. Try again.", reason="version-clash")
        if cause := _barred(present, address):
            raise _not_let_in(cause)
        self._check_change(present, wanted)
        changes = await self._take_over(unit, account["id"], renewed, wanted.new_password is not None)
        row, refresh_token = await self._insert(unit, account)
        unit.outcome.changes += changes
        tokens = await self._tokens(unit, row["id"], account["id"], row["expires_at"], refresh_token)
        if wanted.type is LoginForm.TOKEN:
            return tokens
        return tokens.model_copy(update={"data": await self._grant(unit, present, tokens.access_token)})

    async def _check(self, account: Row | None, password: str, address: str, trial: Try) -> None:
        """Whether the password is the account's, and the account may come in from here."""
        right = await self._passwords.verify(account["password_hash"] if account else None, password)
        if cause := Cause.WRONG if account is None or not right else _barred(account, address):
            trial.failed()
            raise _not_let_in(cause)

    def _check_change(self, account: Row, wanted: Authorization) -> None:
        """A password that has to be changed lets nobody in without a new one."""
        if wanted.new_password is None:
            if account["need_password_change"]:
                raise _change_needed("send new_password")
        elif wanted.new_password.get_secret_value() == wanted.password.get_secret_value():
            raise Invalid("The password has to be another.", errors=[Fault("/new_password", "is the old one")])

    async def _renewed_hash(self, account: Row, wanted: Authorization) -> str | None:
        if wanted.new_password is not None:
            return await self._passwords.hash(wanted.new_password.get_secret_value())
        if self._passwords.is_outdated(account["password_hash"]):
            return await self._passwords.hash(wanted.password.get_secret_value())
        return None

    async def _take_over(
        self, unit: Unit, user: UUID, password_hash: str | None, chosen: bool
    ) -> tuple[FieldChange, ...]:
        """Keep a new hash, if there is one. A password that was chosen anew is a change of the user, and ends what
        the old one began; the same at another cost is neither. Returns what the record is to tell of it."""
        if password_hash is None:
            return ()
        if not chosen:
            await self._logins.rehash(unit, user, password_hash)
            return ()
        values = {
            "password_hash": password_hash,
            "password_changed_at": datetime.now(UTC),
            "need_password_change": False,
        }
        await self._users.change(unit, await self._users.own(unit, user), values)
        ended = await self._logins.end_all(unit, user)
        unit.makes_stale(f"user:{user}")
        return (*unit.outcome.changes, *((FieldChange("logins_ended", None, ended),) if ended else ()))

    async def _insert(self, unit: Unit, account: Row) -> tuple[Row, str]:
        address, family, secret = _address(unit), _new_secret(), _new_secret()
        row = await self.insert(
            unit,
            {
                "user_id": account["id"],
                "domain_id": account["domain_id"],
                "expires_at": datetime.now(UTC) + self._terms.login,
                "client_address": address,
                "client_network": str(network_of(address)),
                "refresh_digest": _digest(secret),
                "family_digest": _digest(family),
            },
        )
        return row, _written(row["id"], family, secret)

    async def _grant(self, unit: Unit, account: Row, session_token: str) -> KeypairGrant:
        keypair = await self._logins.keypair(unit, account["id"])
        if keypair is None:
            raise Conflict("The user has no key pair that signs. Make one, or ask for a token.", reason="no-keypair")
        secret = self._ring.open(keypair["sealed_secret"], keypairs.sealed_purpose(keypair["access_key"]))
        roles = await self._logins.roles(unit, account["id"])
        return KeypairGrant(
            user_id=account["id"],
            access_key=keypair["access_key"],
            secret_key=secret.decode(),
            role="superadmin" if SUPERADMIN in roles else "admin" if _ADMIN in roles else "user",
            status=account["status"],
            session_token=session_token,
        )

    # -- staying in ----------------------------------------------------------------------------------------------------

    async def refresh(self, unit: Unit, given: Given[Any]) -> BaseModel:
        trial = self._throttle.refresh(_address(unit))
        try:
            return await self._refresh(unit, given.input.refresh_token.get_secret_value())
        except Unauthenticated as refusal:
            if refusal.cause != Cause.CHANGE_NEEDED:
                trial.failed()
            raise

    async def _refresh(self, unit: Unit, token: str) -> BaseModel:
        login, family, own = _read(token)
        await unit.begin()
        try:
            row = await self._logins.own(unit, login)
        except NotFound:
            raise Unauthenticated(Cause.MISMATCH) from None
        presented = await self._logins.presented(unit, login)
        assert presented is not None  # it was held a moment ago  # noqa: S101
        if not hmac.compare_digest(presented["family_digest"], _digest(family)):
            raise Unauthenticated(Cause.MISMATCH)
        now = datetime.now(UTC)
        if presented["deleted_at"] is not None or presented["expires_at"] <= now:
            raise Unauthenticated(Cause.OVER)
        if not hmac.compare_digest(presented["refresh_digest"], _digest(own)):
            # It was good once, however long ago, and for one use. Two hold tokens of this login, then: one of them is
            # a thief, and nobody can tell which.
            unit.makes_stale(*self.stale(row, {"deleted_at"}))
            await self._logins.change(unit, row, {"deleted_at": now})
            await unit.refuse(Unauthenticated(Cause.REUSED))
        if cause := _barred(presented, _address(unit)):
            raise Unauthenticated(cause)
        if presented["need_password_change"]:
            raise _change_needed("log in and send new_password")
        secret = _new_secret()
        await self._logins.change(unit, row, {"refreshed_at": now, "refresh_digest": _digest(secret)})
        renewed = _written(login, family, secret)
        return await self._tokens(unit, login, row["user_id"], presented["expires_at"], renewed)

    async def _tokens(self, unit: Unit, login: UUID, user: UUID, until: datetime, refresh_token: str) -> Tokens:
        key = await self._keys.present(unit)
        if key is None:
            raise Unavailable("There is no key to sign tokens with yet.", reason="no-signing-key")
        now = datetime.now(UTC)
        expires = min(now + self._terms.access, until)
        access = Access(user, login, int(now.timestamp()), int(expires.timestamp()))
        private = self._ring.open(key["sealed_private_key"], signing_keys.sealed_purpose(key["id"]))
        return Tokens(
            access_token=sign_access(access, self._terms.issuer, key["id"], private),
            expires_in=access.expires_at - access.issued_at,
            refresh_token=refresh_token,
            refresh_expires_in=int((until - now).total_seconds()),
            login_id=login,
            user_id=user,
        )

    # -- getting out ---------------------------------------------------------------------------------------------------

    async def logout(self, unit: Unit, given: Given[Any]) -> BaseModel:
        login = unit.permit.action.principal.login
        if login is None:
            raise Conflict("The request was not made with a login: there is none to end.", reason="no-login")
        return await self.delete(unit, Given(given.input, str(login)))


def _address(unit: Unit) -> str:
    return unit.permit.action.context.client_address or ""


def _lineage(account: Row) -> Lineage:
    return Lineage((Scope(ScopeType.USER, account["id"]), Scope(ScopeType.DOMAIN, account["domain_id"]), ADMIN_SCOPE))


def _barred(account: Row, address: str) -> Cause | None:
    """Why the account lets nobody in from there, whatever they know."""
    if not account["in_force"]:
        return Cause.NOT_IN_FORCE
    return None if address_allowed(address, account["allowed_client_ip"]) else Cause.ADDRESS_NOT_ALLOWED


def _not_let_in(cause: Cause) -> Unauthenticated:
    """One sentence, whatever was wrong."""
    return Unauthenticated(cause, "Name and password do not match an account that may come in from here.")


def _change_needed(what_to_do: str) -> Unauthenticated:
    detail = f"The password has to be changed: {what_to_do}."
    return Unauthenticated(Cause.CHANGE_NEEDED, detail, reason=Cause.CHANGE_NEEDED)


# A refresh token has two secrets: one that all tokens of its login have, and one of its own, which is good for one use.
# Whoever shows the first without a second that is good was given an earlier token: all of them are known for ever.


def _new_secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


def _written(login: UUID, family: str, secret: str) -> str:
    return f"{login}.{family}.{secret}"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _read(token: str) -> tuple[UUID, str, str]:
    """The login that a refresh token belongs to, the secret of all its tokens, and the token's own."""
    name, _, secrets_of_it = token.partition(".")
    family, _, own = secrets_of_it.partition(".")
    try:
        if secrets_of_it.isascii():
            return UUID(name), family, own
    except ValueError:  # no id
        pass
    raise Unauthenticated(Cause.MISMATCH)
