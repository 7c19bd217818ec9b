"""The two forms that a key pair's secret proves: a signed request, and a token in ``X-BackendAI-Token``.

A failure looks and costs the same whether the key is unknown, wrong or just rotated: the check is made with what is
remembered, then once more with what one fresh look-up finds.
"""

from collections.abc import Callable

from starlette.types import Scope

from actions.action import Principal, PrincipalKind
from server import tokens
from server.http import signature
from server.http.credentials.proof import FAILURES, KEY_NOT_USABLE, Keypair, Keypairs, Proof, Refused
from server.http.exchange import Exchange
from server.http.signature import SignedRequest, Verified


class SignedRequests:
    """``Authorization: BackendAI signMethod=HMAC-SHA256, credential=<access key>:<64 hex digits>``."""

    of_its_moment = True

    def __init__(self, keypairs: Keypairs) -> None:
        self._keypairs = keypairs

    async def prove(self, credentials: bytes, scope: Scope, exchange: Exchange) -> Proof:
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        claim = signature.examine(SignedRequest.of(scope["method"], target, scope["headers"]), exchange.received_at)
        verified: Verified

        def settle(secret: str | None) -> None:
            nonlocal verified
            verified = signature.settle(claim, secret)

        keypair = await _settled(self._keypairs, claim.credential.access_key, settle)
        return Proof(
            _principal(keypair), keypair.allowed_addresses, keypair.keypair_id, verified.digest, verified.body_digest
        )

    def claimed(self, credentials: bytes) -> str:
        return credentials.decode("latin-1").partition("credential=")[2].partition(":")[0]


class KeypairTokens:
    """``X-BackendAI-Token: <JWT>``, made by a client and signed with the secret of the key pair that it names."""

    of_its_moment = False

    def __init__(self, keypairs: Keypairs) -> None:
        self._keypairs = keypairs

    async def prove(self, credentials: bytes, scope: Scope, exchange: Exchange) -> Proof:
        now = exchange.received_at.timestamp()

        def settle(secret: str | None) -> None:
            tokens.check_keypair_token(credentials, secret, now)

        keypair = await _settled(self._keypairs, tokens.access_key_of(credentials), settle)
        return Proof(_principal(keypair), keypair.allowed_addresses, keypair.keypair_id)

    def claimed(self, credentials: bytes) -> str:
        try:
            return tokens.access_key_of(credentials)
        except tokens.TokenError:
            return ""


async def _settled(keypairs: Keypairs, access_key: str, settle: Callable[[str | None], None]) -> Keypair:
    """The key pair whose secret settles the claim."""
    found = keypairs.remembered(access_key)
    try:
        return _settle(found, settle)
    except FAILURES:
        return _settle(await keypairs.find(access_key), settle)


def _settle(found: tuple[Keypair, str] | None, settle: Callable[[str | None], None]) -> Keypair:
    """The check is made whatever was found, so that no case is quicker than another."""
    settle(found[1] if found else None)
    if found is None or not found[0].usable:
        raise Refused(KEY_NOT_USABLE)
    return found[0]


def _principal(keypair: Keypair) -> Principal:
    return Principal(PrincipalKind.USER, f"user:{keypair.user_id}", keypair.user_id, keypair.access_key)
