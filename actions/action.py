"""One request as the pipeline sees it: who asks, where, for what; what the policy said; and the permit that proves it.

Values only. This module knows neither the policy files nor the database nor HTTP.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, NamedTuple, NoReturn, Protocol, final
from uuid import UUID

from pydantic import BaseModel

from actions.errors import ChamberlainError
from actions.vocabulary import ActionSpec, In, Out, Permission, ScopeType


@dataclass(frozen=True, slots=True)
class Address:
    """A scope as a caller writes it: a domain's name, a project's or user's id, ``me``; empty for admin."""

    type: ScopeType
    ref: str = ""


class Scope(NamedTuple):
    """A scope that exists. ``id`` is None for admin alone."""

    type: ScopeType
    id: UUID | None = None


ADMIN_SCOPE = Scope(ScopeType.ADMIN)


@dataclass(frozen=True, slots=True)
class Lineage:
    """A scope and everything that contains it, narrowest first, ``admin`` last."""

    scopes: tuple[Scope, ...]
    deleted: bool = False

    @property
    def scope(self) -> Scope:
        return self.scopes[0]

    def id_of(self, scope_type: ScopeType) -> UUID | None:
        for scope in self.scopes:
            if scope.type is scope_type:
                return scope.id
        return None

    def contains(self, other: "Lineage") -> bool:
        """Whether ``other`` is this scope or lies under it."""
        return self.scope in other.scopes


ADMIN_LINEAGE = Lineage((ADMIN_SCOPE,))


class PrincipalKind(StrEnum):
    USER = "user"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller. ``credential`` is the public id of what it proved itself with: an access key, or
    ``login:<id>`` for a bearer token, whose ``login`` that is."""

    kind: PrincipalKind
    name: str
    id: UUID | None = None
    credential: str | None = None
    login: UUID | None = None


ANONYMOUS = Principal(PrincipalKind.ANONYMOUS, "anonymous")
"""Whoever has not said who it is."""


@dataclass(frozen=True, slots=True)
class RoleBinding:
    """A role held in a scope, perhaps until a time (aware, UTC)."""

    role: str
    lineage: Lineage
    expires_at: datetime | None = None

    def holds_at(self, moment: datetime) -> bool:
        return self.expires_at is None or moment < self.expires_at


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What the transport knows of a request. ``replay_digest`` is the signature's, unique for each signed request."""

    request_id: str
    received_at: datetime
    client_address: str | None = None
    surface: str = "internal"
    replay_digest: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Action(Generic[In, Out]):
    """One request: a spec, a principal, a scope, perhaps a target, and the input as it came.

    ``given`` is a JSON document as bytes, or a mapping of parsed parameters, or the error that reading it ended in; it
    is looked at only after the decision, and may hold secrets, so no repr shows it.
    """

    id: UUID
    spec: ActionSpec[In, Out]
    principal: Principal
    address: Address
    context: RequestContext
    target: str | None = None
    given: bytes | Mapping[str, object] | ChamberlainError = field(default=b"", repr=False)


AnyAction = Action[BaseModel, BaseModel]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy said. ``rule`` is ``file:line`` of the rule that decided, None for the default deny.

    Nothing in it tells who asked, so whatever one rule of a version decides is one and the same decision.
    """

    allowed: bool
    rule: str | None
    policy: str


class Authority(Protocol):
    """A principal's whole standing at the moment of a decision, for laws 4 and 5."""

    @property
    def live(self) -> tuple[RoleBinding, ...]:
        """The bindings that have not expired."""

    def allowed(self, lineage: Lineage) -> frozenset[Permission]:
        """Every cell that is allowed in a scope."""

    def grants(self, role: str, lineage: Lineage, until: datetime | None) -> bool:
        """Whether binding ``role`` there gives away no more than the principal holds, for no longer than that."""

    def grows_without(self, role: str, lineage: Lineage) -> bool:
        """Whether losing one's own binding of a role would let the principal do more: the role carried a deny."""

    def covers(self, others: tuple[RoleBinding, ...]) -> bool:
        """Whether the principal may do everything that a holder of these bindings may."""


class PermitMisused(RuntimeError):
    """A permit was forged, copied, spent twice, or taken to another task or action: an error in our own code."""


_MINT = object()


@final
class Permit:
    """Proof that the policy allowed one action. Only the processor mints one; it opens one unit of work, once.

    It guards against mistakes, not against hostile code in the process.
    """

    __slots__ = ("_spent", "_task", "action", "authority", "decision", "lineage")
    action: AnyAction
    decision: Decision
    lineage: Lineage
    authority: Authority
    _task: "asyncio.Task[object] | None"
    _spent: bool

    def __init__(
        self, action: AnyAction, decision: Decision, lineage: Lineage, authority: Authority, *, mint: object
    ) -> None:
        if mint is not _MINT or not decision.allowed:
            raise PermitMisused("a permit is minted by the processor alone, from a decision that allows")
        keep = object.__setattr__
        keep(self, "action", action)
        keep(self, "decision", decision)
        keep(self, "lineage", lineage)
        keep(self, "authority", authority)
        keep(self, "_task", asyncio.current_task())
        keep(self, "_spent", False)

    def spend(self) -> None:
        """Called by the unit of work that it opens. Raises ``PermitMisused`` when it may open none."""
        if self._spent:
            raise PermitMisused("this permit has already opened a unit of work")
        if asyncio.current_task() is not self._task:
            raise PermitMisused("a permit is good only in the task that it was minted in")
        object.__setattr__(self, "_spent", True)

    def _refuse(self, *_: object) -> NoReturn:
        raise PermitMisused("a permit can be neither copied nor changed")

    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = __replace__ = _refuse
    __setattr__ = __delattr__ = _refuse
