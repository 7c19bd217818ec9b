"""Who can, what can, and the matrix of both: exact, for every role, cell by cell.

A role says of a cell *allow*, *deny* or nothing. Whoever holds several is denied what any of them is denied, and else
allowed what any of them is allowed. Inheritance and wildcards are spelled out in the index already. This module knows
roles and bindings that it is handed, and no user, no database and no printing.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from pydantic import Field

from actions.action import ADMIN_LINEAGE, Lineage
from actions.authorization.answers import Cell, PolicyLine, Verdict
from actions.authorization.index import PolicyIndex
from actions.authorization.rules import Role, Rule
from actions.authorization.standing import Standing
from actions.model import Output
from actions.vocabulary import Permission, ScopeType

_SCOPES = [*ScopeType]


class RoleVerdict(Output):
    """What one role says of a cell."""

    role: str
    verdict: Verdict
    rule: PolicyLine | None = Field(description="The first line that decides; null where no line speaks of it.")
    held_in: list[ScopeType] = Field(description="The types of scope where somebody can come to hold it.")
    system: bool = Field(description="Held by a principal of the server itself, and by nobody else.")
    counts: bool = Field(description="Whether it can be held where it would count for this cell.")


class PersonVerdict(Output):
    """What the roles say that a user holds, together, in one scope."""

    user_id: UUID
    username: str | None = Field(description="Told to those who may look at users.")
    roles: list[str] = Field(description="The roles that count there.")
    verdict: Verdict
    rule: PolicyLine | None


class WhoCan(Output):
    """Who may do something: of the roles, and, where a scope is named, of the people."""

    policy: str = Field(description="The digest of the policy version.")
    cell: Cell
    scope: str | None = Field(default=None, description="Where, as it was asked; null: only the roles were asked for.")
    anybody: bool = Field(description="Whether there is somebody who may; without a scope, whether there can be.")
    roles: list[RoleVerdict]
    people: list[PersonVerdict] = Field(
        default_factory=list, description="The users whose roles there speak of it, whether they allow or deny it."
    )
    next_cursor: str | None = None


class CellVerdict(Output):
    cell: Cell
    verdict: Verdict
    rule: PolicyLine | None


class ScopeReach(Output):
    """What may be done in one scope, or in any of a type where no scope is named."""

    scope: str | None = Field(description="`admin`, or the type and id. Null: wherever the roles count.")
    roles: list[str] = Field(description="The roles that count there.")
    cells: list[CellVerdict] = Field(
        description="What they allow, and what they deny by name. The rest no line allows."
    )


class WhatCan(Output):
    """What somebody may do."""

    policy: str = Field(description="The digest of the policy version.")
    principal: str = Field(description="As it was asked.")
    in_force: bool = Field(default=True, description="False for a user who cannot sign in now, and so does nothing.")
    reaches: list[ScopeReach] = Field(
        description="The scope that was named; or each where a role is held, with what that allows there and under it."
    )
    next_cursor: str | None = None

    @property
    def anything(self) -> bool:
        return any(cell.verdict is Verdict.ALLOW for reach in self.reaches for cell in reach.cells)


class MatrixColumn(Output):
    """A role; or a user, with the roles that count in the scope."""

    name: str = Field(description="The role, or the user's id.")
    username: str | None = None
    roles: list[str]


class MatrixRow(Output):
    cell: Cell
    verdicts: list[Verdict] = Field(description="One for each column.")


class Matrix(Output):
    policy: str = Field(description="The digest of the policy version.")
    scope: str | None = Field(default=None, description="Whose people the columns are; null: they are roles.")
    columns: list[MatrixColumn]
    rows: list[MatrixRow]
    next_cursor: str | None = None


def verdict_of(index: PolicyIndex, roles: frozenset[str], permission: Permission) -> tuple[Verdict, Rule | None]:
    """What a set of roles says of a cell, and the rule that decides."""
    rule = index.rule_for(roles, permission)
    if rule is None:
        return Verdict.NONE, None
    return (Verdict.ALLOW if rule.allows else Verdict.DENY), rule


def line_of(rule: Rule | None) -> PolicyLine | None:
    return None if rule is None else PolicyLine.of(rule)


def who_can(index: PolicyIndex, permission: Permission) -> WhoCan:
    """Every role of a policy with what it says of a cell, in the order in which roles are declared."""
    told = []
    for role in index.roles.values():
        verdict, rule = verdict_of(index, frozenset((role.name,)), permission)
        told.append(
            RoleVerdict(
                role=role.name,
                verdict=verdict,
                rule=line_of(rule),
                held_in=list(role.held_in),
                system=role.system,
                counts=counts_in(role, permission.scope),
            )
        )
    anybody = any(role.verdict is Verdict.ALLOW and role.counts for role in told)
    return WhoCan(policy=index.digest, cell=Cell.of(permission), anybody=anybody, roles=told)


def counts_in(role: Role, scope_type: str) -> bool:
    """Whether a role can be held in a scope of this type or in one that contains such a scope."""
    return any(scope_type in held.at_or_under for held in role.held_in)


def speaking(index: PolicyIndex, permission: Permission) -> tuple[frozenset[str], frozenset[str]]:
    """The roles that allow a cell, and those that deny it. Whoever holds one of the first and none of the second where
    they count may do it, and nobody else."""
    said: dict[Verdict, set[str]] = {verdict: set() for verdict in Verdict}
    for role in index.roles:
        said[verdict_of(index, frozenset((role,)), permission)[0]].add(role)
    return frozenset(said[Verdict.ALLOW]), frozenset(said[Verdict.DENY])


def what_can(index: PolicyIndex, roles: frozenset[str], scope_types: Iterable[str]) -> list[CellVerdict]:
    """What a set of roles is allowed, and denied by name, in scopes of some types."""
    told = []
    for permission in cells(index, scope_types):
        verdict, rule = verdict_of(index, roles, permission)
        if rule is not None:
            told.append(CellVerdict(cell=Cell.of(permission), verdict=verdict, rule=PolicyLine.of(rule)))
    return told


def what_roles_can(index: PolicyIndex, named: str, roles: frozenset[str], scope_types: Iterable[str]) -> WhatCan:
    """The same as an answer, of roles that are supposed to count. ``named`` is what they were asked by."""
    reach = ScopeReach(scope=None, roles=sorted(roles), cells=what_can(index, roles, scope_types))
    return WhatCan(policy=index.digest, principal=named, reaches=[reach])


def cells(index: PolicyIndex, scope_types: Iterable[str], entity: str | None = None) -> list[Permission]:
    """The cells of some types of scope, perhaps of one entity: by scope, entity and operation."""
    wanted = set(scope_types)
    found = (cell for cell in index.vocabulary if cell.scope in wanted and entity in (None, cell.entity))
    return sorted(found, key=lambda cell: (_SCOPES.index(ScopeType(cell.scope)), cell.entity, cell.operation))


def matrix(
    index: PolicyIndex,
    columns: Mapping[str, frozenset[str]] | None = None,
    *,
    scope_types: Collection[str] = _SCOPES,
    entity: str | None = None,
) -> Matrix:
    """What each column may do: a mark for each cell. A column is a set of roles by name; unsaid, each role is one."""
    if columns is None:
        columns = {role: frozenset((role,)) for role in index.roles}
    return Matrix(
        policy=index.digest,
        columns=[MatrixColumn(name=name, roles=sorted(roles)) for name, roles in columns.items()],
        rows=[
            MatrixRow(cell=Cell.of(cell), verdicts=[verdict_of(index, roles, cell)[0] for roles in columns.values()])
            for cell in cells(index, scope_types, entity)
        ],
    )


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """In which scopes of a type something is allowed: by the scope itself where that is told, else by its domain where
    that is, else ``everywhere`` alike."""

    everywhere: bool
    domains: Mapping[UUID, bool]
    scopes: Mapping[UUID, bool]


def where_allowed(standing: Standing, permission: Permission) -> Whereabouts:
    """Where somebody may do something, however many scopes there are: the answer changes only where a role is held."""
    scope_type = ScopeType(permission.scope)
    domains: dict[UUID, bool] = {}
    scopes: dict[UUID, bool] = {}
    for lineage in places_held(standing):
        scope = lineage.scope
        if scope.id is not None:
            said = scopes if scope.type is scope_type else domains if scope.type is ScopeType.DOMAIN else None
            if said is not None and scope.id not in said:
                said[scope.id] = standing.decide(lineage, permission).allowed
    return Whereabouts(standing.decide(ADMIN_LINEAGE, permission).allowed, domains, scopes)


def places_held(standing: Standing) -> Iterator[Lineage]:
    """The scopes in which somebody holds a role now, its own among them; some perhaps more than once."""
    for binding in standing.live:
        yield binding.lineage
    if standing.home is not None:
        yield standing.home
