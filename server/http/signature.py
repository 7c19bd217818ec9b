"""The HMAC request signature: what a client signs, and how the server checks it. Both sides in one place.

Pure functions over bytes. Knows no web framework, no database and no clock: ``now`` is given, and so is the
secret. Whatever arrives from outside, the only exception that leaves is ``SignatureError``.

    Authorization: BackendAI signMethod=HMAC-SHA256, credential=<access key>:<64 hex digits>

The signed text is seven lines joined by LF: method, target, date, ``host:``, ``content-type:``,
``x-backendai-version:``, and a line for the body. Every part is printable ASCII, so no value can reach into the
next line. The body's line is the digest of *no* body, whatever the body is, as clients of the original system have
it; a client that sends ``X-BackendAI-Content-SHA256`` signs ``x-backendai-content-sha256:<digest>`` instead. That
line never equals the other, so the header can neither be taken off nor put on without breaking the signature.

A server works in two steps, with its key look-up between them:

    claim = examine(request, now)          # all that needs no secret; refuses early
    verified = settle(claim, secret)       # the same work whether the key is known (a secret) or not (None)
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

WINDOW: Final = timedelta(minutes=15)
"""A date must lie strictly within this distance of the server's clock, on either side."""

MAX_HEADER: Final = 8192
"""Longest header value looked at, in bytes."""

BODY_DIGEST_HEADER: Final = "X-BackendAI-Content-SHA256"
VERSION_HEADER: Final = "X-BackendAI-Version"
CURRENT_VERSION: Final = "v9.20250722"

_SCHEMES: Final = frozenset({"backendai", "sorna"})  # the second is what the oldest clients call it
_METHOD: Final = "hmac-sha256"
_FIRST_VERSION: Final = b"v4.20181215"  # the first whose signature never covers the body
_NO_BODY: Final = hashlib.sha256(b"").hexdigest().encode()
_DEFAULT_MEDIA_TYPE: Final = b"application/octet-stream"
_KEY_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_MAX_KEY: Final = 64
_MAX_DATE: Final = 64
_HEX: Final = frozenset(b"0123456789abcdef")
_NOBODY: Final = "0" * 40  # signs in place of an unknown key's secret: as long as a real one, and opens nothing


class Reason(StrEnum):
    """Why a signature was refused: a closed set, fit for a metric label. ``status`` is the HTTP status it earns."""

    MISSING_CREDENTIALS = "missing-credentials"
    UNSUPPORTED_SCHEME = "unsupported-scheme"
    SIGNATURE_MISMATCH = "signature-mismatch"  # unknown key and wrong signature alike
    BODY_MISMATCH = "body-mismatch"
    MALFORMED_CREDENTIALS = "malformed-credentials"
    UNSUPPORTED_METHOD = "unsupported-method"
    MISSING_DATE = "missing-date"
    MALFORMED_DATE = "malformed-date"
    DATE_OUT_OF_WINDOW = "date-out-of-window"
    MISSING_VERSION = "missing-version"
    UNKNOWN_VERSION = "unknown-version"
    MISSING_HOST = "missing-host"
    MALFORMED_HEADER = "malformed-header"
    MALFORMED_TARGET = "malformed-target"
    MALFORMED_BODY_DIGEST = "malformed-body-digest"
    REPEATED_HEADER = "repeated-header"
    HEADER_TOO_LONG = "header-too-long"

    @property
    def status(self) -> int:
        return 401 if self in _UNAUTHORIZED else 400


_UNAUTHORIZED: Final = frozenset(
    {Reason.MISSING_CREDENTIALS, Reason.UNSUPPORTED_SCHEME, Reason.SIGNATURE_MISMATCH, Reason.BODY_MISMATCH}
)


