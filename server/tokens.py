"""Tokens: JSON Web Tokens as this server makes and checks them, with the precautions of RFC 8725.

Two kinds, told apart by their type and their one algorithm, so that neither passes as the other. An *access token* is
made and signed by the server (``at+jwt``, EdDSA); a *key pair's token* is made by a client and signed with its secret
(HS256). Pure functions: the keys are given, and so is the time, in Unix seconds. Whatever arrives from outside, the
only exception that leaves is ``TokenError``. PyJWT makes and checks the signatures; the claims are checked here.
"""

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

LONGEST: Final = 4096
"""Bytes of a token that are looked at; more is refused unread."""
LONGEST_KEYPAIR_LIFE: Final = 3600
CLOCK_LEEWAY: Final = 60
"""Seconds that the clock of whoever made a token may be ahead of ours."""

_ACCESS_TYPE: Final = "at+jwt"
_ACCESS_ALGORITHM: Final = "EdDSA"
_KEYPAIR_ALGORITHM: Final = "HS256"
_ACCESS_HEADER: Final = frozenset({"alg", "typ", "kid"})
_COMPACT: Final = re.compile(rb"[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*){2}")
"""Three parts in base64url as RFC 7515 has it: unpadded. Decoders drop what is none of it, so it is looked at first."""
_MAX_KEY: Final = 64
_NOBODY: Final = "0" * 40  # checks in place of an unknown key's secret: as long as a real one, and opens nothing
_JWS: Final = jwt.PyJWS()


class TokenReason(StrEnum):
    """Why a token was refused: a closed set, fit for a metric label."""

    MALFORMED = "malformed-token"
    MISMATCH = "token-mismatch"  # unknown key and wrong signature alike
    EXPIRED = "token-expired"
    EARLY = "token-not-yet-valid"
    NOT_OURS = "token-not-for-us"


