"""Who is calling: has the request's credentials checked in the form that they have, and slows those who keep failing.

An address that fails too often is answered 429 for its further failures; good credentials still pass, so a flood from
behind a shared address shuts no honest caller out. Every reason that depends on a secret shows the same face.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from actions.addresses import address_allowed
from actions.errors import AuditUnavailable, BadRequest, ChamberlainError, TooManyRequests, Unauthenticated
from audit.log import LogUnavailable
from audit.pulse import Pulse
from server.http.address_limiter import AddressLimiter
from server.http.authentication_log import AuthenticationLog
from server.http.credentials.bearer import BearerTokens
from server.http.credentials.keypair import KeypairTokens, SignedRequests
from server.http.credentials.proof import FAILURES, Form, Refused
from server.http.exchange import Exchange
from server.http.metrics import Metrics
from server.http.signature import Reason, SignatureError

NOT_ALLOWED_FROM_HERE = "address-not-allowed"
UNSIGNED_BODY = "unsigned-body"
TOKEN_HEADER = b"x-backendai-token"
_PUBLIC = (Reason.MISSING_CREDENTIALS, Reason.UNSUPPORTED_SCHEME, UNSIGNED_BODY)

Used = Callable[[UUID, datetime], None]
"""Is told of each use of a key pair."""


class Forms:
    """The forms of credentials, and which of them a request carries: a key pair's token goes before any other."""

    def __init__(self, signed: SignedRequests, keypair_token: KeypairTokens, bearer: BearerTokens) -> None:
        self._signed = signed
        self._keypair_token = keypair_token
        self._bearer = bearer

    def of(self, scope: Scope) -> tuple[Form, bytes]:
        """The form, and the header that it stands in. A header given twice is refused by the form of signatures."""
        authorization = token = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value if authorization is None else b""
            elif name == TOKEN_HEADER:
                token = value if token is None else b""
        if token is not None:
            return self._keypair_token, token
        if authorization and authorization[:7].lower() == b"bearer ":
            return self._bearer, authorization
        return self._signed, authorization or b""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why credentials were refused, and the access key that they claimed to be of."""

    reason: str
    status: int
    claimed: str


class AuthenticationMiddleware:
    def __init__(
        self,
        app: ASGIApp,
        forms: Forms,
        used: Used,
        failures: AddressLimiter,
        log: AuthenticationLog,
        metrics: Metrics,
        pulse: Pulse,
        *,
        require_signed_body: bool,
        partly_open: frozenset[str] = frozenset(),
    ) -> None:
        """``partly_open`` are paths where it depends on the body whether anybody may ask: there the refusal is kept,
        and told if the route raises anything at all instead of an answer."""
        self._app = app
        self._forms = forms
        self._used = used
        self._failures = failures
        self._audit = log
        self._metrics = metrics
        self._pulse = pulse
        self._require_signed_body = require_signed_body
        self._partly_open = partly_open
        self._log = structlog.get_logger("chamberlain.authentication")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        started = time.perf_counter()
        form, credentials = self._forms.of(scope)
        kept: _Refusal | None = None
        try:
            with self._pulse.watched():
                await self._authenticate(form, credentials, scope, exchange)
        except LogUnavailable as error:  # whoever it was, nothing could be recorded of what they ask for
            raise AuditUnavailable from error
        except FAILURES as refusal:
            kept = _Refusal(str(refusal.reason), getattr(refusal, "status", 401), form.claimed(credentials))
            if scope["path"] not in self._partly_open:
                await self._refuse(exchange, kept)
        self._metrics.stage_finished("authentication", time.perf_counter() - started)
        try:
            await self._app(scope, receive, send)
        except SignatureError as refusal:  # the body, once it was read, is not the one that was signed
            await self._refuse(exchange, _Refusal(refusal.reason, refusal.status, form.claimed(credentials)))
        except ChamberlainError as error:
            if kept is not None:  # what was asked for is not among what is served to anybody
                await self._refuse(exchange, kept)
            if isinstance(error, Unauthenticated):
                exchange.refusals.append(error)
            raise
        finally:
            for replay in exchange.refusals:  # the actions' own records tell of them
                self._metrics.authentication_failed(replay.reason)
                self._failures.charge(exchange.client_address, time.monotonic())

    async def _authenticate(self, form: Form, credentials: bytes, scope: Scope, exchange: Exchange) -> None:
        proof = await form.prove(credentials, scope, exchange)
        if not address_allowed(exchange.client_address, proof.allowed_addresses):
            raise Refused(NOT_ALLOWED_FROM_HERE)
        if self._require_signed_body and _is_unsigned(proof.replay_digest, proof.body_digest, scope["method"]):
            raise Refused(UNSIGNED_BODY)
        if proof.keypair is not None:
            self._used(proof.keypair, exchange.received_at)
        exchange.principal = proof.principal
        exchange.replay_digest = proof.replay_digest
        exchange.body_digest = proof.body_digest
        exchange.still_good = partial(self._still_good, form, credentials, scope, exchange)

    async def _still_good(self, form: Form, credentials: bytes, scope: Scope, exchange: Exchange) -> None:
        """Prove the same credentials once more, long after. Raises ``Unauthenticated``."""
        now = exchange if form.of_its_moment else replace(exchange, received_at=datetime.now(UTC))
        try:
            proof = await form.prove(credentials, scope, now)
            if not address_allowed(exchange.client_address, proof.allowed_addresses):
                raise Refused(NOT_ALLOWED_FROM_HERE)
        except FAILURES as refusal:
            self._metrics.authentication_failed(str(refusal.reason))
            raise Unauthenticated(str(refusal.reason), "The credentials are no longer good.") from None

    async def _refuse(self, exchange: Exchange, refusal: "_Refusal") -> None:
        """Count, slow and record a failure, then say no."""
        reason, status = refusal.reason, refusal.status
        self._metrics.authentication_failed(reason)
        self._log.info(
            "authentication failed", request_id=exchange.request_id, reason=reason, client=exchange.client_address
        )
        wait = self._failures.charge(exchange.client_address, time.monotonic())
        await self._audit.failed(
            exchange.client_address,
            exchange.request_id,
            refusal.claimed,
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
        raise Unauthenticated(reason, reason=reason if reason in _PUBLIC else None)


def check_body(exchange: Exchange, body: bytes) -> None:
    """Whether the body is the one that was signed. Raises ``SignatureError``, which the middleware answers."""
    if exchange.body_digest is not None and hashlib.sha256(body).digest() != exchange.body_digest:
        raise SignatureError(Reason.BODY_MISMATCH)


def _is_unsigned(signature: bytes | None, body_digest: bytes | None, method: str) -> bool:
    """Whether a signed request leaves its body open. A token signs no request at all, and is not asked to."""
    return signature is not None and body_digest is None and method not in ("GET", "HEAD")
