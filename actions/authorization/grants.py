"""What would allow a cell that no rule speaks of: one line for a role that is held, or one more role; and whom else
that would let in.

An allow is exact for every set of roles once it is exact for single roles in three values: a new line lets in whoever
holds one of the roles that it gives something to, unless another of its roles had allowed it before or denies it. This
module knows no database; who holds a role is told to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from pydantic import Field

from actions.authorization.answers import Cell, CountingRole
from actions.authorization.index import PolicyIndex
from actions.authorization.rules import ALLOW, FILE_OF, Role, RoleLink
from actions.directory import NOBODY_YET
from actions.model import Output
from actions.vocabulary import Permission, ScopeType

BINDINGS_AT_MOST = 5
CELLS_AT_MOST = 25


class GrantKind(StrEnum):
    LINE = "line"
    BINDING = "binding"


class LetIn(Output):
    """Other users whom a line would let in."""

    here: int = Field(description="Let in where it was asked.")
    first: list[UUID] = Field(description="A few of them.")
    anywhere: int = Field(
        description="Holders of one of these roles in any scope: there are at most so many, for each is let in where "
        "its role counts, unless another role of its own allows it already, or denies it."
    )


class PolicyGrant(Output):
    """One change that would allow it: a line in a file, or a binding of one more role."""

    kind: GrantKind
    file: str | None = Field(description="Of a line: the file that it belongs in.")
    line: str | None = Field(description="Of a line: what to append.")
    role: str = Field(description="The role that the line speaks of, or that is bound.")
    bound_in: str | None = Field(description="Of a binding: where. A type of scope, if no scope was named.")
    roles: list[str] = Field(description="Of a line: every role that gains this, and nothing else, by it.")
    users: LetIn | None = Field(description="Of a line: null where nobody was counted.")
    gains: list[Cell] = Field(
        description=f"What the principal gains, {CELLS_AT_MOST} cells at most: in the scope of the binding, and by a "
        "binding in those under it."
    )
    gained: int = Field(description="How many cells the principal gains.")
    loses: list[Cell] = Field(description="What the principal loses, because the role carries denies.")
    lost: int
    size: int = Field(description="By how many answers the policy changes: cells, times the roles or users that gain.")


@dataclass(frozen=True, slots=True)
class Holders:
    """Users who hold exactly these roles where it was asked: how many, and a few of them."""

    roles: frozenset[str]
    users: int
    first: tuple[UUID, ...] = ()


def grants(
    index: PolicyIndex,
    held: Sequence[CountingRole],
    permission: Permission,
    places: Mapping[ScopeType, str] | None = None,
) -> tuple[list[PolicyGrant], int]:
    """What would allow a cell that no rule speaks of for these roles, the smallest first, and how many bindings more.

    ``places`` are the scopes in which a role could be bound, by type; None: those of each type that can contain it.
    For the server's own principals, and whoever has not said who it is, nothing is suggested: what they may do is what
    the program that was shipped needs, and nobody can be given a role beside theirs.
    """
    if any(each.role in index.roles and is_the_servers(index.roles[each.role]) for each in held):
        return [], 0
    if places is None:
        kinds = [kind for kind in ScopeType if ScopeType(permission.scope) in kind.at_or_under]
        places = {kind: kind.value for kind in kinds}
    lines = [_line(index, role, permission) for role in _open_to_lines(index, held, permission)]
    bindings = sorted(_bindings(index, held, permission, places), key=_order)
    chosen = sorted([*lines, *bindings[:BINDINGS_AT_MOST]], key=_order)
    return chosen, len(bindings[BINDINGS_AT_MOST:])


def with_users(
    found: Sequence[PolicyGrant], here: Iterable[Holders], anywhere: Mapping[str, int], index: PolicyIndex, cell: Cell
) -> list[PolicyGrant]:
    """The same, with the users whom each line would let in beside the principal, and in the order that follows.

    ``here`` are the other users by the roles that count for them where it was asked; ``anywhere`` says for each line
    how many others hold one of its roles.
    """
    permission = Permission(cell.scope, cell.entity, cell.operation)
    undecided = [holders for holders in here if index.rule_for(holders.roles, permission) is None]
    counted = []
    for grant in found:
        if grant.line is None:
            counted.append(grant)
            continue
        let_in = [holders for holders in undecided if holders.roles.intersection(grant.roles)]
        total = anywhere.get(grant.line, 0)
        first = sorted(user for holders in let_in for user in holders.first)[:5]
        users = LetIn(here=sum(holders.users for holders in let_in), first=first, anywhere=total)
        counted.append(grant.model_copy(update={"users": users, "size": 1 + total}))
    return sorted(counted, key=_order)


def _order(grant: PolicyGrant) -> tuple[int, str, str]:
    return grant.size, grant.kind, grant.role


def _open_to_lines(index: PolicyIndex, held: Sequence[CountingRole], permission: Permission) -> list[str]:
    """The roles held that a line can be for: those that the policy knows, and that can be held where they count there.
    (For one that is merely supposed a line would be read, and mean nothing.)"""
    held_roles = dict.fromkeys(each.role for each in held)
    return [name for name in held_roles if name in index.roles and counts_in(index.roles[name], permission.scope)]


def is_the_servers(role: Role) -> bool:
    """Whether nobody is ever given the role, because only the server itself, or whoever is nobody yet, can hold it."""
    return role.system or role.name == NOBODY_YET


def counts_in(role: Role, scope: str) -> bool:
    """Whether the role can be held somewhere such that it counts in a scope of this type."""
    return any(scope in kind.at_or_under for kind in role.held_in)


def _line(index: PolicyIndex, role: str, permission: Permission) -> PolicyGrant:
    words = (role, permission.scope, permission.entity, permission.operation, ALLOW)
    inheriting = sorted(_inheriting(role, index.links))
    gaining = [name for name in inheriting if index.rule_for(frozenset((name,)), permission) is None]
    return PolicyGrant(
        kind=GrantKind.LINE,
        file=FILE_OF[permission.scope],
        line="p, " + ", ".join(words),
        role=role,
        bound_in=None,
        roles=gaining,
        users=None,
        gains=[Cell.of(permission)],
        gained=1,
        loses=[],
        lost=0,
        size=len(gaining),
    )


def _inheriting(role: str, links: Sequence[RoleLink]) -> set[str]:
    """The role, and all that inherit from it."""
    found, waiting = {role}, [role]
    while waiting:
        name = waiting.pop()
        below = {link.role for link in links if link.inherits == name} - found
        found |= below
        waiting.extend(below)
    return found


def _bindings(
    index: PolicyIndex, held: Sequence[CountingRole], permission: Permission, places: Mapping[ScopeType, str]
) -> Iterable[PolicyGrant]:
    """Every role that may do it already and could be bound, each in the narrowest place where that is possible."""
    for name, role in index.roles.items():
        rule = index.rule_for(frozenset((name,)), permission)
        kinds = [kind for kind in role.bindable if kind in places and kind is not ScopeType.USER]  # none is made there
        if rule is None or not rule.allows or not kinds:
            continue
        narrowest = max(kinds, key=list(ScopeType).index)
        before = frozenset(each.role for each in held if _counts_from(each, narrowest))
        gains, losses = set[Permission](), set[Permission]()
        for kind in narrowest.at_or_under:
            now, then = (index.allowed_cells(roles, kind) for roles in (before, before | {name}))
            gains |= then - now
            losses |= now - then
        yield PolicyGrant(
            kind=GrantKind.BINDING,
            file=None,
            line=None,
            role=name,
            bound_in=places[narrowest],
            roles=[],
            users=None,
            gains=_cells(gains),
            gained=len(gains),
            loses=_cells(losses),
            lost=len(losses),
            size=len(gains) + len(losses),
        )


def _counts_from(held: CountingRole, kind: ScopeType) -> bool:
    """Whether a role counts in the whole of the scope of this type that was asked about. One supposed does."""
    return held.scope is None or kind in ScopeType(held.scope.partition(":")[0]).at_or_under


def _cells(found: Iterable[Permission]) -> list[Cell]:
    return [Cell.of(each) for each in sorted(found, key=str)[:CELLS_AT_MOST]]