class TokenError(Exception):
    """The token is not good. Holds no part of it, so it may be logged as it is."""

    def __init__(self, reason: TokenReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Terms:
    """In whose name tokens are made, and for how long what is good. ``issuer`` is the audience, too."""

    issuer: str
    access: timedelta
    login: timedelta
    signing_key: timedelta


@dataclass(frozen=True, slots=True)
class Access:
    """What an access token says: who, by which login, and until when (Unix seconds)."""

    user_id: UUID
    login_id: UUID
    issued_at: int
    expires_at: int


def sign_access(access: Access, issuer: str, key_id: UUID, private_key: bytes) -> str:
    """The token. ``private_key`` is 32 raw bytes of Ed25519."""
    claims = {
        "iss": issuer,
        "aud": issuer,
        "sub": str(access.user_id),
        "sid": str(access.login_id),
        "iat": access.issued_at,
        "nbf": access.issued_at,
        "exp": access.expires_at,
        "jti": secrets.token_urlsafe(9),
    }
    key = Ed25519PrivateKey.from_private_bytes(private_key)
    header = {"typ": _ACCESS_TYPE, "kid": str(key_id)}
    return _JWS.encode(orjson.dumps(claims), key, algorithm=_ACCESS_ALGORITHM, headers=header)


def key_of(token: bytes) -> UUID:
    """The id of the key that an access token says it was signed with. Nothing else of a header is believed: a key
    that a token brings along, or says where to find, makes it no token of ours."""
    header = _header(token)
    if header.keys() != _ACCESS_HEADER or header["typ"] != _ACCESS_TYPE or header["alg"] != _ACCESS_ALGORITHM:
        raise TokenError(TokenReason.NOT_OURS)
    return _uuid(header["kid"])


def check_access(token: bytes, public_key: bytes | None, issuer: str, now: float) -> Access:
    """What a token says, if the key signed it, for this installation, and it is in force. None: an unknown key."""
    key_of(token)
    if public_key is None:
        raise TokenError(TokenReason.MISMATCH)
    claims = _checked(token, Ed25519PublicKey.from_public_bytes(public_key), _ACCESS_ALGORITHM)
    if claims.get("iss") != issuer or claims.get("aud") != issuer:
        raise TokenError(TokenReason.NOT_OURS)
    issued_at, expires_at = _in_force(claims, now)
    if _seconds(claims, "nbf") > now + CLOCK_LEEWAY:
        raise TokenError(TokenReason.EARLY)
    return Access(_uuid(claims.get("sub")), _uuid(claims.get("sid")), issued_at, expires_at)


def access_key_of(token: bytes) -> str:
    """The access key that a key pair's token claims, unverified."""
    header = _header(token)
    if header.get("alg") != _KEYPAIR_ALGORITHM or header.get("typ", "JWT") != "JWT" or "crit" in header:
        raise TokenError(TokenReason.NOT_OURS)
    claimed = _object(_part(token, 1)).get("access_key")
    if not isinstance(claimed, str) or len(claimed) > _MAX_KEY or not (claimed.isascii() and claimed.isalnum()):
        raise TokenError(TokenReason.MALFORMED)
    return claimed


def check_keypair_token(token: bytes, secret: str | None, now: float) -> None:
    """Whether the key pair's secret signed the token, and it is in force. None, an unknown key, costs the same."""
    access_key_of(token)
    claims = _checked(token, _NOBODY if secret is None else secret, _KEYPAIR_ALGORITHM)
    if secret is None:
        raise TokenError(TokenReason.MISMATCH)
    issued_at, expires_at = _in_force(claims, now)
    if not 0 < expires_at - issued_at <= LONGEST_KEYPAIR_LIFE:
        raise TokenError(TokenReason.MALFORMED)


def jwk(key_id: UUID, public_key: bytes) -> dict[str, str]:
    """A public key as the key set shows it (RFC 8037)."""
    shown = urlsafe_b64encode(public_key).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": _ACCESS_ALGORITHM, "kid": str(key_id), "x": shown}


def _header(token: bytes) -> Mapping[str, Any]:
    if len(token) > LONGEST or not _COMPACT.fullmatch(token):
        raise TokenError(TokenReason.MALFORMED)
    return _object(_part(token, 0))


def _part(token: bytes, place: int) -> bytes:
    try:
        return jwt.utils.base64url_decode(token.split(b".")[place])
    except ValueError:
        raise TokenError(TokenReason.MALFORMED) from None


def _object(part: bytes) -> Mapping[str, Any]:
    """A JSON object, or an error of ours."""
    try:
        found = orjson.loads(part)
    except orjson.JSONDecodeError:
        raise TokenError(TokenReason.MALFORMED) from None
    if not isinstance(found, dict):
        raise TokenError(TokenReason.MALFORMED)
    return found


def _checked(token: bytes, key: Ed25519PublicKey | str, algorithm: str) -> Mapping[str, Any]:
    """The claims, once the signature is known to be the key's."""
    try:
        payload = _JWS.decode(token, key, algorithms=[algorithm])
    except jwt.InvalidSignatureError:
        raise TokenError(TokenReason.MISMATCH) from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise TokenError(TokenReason.MALFORMED) from None
    return _object(payload)


def _in_force(claims: Mapping[str, Any], now: float) -> tuple[int, int]:
    issued_at, expires_at = _seconds(claims, "iat"), _seconds(claims, "exp")
    if now >= expires_at:
        raise TokenError(TokenReason.EXPIRED)
    if issued_at > now + CLOCK_LEEWAY:
        raise TokenError(TokenReason.EARLY)
    return issued_at, expires_at


def _seconds(claims: Mapping[str, Any], name: str) -> int:
    found = claims.get(name)
    if type(found) is not int:
        raise TokenError(TokenReason.MALFORMED)
    return found


def _uuid(text: object) -> UUID:
    try:
        return UUID(text) if isinstance(text, str) else UUID("")
    except ValueError:
        raise TokenError(TokenReason.MALFORMED) from None
