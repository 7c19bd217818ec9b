"""What has to be true of a policy version before it may decide: it is signed where that is asked, and this program can
use it. Asked in an offer's ``prepare``, before a unit of work is open. It moves nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from actions.authorization.signing import NotSigned, TrustedKeys
from actions.authorization.source import PolicySource
from actions.errors import Conflict


@dataclass(frozen=True)
class PolicyGate:
    """``stored`` reads a version by its digest and raises ``NotFound``; ``check`` asks a process of its own and raises
    ``ValueError`` with a line for each finding; ``before`` tells where a rollback would lead."""

    trusted: TrustedKeys
    stored: Callable[[str], Awaitable[PolicySource]]
    check: Callable[[PolicySource], Awaitable[None]]
    before: Callable[[], Awaitable[str | None]]

    async def admit(self, digest: str) -> None:
        """Whether a stored version may become active here. Raises ``NotFound`` and ``Conflict``.

        The signature is verified by the keys of today, whoever was trusted when the version was stored. And a version
        may be older than this program, and speak of what it no longer knows.
        """
        source = await self.stored(digest)
        self.signer(digest, source.signature)
        try:
            await self.check(source)
        except ValueError as error:
            finding = str(error).partition("\n")[0]
            raise Conflict(f"This program cannot use that version: {finding}", reason="unusable-policy") from error

    def signer(self, digest: str, signature: str | None) -> str | None:
        """Whose key the signature is by, if one is asked for. Raises ``Conflict``."""
        try:
            return self.trusted.signer(digest, signature)
        except NotSigned as error:
            told = f"That version cannot become active: {error}. Upload its files again, signed."
            raise Conflict(told, reason="unsigned") from error
