"""Who can, what can, and the matrix, on the server: of roles, and of the people who hold them now.

What the files say is asked of the pure functions before a unit of work opens; who holds what is read in it. A decision
here is the decision that the pipeline would make for that person there, by the same index and the same roles.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from pydantic import BaseModel

from actions.action import Lineage
from actions.authorization.analysis import (
    Matrix,
    PersonVerdict,
    ScopeReach,
    WhatCan,
    WhoCan,
    cells,
    line_of,
    matrix,
    places_held,
    speaking,
    verdict_of,
    what_can,
    what_roles_can,
    who_can,
)
from actions.authorization.answers import Verdict
from actions.authorization.index import PolicyIndex
from actions.directory import OWNER
from actions.entities.policy_questions import (
    MATRIX,
    SPECS,
    WHAT_CAN,
    WHO_CAN,
    MatrixQuestion,
    WhatCanQuestion,
    WhoCanQuestion,
)
from actions.errors import Fault, Invalid
from actions.processor import Given, Offer
from actions.standard import Spec
from actions.vocabulary import Permission, ScopeType
from server.repositories.database import Row
from server.repositories.standings import StandingRepository
from server.repositories.unit import Unit
from server.services import asked, page_tokens
from server.services.chosen_policy import ChosenPolicy
from server.services.question_record import understood

_LOOKING_AT_USERS = Permission(ScopeType.ADMIN.value, "user", "get")

VERDICTS_AT_MOST = 200_000
"""In a matrix of roles. One of people is as long as its page."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The policy that is asked, and what it says of the roles."""

    index: PolicyIndex
    permission: Permission | None = None
    roles: BaseModel | None = None


