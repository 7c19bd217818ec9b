"""From a request to its actions: what every surface makes an ``Action`` by, so that none of them can differ in it."""

from collections.abc import Mapping
from typing import Protocol

from pydantic import BaseModel

from actions.action import ANONYMOUS, Action, Address, AnyAction, RequestContext
from actions.errors import ChamberlainError, Unauthenticated
from actions.standard import Spec
from audit.record import new_id
from server.http.exchange import Exchange
from server.http.signature import Reason

Raw = bytes | Mapping[str, object] | ChamberlainError
"""An input as it came, or what reading it ended in."""


class Executes(Protocol):
    async def execute(self, action: AnyAction) -> BaseModel: ...


def action_of(
    spec: Spec, exchange: Exchange, surface: str, address: Address, target: str | None, given: Raw, digest: bytes | None
) -> AnyAction:
    """One action of a request. ``digest`` is what must not come twice; it counts for what changes something.

    Raises ``Unauthenticated`` where nobody has proved to be anybody and the action asks who it is.
    """
    principal = ANONYMOUS if spec.anonymous else exchange.principal
    if principal is None:
        raise Unauthenticated(Reason.MISSING_CREDENTIALS, reason=Reason.MISSING_CREDENTIALS)
    return Action(
        id=new_id(),
        spec=spec,
        principal=principal,
        address=address,
        context=RequestContext(
            exchange.request_id,
            exchange.received_at,
            exchange.client_address,
            surface,
            None if spec.operation.reads else digest,
        ),
        target=target,
        given=given,
    )