class SignatureError(Exception):
    """The request carries no valid signature. Holds no part of the request, so it may be logged as it is."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.status = reason.status


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What the wire said, untouched. ``None`` is an absent header.

    ``target`` is the path and query exactly as on the request line; ``date`` the header that dates the request,
    whichever of the three it was.
    """

    method: str
    target: bytes
    host: bytes | None
    content_type: bytes | None
    date: bytes | None
    version: bytes | None
    authorization: bytes | None = field(default=None, repr=False)
    body_digest: bytes | None = None

    @classmethod
    def of(cls, method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> SignedRequest:
        """Picks the parts that count from raw headers (any case). A part given twice is a ``SignatureError``."""
        found: dict[bytes, bytes] = {}
        for written, value in headers:
            name = written.lower()
            if name not in _HEADERS:
                continue
            if name in found:
                raise SignatureError(Reason.REPEATED_HEADER)
            found[name] = value
        get = found.get
        return cls(
            method=method,
            target=target,
            host=get(b"host"),
            content_type=get(b"content-type"),
            date=get(b"date") or get(b"x-backendai-date") or get(b"x-sorna-date"),
            version=get(b"x-backendai-version"),
            authorization=get(b"authorization"),
            body_digest=get(b"x-backendai-content-sha256"),
        )


_HEADERS: Final = frozenset(
    {
        b"host",
        b"content-type",
        b"date",
        b"x-backendai-date",
        b"x-sorna-date",
        b"x-backendai-version",
        b"authorization",
        b"x-backendai-content-sha256",
    }
)


@dataclass(frozen=True, slots=True)
class Credential:
    """A parsed ``Authorization`` header: who claims to have signed, and the 32 bytes of the signature."""

    access_key: str
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """A request well formed and in time, whose signature is yet to be checked."""

    credential: Credential
    date: datetime
    host: str
    text: bytes = field(repr=False)
    body_digest: bytes | None


@dataclass(frozen=True, slots=True)
class Verified:
    """A request signed by the holder of ``access_key``.

    ``digest`` (32 bytes) is the same for the same signature however its header was spelt, and is what to remember
    against replay, until ``expires_at``. ``body_digest`` (32 bytes) is set if the body was signed too.
    """

    access_key: str
    date: datetime
    digest: bytes = field(repr=False)
    body_digest: bytes | None = field(repr=False)

    @property
    def expires_at(self) -> datetime:
        """From here on the date alone refuses the signature."""
        return self.date.astimezone(UTC) + WINDOW


def parse_authorization(header: bytes) -> Credential:
    """Reads an ``Authorization`` header. Parameters come in any order; one given twice is malformed."""
    scheme, _, rest = _text(header).strip().partition(" ")
    if scheme.lower() not in _SCHEMES:
        raise SignatureError(Reason.UNSUPPORTED_SCHEME)
    parameters: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or name in parameters:
            raise SignatureError(Reason.MALFORMED_CREDENTIALS)
        parameters[name] = value.strip()
    if "signMethod" not in parameters or "credential" not in parameters:
        raise SignatureError(Reason.MALFORMED_CREDENTIALS)
    if parameters["signMethod"].lower() != _METHOD:
        raise SignatureError(Reason.UNSUPPORTED_METHOD)
    access_key, _, digits = parameters["credential"].partition(":")
    if not 0 < len(access_key) <= _MAX_KEY or not _KEY_CHARACTERS.issuperset(access_key):
        raise SignatureError(Reason.MALFORMED_CREDENTIALS)
    return Credential(access_key, _digest(digits.lower().encode(), Reason.MALFORMED_CREDENTIALS))


def check_date(raw: bytes, now: datetime) -> datetime:
    """The date a header states, in the offset it states (none means UTC), if it lies within ``WINDOW`` of ``now``.

    Read are ISO 8601 (basic and extended) and the three date forms of HTTP.
    """
    text = _text(raw)
    if len(text) > _MAX_DATE:
        raise SignatureError(Reason.MALFORMED_DATE)
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        date = _mail_date(text)
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    if abs(date - now) >= WINDOW:
        raise SignatureError(Reason.DATE_OUT_OF_WINDOW)
    return date


def string_to_sign(request: SignedRequest) -> bytes:
    """The seven lines that are signed. Raises if a part is missing or could not be told from another."""
    if request.host is None or not request.host:
        raise SignatureError(Reason.MISSING_HOST)
    if request.date is None:
        raise SignatureError(Reason.MISSING_DATE)
    if request.version is None:
        raise SignatureError(Reason.MISSING_VERSION)
    if not request.target.startswith(b"/") or b" " in request.target or not _printable(request.target):
        raise SignatureError(Reason.MALFORMED_TARGET)
    return b"\n".join(
        (
            _method(request.method),
            request.target,
            _bounded(request.date),
            b"host:" + _bounded(request.host),
            b"content-type:" + _media_type(request.content_type),
            b"x-backendai-version:" + _version(request.version),
            _body_line(request.body_digest),
        )
    )


def signing_key(secret: str, date: datetime, host: str) -> bytes:
    """The key of one day and one host, 32 bytes. The day is that of the date's own offset, not of UTC."""
    day = f"{date.year:04}{date.month:02}{date.day:02}"
    return _hmac(_hmac(secret.encode(), day.encode()), host.encode())


def sign(request: SignedRequest, secret: str, date: datetime) -> bytes:
    """The signature of a request, 32 bytes. ``date`` is what the request's date header says."""
    text = string_to_sign(request)
    return _hmac(signing_key(secret, date, _text(request.host or b"")), text)


def authorization(access_key: str, signature: bytes) -> str:
    """The ``Authorization`` header that states a signature."""
    return f"BackendAI signMethod=HMAC-SHA256, credential={access_key}:{signature.hex()}"


def examine(request: SignedRequest, now: datetime) -> Claim:
    """Everything that can be checked before the key is looked up. ``now`` must carry an offset."""
    if not request.authorization:
        raise SignatureError(Reason.MISSING_CREDENTIALS)
    credential = parse_authorization(request.authorization)
    text = string_to_sign(request)
    date = check_date(request.date or b"", now)
    body = None if request.body_digest is None else _digest(request.body_digest, Reason.MALFORMED_BODY_DIGEST)
    return Claim(credential, date, _text(request.host or b""), text, body)


def settle(claim: Claim, secret: str | None) -> Verified:
    """Checks the signature against the key's secret; ``None`` is an unknown key, refused after the same work.

    A caller whose secret came from a cache may settle the same claim again with a fresh one.
    """
    key = signing_key(_NOBODY if secret is None else secret, claim.date, claim.host)
    matches = hmac.compare_digest(_hmac(key, claim.text), claim.credential.signature)
    if secret is None or not matches:
        raise SignatureError(Reason.SIGNATURE_MISMATCH)
    access_key = claim.credential.access_key
    digest = hashlib.sha256(claim.credential.signature + access_key.encode()).digest()
    return Verified(access_key, claim.date, digest, claim.body_digest)


def verify(request: SignedRequest, secret: str | None, now: datetime) -> Verified:
    """``examine`` and ``settle`` at once, for a caller that has the secret at hand."""
    return settle(examine(request, now), secret)


def check_body(verified: Verified, body: bytes) -> None:
    """Refuses a body that is not the signed one. Does nothing if the body was not signed."""
    if verified.body_digest is not None:
        check_body_digest(verified, hashlib.sha256(body).digest())


def check_body_digest(verified: Verified, digest: bytes) -> None:
    """``check_body`` for a body that was hashed (SHA-256) while it streamed."""
    if verified.body_digest is not None and not hmac.compare_digest(verified.body_digest, digest):
        raise SignatureError(Reason.BODY_MISMATCH)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _printable(value: bytes) -> bool:
    return value.isascii() and value.decode("ascii").isprintable()


def _bounded(value: bytes) -> bytes:
    if len(value) > MAX_HEADER:
        raise SignatureError(Reason.HEADER_TOO_LONG)
    if not _printable(value):
        raise SignatureError(Reason.MALFORMED_HEADER)
    return value


def _text(value: bytes) -> str:
    return _bounded(value).decode("ascii")


def _digest(digits: bytes, reason: Reason) -> bytes:
    """32 bytes from 64 hexadecimal digits. (``bytes.fromhex`` alone would let spaces through.)"""
    if len(digits) != 64 or not _HEX.issuperset(digits):
        raise SignatureError(reason)
    return bytes.fromhex(digits.decode("ascii"))


def _method(method: str) -> bytes:
    if not (method.isascii() and method.isprintable()) or not method or " " in method:
        raise SignatureError(Reason.MALFORMED_HEADER)
    return method.upper().encode("ascii")


def _media_type(header: bytes | None) -> bytes:
    """The media type alone, in lower case: parameters (a charset, a boundary) are not signed."""
    return _bounded(header or b"").split(b";", 1)[0].strip().lower() or _DEFAULT_MEDIA_TYPE


def _version(raw: bytes) -> bytes:
    """A revision of the interface, ``v<4 to 9>.<yyyymmdd>``, from the first that signs no body."""
    shaped = len(raw) == 11 and raw[:1] == b"v" and raw[1:2] in b"456789" and raw[2:3] == b"." and raw[3:].isdigit()
    if not shaped or raw < _FIRST_VERSION:
        raise SignatureError(Reason.UNKNOWN_VERSION)
    return raw


def _body_line(digest: bytes | None) -> bytes:
    if digest is None:
        return _NO_BODY
    _digest(digest, Reason.MALFORMED_BODY_DIGEST)  # lower case only: one spelling, one signature
    return b"x-backendai-content-sha256:" + digest


def _mail_date(text: str) -> datetime:
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):  # what that parser is known to raise on nonsense
        raise SignatureError(Reason.MALFORMED_DATE) from None
