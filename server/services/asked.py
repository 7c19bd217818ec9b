"""Whom and where a question is about: words resolved to roles that count and to scopes that exist.

It asks the directory and the database, as the pipeline does before a decision, and decides nothing itself.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from actions.action import ADMIN_LINEAGE, ADMIN_SCOPE, Lineage, Principal, PrincipalKind
from actions.authorization.analysis import Whereabouts, where_allowed
from actions.authorization.asked import NotUnderstood, permission_of, roles_of
from actions.authorization.index import PolicyIndex
from actions.authorization.standing import Standing
from actions.directory import implied_bindings
from actions.entities import permissions_by_action
from actions.errors import Fault, Invalid
from actions.model import NAME_PATTERN
from actions.vocabulary import Permission, ScopeType
from server.repositories.standings import StandingRepository
from server.repositories.unit import Unit

_NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody who is asked about: with a standing, or roles that are supposed to count wherever it is asked.

    ``in_force`` is false for a user who cannot sign in: to it nothing is allowed."""

    index: PolicyIndex
    standing: Standing | None = None
    supposed: frozenset[str] = frozenset()
    in_force: bool = True

    def roles_in(self, lineage: Lineage) -> frozenset[str]:
        return self.supposed if self.standing is None else self.standing.roles_in(lineage)

    def where(self, permission: Permission) -> Whereabouts:
        """In which scopes of the permission's type it is allowed."""
        if not self.in_force:
            return Whereabouts(False, {}, {})
        if self.standing is None:
            return Whereabouts(self.index.decide(self.supposed, permission).allowed, {}, {})
        return where_allowed(self.standing, permission)


async def user(unit: Unit, standings: StandingRepository, index: PolicyIndex, key: str) -> Subject | None:
    """A user by id, with what it holds now. None: there is none."""
    home = await unit.directory.locate("user", key)
    if home is None or home.scope.id is None:
        return None
    bindings = await unit.directory.bindings(home.scope.id)
    signing_in = await standings.signing_in(unit, (home.scope.id,))
    return Subject(index, Standing(index, bindings, datetime.now(UTC), home), in_force=bool(signing_in))


def inside(index: PolicyIndex, name: str) -> Subject | None:
    """A principal that is no user: ``system:sweeper``, ``anonymous``. None: there is none."""
    kind = PrincipalKind.ANONYMOUS if name == PrincipalKind.ANONYMOUS else PrincipalKind.SYSTEM
    bindings = implied_bindings(Principal(kind, name))
    return Subject(index, Standing(index, bindings, datetime.now(UTC))) if bindings else None


def supposed(index: PolicyIndex, roles: str) -> Subject | None:
    """The holder of some roles, joined by +. None: the policy does not know them all."""
    try:
        return Subject(index, supposed=roles_of(roles, index.roles))
    except NotUnderstood:
        return None


async def place(unit: Unit, standings: StandingRepository, scope_type: ScopeType, ref: str) -> Lineage | None:
    """A scope by what it is called: a domain's name or id, a project's or user's id. None: there is none."""
    if scope_type is ScopeType.ADMIN:
        return ADMIN_LINEAGE if ref in ("", ADMIN_SCOPE.type) else None
    if scope_type is ScopeType.DOMAIN and _NAME.fullmatch(ref):
        ref = str(await standings.domain_named(unit, ref) or ref)
    return await unit.directory.locate(scope_type.value, ref)


def permission(word: str) -> Permission | None:
    """What an action needs, by its name or its words. None: there is none."""
    try:
        return permission_of(word, permissions_by_action())
    except NotUnderstood:
        return None


def unknown(pointer: str, kind: str, hint: str = "") -> Invalid:
    """The refusal of a question that names what is not there."""
    return Invalid(
        hint or f"There is no such {kind}.", reason=f"unknown-{kind}", errors=[Fault(pointer, f"names no {kind}")]
    )


def scope_name(lineage: Lineage) -> str:
    """``admin``, or the type and id: ``domain:0199...``."""
    scope = lineage.scope
    return scope.type.value if scope.id is None else f"{scope.type}:{scope.id}"


def user_id(scope: Lineage) -> UUID | None:
    """The user whose scope it is, who is its owner."""
    return scope.scope.id if scope.scope.type is ScopeType.USER else None