class PolicyQuestionService:
    def __init__(self, standings: StandingRepository, chosen: ChosenPolicy) -> None:
        self._standings = standings
        self._chosen = chosen
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers = {WHO_CAN: self.who_can, WHAT_CAN: self.what_can, MATRIX: self.matrix}
        prepares = {WHO_CAN: self._ask_roles, WHAT_CAN: self._choose, MATRIX: self._ask_matrix}
        return (Offer(spec, handlers[spec.operation], prepares[spec.operation]) for spec in self.specs)

    # -- before a unit opens: the files --

    async def _choose(self, given: Given[Any]) -> Prepared:
        return Prepared(await self._chosen.of(given.input))

    async def _ask_roles(self, given: Given[Any]) -> Prepared:
        question: WhoCanQuestion = given.input
        permission = asked.needed(question.action)
        if question.scope is not None:
            asked.scope_type(question.scope, permission)
        index = await self._chosen.of(question)
        return Prepared(index, permission, await asyncio.to_thread(who_can, index, permission))

    async def _ask_matrix(self, given: Given[Any]) -> Prepared:
        question: MatrixQuestion = given.input
        index = await self._chosen.of(question)
        if question.entity is not None and question.entity not in {cell.entity for cell in index.vocabulary}:
            raise asked.unknown("entity", f"There is no entity '{question.entity}'.")
        for number, role in enumerate(question.roles):
            if role not in index.roles:
                raise asked.unknown("role", f"'{role}' is no role of this policy.", f"/roles/{number}")
        if question.scope is not None:
            return Prepared(index)
        columns = {role: frozenset((role,)) for role in question.roles or index.roles}
        types = (question.scope_type,) if question.scope_type else tuple(ScopeType)
        if len(columns) * len(cells(index, types, question.entity)) > VERDICTS_AT_MOST:
            much = f"The matrix has more than {VERDICTS_AT_MOST} verdicts."
            faults = [Fault("", "is about too much: name some roles, an entity or a type of scope")]
            raise Invalid(much, reason="too-many-cells", errors=faults)
        told = await asyncio.to_thread(matrix, index, columns, scope_types=types, entity=question.entity)
        return Prepared(index, roles=told)

    # -- in a unit: the people --

    async def who_can(self, unit: Unit, given: Given[Any]) -> BaseModel:
        question: WhoCanQuestion = given.input
        prepared = cast(Prepared, given.prepared)
        index, permission, told = prepared.index, prepared.permission, cast(WhoCan, prepared.roles)
        if question.scope is None or permission is None:
            understood(unit, policy=index.digest, action=question.action)
            return told
        asked.require_sight(unit)
        lineage = await asked.scope(unit, self._standings, question.scope)
        understood(unit, policy=index.digest, action=question.action, scope=asked.scope_name(lineage))
        if lineage.deleted:
            return told.model_copy(update={"scope": question.scope, "anybody": False})
        allowing, denying = speaking(index, permission)
        now, owner = datetime.now(UTC), asked.user_id(lineage)
        digest = page_tokens.digest_of(question, "cursor", "limit")
        after = page_tokens.read(question.cursor, digest, UUID).after if question.cursor else None
        may = await self._standings.people(
            unit,
            lineage,
            now,
            roles=allowing,
            denying=denying,
            owner=owner if OWNER in allowing else None,
            barred=owner if OWNER in denying else None,
            after=None,
            limit=1,
        )
        rows = await self._standings.people(
            unit,
            lineage,
            now,
            roles=allowing | denying,
            owner=owner if OWNER in allowing | denying else None,
            after=after,
            limit=question.limit + 1,
        )
        named = asked.may(unit, _LOOKING_AT_USERS)
        people = []
        for row in rows[: question.limit]:
            roles = _roles(row, owner)
            verdict, rule = verdict_of(index, roles, permission)
            people.append(
                PersonVerdict(
                    user_id=row["id"],
                    username=row["username"] if named else None,
                    roles=sorted(roles),
                    verdict=verdict,
                    rule=line_of(rule),
                )
            )
        inside = any(role.system and role.verdict is Verdict.ALLOW for role in told.roles)
        more = len(rows) > question.limit
        return WhoCan(
            policy=told.policy,
            cell=told.cell,
            scope=question.scope,
            anybody=bool(may) or inside,
            roles=told.roles,
            people=people,
            next_cursor=page_tokens.token(digest, people[-1].user_id, question.limit) if more else None,
        )

    async def what_can(self, unit: Unit, given: Given[Any]) -> BaseModel:
        question: WhatCanQuestion = given.input
        index = cast(Prepared, given.prepared).index
        asked.require_sight_of(unit, question.principal, question.scope)
        subject = await asked.principal(unit, self._standings, index, question.principal)
        lineage = await asked.scope(unit, self._standings, question.scope) if question.scope is not None else None
        understood(
            unit,
            policy=index.digest,
            principal=question.principal,
            scope=None if lineage is None else asked.scope_name(lineage),
            scope_type=question.scope_type,
        )
        types = [*ScopeType] if question.scope_type is None else [question.scope_type]
        told = WhatCan(policy=index.digest, principal=question.principal, in_force=subject.in_force, reaches=[])
        if lineage is not None:
            types = [kind for kind in types if kind is lineage.scope.type]
            return told.model_copy(update={"reaches": [_reach(subject, lineage, types, asked.scope_name(lineage))]})
        if subject.standing is None:
            return what_roles_can(index, question.principal, subject.supposed, types)
        digest = page_tokens.digest_of(question, "cursor", "limit")
        after = page_tokens.read(question.cursor, digest, str).after if question.cursor else None
        held = {asked.scope_name(lineage): lineage for lineage in places_held(subject.standing)}
        names = sorted(name for name in held if after is None or name > after)
        reaches = []
        for name in names[: question.limit]:
            there = held[name]
            under = [kind for kind in types if kind in there.scope.type.at_or_under]
            if not await unit.is_deleted(there.scope):
                reaches.append(_reach(subject, there, under, name))
        more = len(names) > question.limit
        last = page_tokens.token(digest, names[question.limit - 1], question.limit) if more else None
        return told.model_copy(update={"reaches": reaches, "next_cursor": last})

    async def matrix(self, unit: Unit, given: Given[Any]) -> BaseModel:
        question: MatrixQuestion = given.input
        prepared = cast(Prepared, given.prepared)
        narrowed = {"scope_type": question.scope_type, "entity": question.entity}
        if question.scope is None:
            understood(unit, policy=prepared.index.digest, roles="+".join(question.roles) or None, **narrowed)
            return cast(Matrix, prepared.roles)
        asked.require_sight(unit)
        lineage = await asked.scope(unit, self._standings, question.scope)
        understood(unit, policy=prepared.index.digest, scope=asked.scope_name(lineage), **narrowed)
        types = [kind for kind in (lineage.scope.type,) if question.scope_type in (None, kind)]
        digest = page_tokens.digest_of(question, "cursor", "limit")
        after = page_tokens.read(question.cursor, digest, UUID).after if question.cursor else None
        owner = asked.user_id(lineage)
        rows: list[Row] = []
        if not lineage.deleted:
            rows = await self._standings.people(
                unit, lineage, datetime.now(UTC), roles=None, owner=owner, after=after, limit=question.limit + 1
            )
        shown = rows[: question.limit]
        columns = {str(row["id"]): _roles(row, owner) for row in shown}
        told = matrix(prepared.index, columns, scope_types=types, entity=question.entity)
        named = asked.may(unit, _LOOKING_AT_USERS)
        names = [row["username"] if named else None for row in shown]
        more = len(rows) > question.limit
        return told.model_copy(
            update={
                "scope": question.scope,
                "columns": [
                    column.model_copy(update={"username": name})
                    for column, name in zip(told.columns, names, strict=True)
                ],
                "next_cursor": page_tokens.token(digest, shown[-1]["id"], question.limit) if more else None,
            }
        )


def _roles(row: Row, owner: UUID | None) -> frozenset[str]:
    bound = frozenset(row["roles"] or ())
    return bound | {OWNER} if row["id"] == owner else bound


def _reach(subject: asked.Subject, lineage: Lineage, types: list[ScopeType], name: str) -> ScopeReach:
    """What a subject may do in a scope, and with the same roles in those of other types under it."""
    roles = subject.roles_in(lineage)
    nothing = lineage.deleted or not subject.in_force
    return ScopeReach(scope=name, roles=sorted(roles), cells=[] if nothing else what_can(subject.index, roles, types))
