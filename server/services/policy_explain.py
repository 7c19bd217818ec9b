"""Why a user, a principal of the server's own, or somebody with supposed roles is allowed or denied an action.

The roles are those that count in the pipeline: from the same directory, put together by the same ``Standing``. Who may
read a policy may ask about roles. What is said of users and scopes is read elsewhere, and asked for by its own word.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from actions.action import ADMIN_LINEAGE, Lineage, PrincipalKind, RoleBinding
from actions.authorization.answers import CountingRole
from actions.authorization.explain import Explanation, NoteKind, PolicyNote, explain
from actions.authorization.grants import GrantKind, with_users
from actions.authorization.index import PolicyIndex
from actions.authorization.standing import Standing
from actions.directory import OWNER
from actions.entities import ALL_SPECS
from actions.entities.policy_explain import SPECS, PolicyExplanation
from actions.processor import Given, Offer
from actions.standard import Spec
from actions.vocabulary import Permission, ScopeType
from server.repositories.policy_people import PolicyPeopleRepository
from server.repositories.standings import StandingRepository
from server.repositories.unit import Unit
from server.services import asked
from server.services.chosen_policy import ChosenPolicy
from server.services.question_record import understood


@dataclass(frozen=True)
class _Asker:
    """Whom a question is about: a user with its bindings, or whoever holds the roles that were stated."""

    stated: Sequence[CountingRole] = ()
    user: UUID | None = None
    bindings: tuple[RoleBinding, ...] = ()
    home: Lineage | None = None


class PolicyExplainService:
    def __init__(self, people: PolicyPeopleRepository, standings: StandingRepository, chosen: ChosenPolicy) -> None:
        self._people = people
        self._standings = standings
        self._chosen = chosen
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        return (Offer(spec, self.explain, self._index) for spec in self.specs)

    async def _index(self, given: Given[Any]) -> PolicyIndex:
        return await self._chosen.of(given.input)

    async def explain(self, unit: Unit, given: Given[Any]) -> BaseModel:
        question: PolicyExplanation = given.input
        assert isinstance(given.prepared, PolicyIndex)  # noqa: S101
        index = given.prepared
        asked.require_sight_of(unit, question.principal, question.scope)
        permission = asked.needed(question.action)
        asker = await self._asker(unit, question.principal, index)
        lineage = await self._lineage(unit, question.scope, permission, asker)
        understood(
            unit,
            policy=index.digest,
            principal=question.principal,
            action=question.action,
            scope=None if lineage is None else asked.scope_name(lineage),
        )
        held, expired = _counting(index, asker, lineage)
        named = [spec for spec in ALL_SPECS if question.action in (spec.name, str(spec.permission))]
        explanation = explain(
            index,
            held,
            permission,
            principal=question.principal,
            scope=question.scope if lineage is None or question.scope is not None else asked.ref(lineage.scope),
            places={scope.type: asked.ref(scope) for scope in lineage.scopes} if lineage else None,
            specs=named,
        )
        if lineage is not None and asked.sees_who_holds_what(unit):
            explanation = await self._count_users(unit, explanation, index, lineage, asker)
        notes = [*await self._out_of_force(unit, asker, lineage), *_held_elsewhere(index, asker, lineage, explanation)]
        return explanation.model_copy(update={"expired": expired, "notes": [*notes, *explanation.notes]})

    async def _asker(self, unit: Unit, text: str, index: PolicyIndex) -> _Asker:
        kind, _, rest = text.partition(":")
        if kind != PrincipalKind.USER:
            return _Asker(asked.said_roles(index, text))
        found = await asked.home_of(unit, rest)
        if found is None:
            raise asked.no_user()
        user, home = found
        return _Asker(user=user, bindings=await unit.directory.bindings(user), home=home)

    async def _lineage(self, unit: Unit, text: str | None, permission: Permission, asker: _Asker) -> Lineage | None:
        """Where it is asked. None: nowhere in particular, for roles that were stated. Raises ``Invalid``."""
        wanted = ScopeType(permission.scope)
        if text is not None:
            mine = asker.home if text == "user:me" and wanted is ScopeType.USER else None
            return mine or await asked.scope(unit, self._standings, text, permission)
        if asker.user is None:
            return None
        if wanted is not ScopeType.ADMIN:
            raise asked.unknown("scope", f"The action takes place in a {wanted}: say in which, as `{wanted}:...`.")
        return ADMIN_LINEAGE

    async def _count_users(
        self, unit: Unit, explanation: Explanation, index: PolicyIndex, lineage: Lineage, asker: _Asker
    ) -> Explanation:
        lines = [grant for grant in explanation.grants if grant.kind is GrantKind.LINE]
        if not lines:
            return explanation
        roles = sorted({role for grant in lines for role in grant.roles})
        now = datetime.now(UTC)
        here = await self._people.holders_here(unit, roles, lineage, asker.user, now)
        anywhere = {
            grant.line or "": await self._people.holders_anywhere(unit, grant.roles, asker.user, now) for grant in lines
        }
        counted = with_users(explanation.grants, here, anywhere, index, explanation.cell)
        return explanation.model_copy(update={"grants": counted})

    async def _out_of_force(self, unit: Unit, asker: _Asker, lineage: Lineage | None) -> list[PolicyNote]:
        """What refuses whatever the rules say: who is not in force, and where nothing is decided."""
        notes = []
        if lineage is not None and lineage.deleted:
            told = (
                f"The {lineage.scope.type} is deleted, or its domain is: nothing is decided there until it is restored."
            )
            notes.append(PolicyNote(kind=NoteKind.SCOPE_DELETED, sentence=told, refuses=True))
        if asker.user is None or asker.home is None:
            return notes
        status = await self._people.status(unit, asker.user)
        if asker.home.deleted:
            told = "The user is deleted, or its domain is, so none of its credentials is good."
            notes.append(PolicyNote(kind=NoteKind.USER_DELETED, sentence=told, refuses=True))
        elif status != "active":
            told = f"The user is {status}, so none of its credentials is good."
            notes.append(PolicyNote(kind=NoteKind.USER_INACTIVE, sentence=told, refuses=True))
        return notes


def _counting(
    index: PolicyIndex, asker: _Asker, lineage: Lineage | None
) -> tuple[list[CountingRole], list[CountingRole]]:
    """The roles that count, each with its binding, and those that would if they had not ended."""
    if asker.home is None or lineage is None:
        return list(asker.stated), []
    standing = Standing(index, asker.bindings, datetime.now(UTC), asker.home)
    here = [binding for binding in asker.bindings if binding.lineage.scope in lineage.scopes]
    held = [_held(binding) for binding in here if binding.holds_at(standing.now)]
    if OWNER in standing.roles_in(lineage):
        held.append(CountingRole(role=OWNER, scope=asked.ref(asker.home.scope), implied=True))
    return held, [_held(binding) for binding in here if not binding.holds_at(standing.now)]


def _held_elsewhere(
    index: PolicyIndex, asker: _Asker, lineage: Lineage | None, told: Explanation
) -> Iterator[PolicyNote]:
    """A role that would allow it, if it were held here: what is often meant by somebody who is refused."""
    if told.decided_by is not None or lineage is None:
        return
    permission, now = Permission(told.cell.scope, told.cell.entity, told.cell.operation), datetime.now(UTC)
    for binding in asker.bindings:
        rule = index.rule_for(frozenset((binding.role,)), permission)
        elsewhere = binding.holds_at(now) and binding.lineage.scope not in lineage.scopes
        if elsewhere and rule is not None and rule.allows:
            there = asked.scope_name(binding.lineage)
            sentence = f"{binding.role} would allow it, but is bound in {there}, which is elsewhere."
            yield PolicyNote(kind=NoteKind.HELD_ELSEWHERE, sentence=sentence)


def _held(binding: RoleBinding) -> CountingRole:
    return CountingRole(role=binding.role, scope=asked.ref(binding.lineage.scope), until=binding.expires_at)
