"""Who is calling: checks the request's signature, and slows those who keep failing.

A failure looks and costs the same whether the key is unknown, wrong or just rotated: the signature is computed with
what is remembered, then once more with what one fresh look-up finds. An address that fails too often is answered 429
for its further failures; a good signature still passes, so a flood from behind a shared address shuts no honest caller
out.
"""

import hashlib
import time
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from actions.action import Principal, PrincipalKind
from actions.addresses import address_allowed
from actions.errors import BadRequest, TooManyRequests, Unauthenticated
from server.http import signature
from server.http.address_limiter import AddressLimiter
from server.http.authentication_log import AuthenticationLog
from server.http.exchange import Exchange
from server.http.metrics import Metrics
from server.http.signature import Claim, Reason, SignatureError, SignedRequest, Verified

NOT_ALLOWED_FROM_HERE = "address-not-allowed"
KEY_NOT_USABLE = "key-not-usable"
UNSIGNED_BODY = "unsigned-body"


class Credential(Protocol):
    """A key pair as authentication sees it."""

    @property
    def user_id(self) -> UUID: ...
    @property
    def usable(self) -> bool: ...
    @property
    def allowed_addresses(self) -> tuple[str, ...]: ...


class Credentials(Protocol):
    """Where credentials are looked up: in memory, or in the database. The secret comes beside, never inside."""

    def remembered(self, access_key: str) -> tuple[Credential, str] | None: ...
    async def find(self, access_key: str) -> tuple[Credential, str] | None: ...
    def used(self, credential: Any, at: datetime) -> None: ...


class _Refused(Exception):
    def __init__(self, reason: str, status: int = 401) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class AuthenticationMiddleware:
    def __init__(
        self,
        app: ASGIApp,
        credentials: Credentials,
        failures: AddressLimiter,
        log: AuthenticationLog,
        metrics: Metrics,
        *,
        require_signed_body: bool,
        partly_open: frozenset[str] = frozenset(),
    ) -> None:
        """``partly_open`` are paths where it depends on the body whether anybody may ask: who sends no credentials gets
        there, and is refused once the route raises ``Unauthenticated``."""
        self._app = app
        self._credentials = credentials
        self._failures = failures
        self._audit = log
        self._metrics = metrics
        self._require_signed_body = require_signed_body
        self._partly_open = partly_open
        self._log = structlog.get_logger("chamberlain.authentication")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        started = time.perf_counter()
        try:
            await self._authenticate(scope, exchange)
        except (SignatureError, _Refused) as refusal:
            if refusal.reason != Reason.MISSING_CREDENTIALS or scope["path"] not in self._partly_open:
                await self._refuse(exchange, refusal, _claimed(scope))
        self._metrics.stage_finished("authentication", time.perf_counter() - started)
        try:
            await self._app(scope, receive, send)
        except SignatureError as refusal:  # the body, once it was read, is not the one that was signed
            await self._refuse(exchange, refusal, _claimed(scope))
        except Unauthenticated as refusal:
            if exchange.principal is None:  # what was asked for is not among what is served to anybody
                await self._refuse(exchange, SignatureError(Reason.MISSING_CREDENTIALS), "")
            exchange.refusals.append(refusal)
            raise
        finally:
            for replay in exchange.refusals:  # the actions' own records tell of them
                self._metrics.authentication_failed(replay.reason)
                self._failures.charge(exchange.client_address, time.monotonic())

    async def _authenticate(self, scope: Scope, exchange: Exchange) -> None:
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        claim = signature.examine(SignedRequest.of(scope["method"], target, scope["headers"]), exchange.received_at)
        access_key = claim.credential.access_key
        found = self._credentials.remembered(access_key)
        try:
            verified = _settle(claim, found)
        except (SignatureError, _Refused):
            found = await self._credentials.find(access_key)
            verified = _settle(claim, found)
        assert found is not None  # or the signature could not have matched  # noqa: S101
        credential = found[0]
        if not address_allowed(exchange.client_address, credential.allowed_addresses):
            raise _Refused(NOT_ALLOWED_FROM_HERE)
        if self._require_signed_body and verified.body_digest is None and scope["method"] not in ("GET", "HEAD"):
            raise _Refused(UNSIGNED_BODY)
        self._credentials.used(credential, exchange.received_at)
        exchange.principal = Principal(PrincipalKind.USER, f"user:{credential.user_id}", credential.user_id, access_key)
        exchange.replay_digest = verified.digest
        exchange.body_digest = verified.body_digest

    async def _refuse(self, exchange: Exchange, refusal: SignatureError | _Refused, claimed: str) -> None:
        """Count, slow and record a failure, then say no. Every reason that depends on a secret shows the same face."""
        reason, status = str(refusal.reason), refusal.status
        self._metrics.authentication_failed(reason)
        self._log.info(
            "authentication failed", request_id=exchange.request_id, reason=reason, client=exchange.client_address
        )
        wait = self._failures.charge(exchange.client_address, time.monotonic())
        await self._audit.failed(
            exchange.client_address,
            exchange.request_id,
            claimed,
            reason,
            TooManyRequests.status if wait > 0 else status,
            exchange.received_at,
        )
        if wait > 0:
            self._metrics.rate_limited("authentication-failures")
            raise TooManyRequests(
                "Too many requests from this address failed to authenticate.", retry_after=int(wait) + 1
            )
        if status == 400:
            raise BadRequest("The credentials of the request cannot be read.", reason=reason)
        public = reason if reason in (Reason.MISSING_CREDENTIALS, Reason.UNSUPPORTED_SCHEME, UNSIGNED_BODY) else None
        raise Unauthenticated(reason, reason=public)


def check_body(exchange: Exchange, body: bytes) -> None:
    """Whether the body is the one that was signed. Raises ``SignatureError``, which the middleware answers."""
    if exchange.body_digest is not None and hashlib.sha256(body).digest() != exchange.body_digest:
        raise SignatureError(Reason.BODY_MISMATCH)


def _settle(claim: Claim, found: tuple[Credential, str] | None) -> Verified:
    """The signature is computed whatever was found, so that no case is quicker than another."""
    verified = signature.settle(claim, found[1] if found else None)
    if found is None or not found[0].usable:
        raise _Refused(KEY_NOT_USABLE)
    return verified


def _claimed(scope: Scope) -> str:
    """The access key that a refused request names, as far as it can be read."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            text: str = value.decode("latin-1")
            return text.partition("credential=")[2].partition(":")[0]
    return ""
