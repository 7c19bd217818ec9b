"""One HTTP exchange: what the middleware learn of a request and tell each other. Lives in the ASGI scope."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from starlette.types import Scope

from actions.action import Principal
from actions.errors import Unauthenticated
from actions.standard import Spec

_KEY = "chamberlain.exchange"
ABORT = "chamberlain.abort"
"""Where the ASGI scope holds what cuts the connection, unsent answer and all; only a real one has it."""


@dataclass(slots=True)
class Exchange:
    """``route`` is the matched template, None until and unless one matched. Times: aware, and monotonic seconds."""

    request_id: str
    received_at: datetime
    started: float
    client_address: str
    route: str | None = None
    spec: Spec | None = None
    principal: Principal | None = None
    replay_digest: bytes | None = field(default=None, repr=False)
    body_digest: bytes | None = field(default=None, repr=False)
    status: int = 0
    refusals: list[Unauthenticated] = field(default_factory=list)
    """What authentication has to count although the answer tells of it among others."""
    still_good: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)
    """Asks whether the request's credentials would be accepted now. Raises ``Unauthenticated``."""

    @staticmethod
    def of(scope: Scope) -> "Exchange":
        exchange = scope[_KEY]
        assert isinstance(exchange, Exchange)  # the outermost middleware put it there  # noqa: S101
        return exchange

    def enter(self, scope: Scope) -> None:
        scope[_KEY] = self
