"""Whom and where a question is about: words resolved to roles that count and to scopes that exist.

It asks the directory and the database, as the pipeline does before a decision, and decides nothing itself.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from actions.action import ADMIN_LINEAGE, ADMIN_SCOPE, Lineage, Principal, PrincipalKind, Scope
from actions.authorization.analysis import Whereabouts, where_allowed
from actions.authorization.answers import CountingRole
from actions.authorization.asked import NotUnderstood, permission_of, roles_of
from actions.authorization.explain import stated
from actions.authorization.index import PolicyIndex
from actions.authorization.standing import Standing
from actions.directory import implied_bindings
from actions.entities import permissions_by_action
from actions.entities.role_binding import ROLE_BINDING
from actions.errors import Denied, Fault, Invalid
from actions.model import NAME_PATTERN
from actions.vocabulary import SEARCH, Permission, ScopeType
from server.repositories.standings import StandingRepository
from server.repositories.unit import Unit

SEES_WHO_HOLDS_WHAT = Permission(ScopeType.ADMIN.value, ROLE_BINDING.name, SEARCH.word)
"""What it takes, besides reading the policy, to be told who holds what in it."""
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


def may(unit: Unit, permission: Permission) -> bool:
    """Whether the caller may do something else, too, in the admin scope."""
    return permission in unit.permit.authority.allowed(ADMIN_LINEAGE)


def sees_who_holds_what(unit: Unit) -> bool:
    return may(unit, SEES_WHO_HOLDS_WHAT)


def require_sight(unit: Unit) -> None:
    """Refuse who may read the policy and may not see who holds what. Raises ``Denied``, whatever is asked about."""
    if not sees_who_holds_what(unit):
        raise Denied("may not see who holds which role", "You may ask about roles, and not about users or scopes.")


def require_sight_of(unit: Unit, principal: str, scope: str | None) -> None:
    """The same, of a question about a user, or about a scope that not everybody knows of."""
    if principal.partition(":")[0] == PrincipalKind.USER or scope not in (None, ADMIN_SCOPE.type):
        require_sight(unit)


async def principal(unit: Unit, standings: StandingRepository, index: PolicyIndex, word: str) -> Subject:
    """Whom a word names: ``user:`` and an id, a principal of the server's own, or roles. Raises ``Invalid``."""
    kind, _, key = word.partition(":")
    if kind != PrincipalKind.USER:
        roles = said_roles(index, word)
        return inside(index, word) or Subject(index, supposed=frozenset(held.role for held in roles))
    found = await user(unit, standings, index, key)
    if found is None:
        raise no_user()
    return found


def said_roles(index: PolicyIndex, word: str) -> list[CountingRole]:
    """The roles that a word says by itself. Raises ``Invalid``."""
    try:
        return stated(word, index)
    except NotUnderstood as error:
        raise unknown("principal", str(error)) from None


def no_user() -> Invalid:
    return unknown("principal", "There is no user of that id.")


async def home_of(unit: Unit, key: str) -> tuple[UUID, Lineage] | None:
    """A user by id, with its own scope. None: there is none."""
    home = await unit.directory.locate("user", key)
    return None if home is None or home.scope.id is None else (home.scope.id, home)


async def user(unit: Unit, standings: StandingRepository, index: PolicyIndex, key: str) -> Subject | None:
    """A user by id, with what it holds now. None: there is none."""
    found = await home_of(unit, key)
    if found is None:
        return None
    who, home = found
    bindings = await unit.directory.bindings(who)
    signing_in = await standings.signing_in(unit, (who,))
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


async def scope(unit: Unit, standings: StandingRepository, word: str, permission: Permission | None = None) -> Lineage:
    """The scope that a word names, of the type in which the permission is asked for. Raises ``Invalid``."""
    kind = scope_type(word, permission)
    found = await place(unit, standings, kind, word.partition(":")[2])
    if found is None:
        raise unknown("scope", f"There is no such {kind}.")
    return found


def scope_type(word: str, permission: Permission | None = None) -> ScopeType:
    """The type of the scope that a word names. Raises ``Invalid``, also where a permission is asked for elsewhere."""
    kind = word.partition(":")[0]
    if kind not in [*ScopeType] or (kind == ScopeType.ADMIN) != (word == kind):
        raise unknown("scope", "A scope is `admin`, or a type and a name or id: `domain:research`.")
    if permission is not None and kind != permission.scope:
        told = f"The action takes place in a scope of the type {permission.scope}."
        raise Invalid(told, reason="other-scope", errors=[Fault("/scope", "is of another type")])
    return ScopeType(kind)


async def place(unit: Unit, standings: StandingRepository, scope_type: ScopeType, ref: str) -> Lineage | None:
    """A scope by what it is called: a domain's name or id, a project's or user's id. None: there is none."""
    if scope_type is ScopeType.ADMIN:
        return ADMIN_LINEAGE if ref in ("", ADMIN_SCOPE.type) else None
    if scope_type is ScopeType.DOMAIN and _NAME.fullmatch(ref):
        ref = str(await standings.domain_named(unit, ref) or ref)
    return await unit.directory.locate(scope_type.value, ref)


def needed(word: str) -> Permission:
    """What an action needs, by its name or its words. Raises ``Invalid``."""
    try:
        return permission_of(word, permissions_by_action())
    except NotUnderstood as error:
        raise unknown("action", str(error)) from None


def permission(word: str) -> Permission | None:
    """The same. None: there is none."""
    try:
        return permission_of(word, permissions_by_action())
    except NotUnderstood:
        return None


def unknown(kind: str, told: str, pointer: str | None = None) -> Invalid:
    """The refusal of a question that names what is not there."""
    return Invalid(told, reason=f"unknown-{kind}", errors=[Fault(pointer or f"/{kind}", f"names no {kind}")])


def scope_name(lineage: Lineage) -> str:
    return ref(lineage.scope)


def ref(scope: Scope) -> str:
    """``admin``, or the type and id: ``domain:0199...``."""
    return scope.type.value if scope.id is None else f"{scope.type}:{scope.id}"


def user_id(scope: Lineage) -> UUID | None:
    """The user whose scope it is, who is its owner."""
    return scope.scope.id if scope.scope.type is ScopeType.USER else None
