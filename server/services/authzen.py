"""The AuthZEN Authorization API: yes or no for enforcement points of other makes, and who, where and what by search.

It decides by the active policy, as the pipeline would for that subject there. What does not exist is a no like any
other. Each answer of yes or no stands in the audit record of the request that asked for it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel

from actions.action import Lineage
from actions.authorization.analysis import speaking, verdict_of
from actions.authorization.answers import Verdict
from actions.authorization.index import PolicyIndex
from actions.directory import OWNER
from actions.entities import permissions_by_action
from actions.entities.policy import PolicyQuestion
from actions.entities.policy_authzen import (
    EVALUATE,
    EVALUATE_ALL,
    SEARCH_ACTIONS,
    SEARCH_RESOURCES,
    SEARCH_SUBJECTS,
    SPECS,
    AccessContext,
    AccessDecision,
    AccessDecisions,
    AccessEvaluation,
    AccessEvaluationPart,
    AccessEvaluations,
    AccessNextPage,
    AccessPage,
    AccessResource,
    AccessSubject,
    ActionSearch,
    FoundAction,
    FoundActions,
    FoundResource,
    FoundResources,
    FoundSubject,
    FoundSubjects,
    Reason,
    ResourceSearch,
    Semantic,
    SubjectSearch,
)
from actions.errors import BadRequest, Fault
from actions.processor import Given, Offer
from actions.standard import Spec
from actions.vocabulary import ScopeType
from server.repositories.standings import StandingRepository
from server.repositories.unit import Unit
from server.services import asked, page_tokens
from server.services.chosen_policy import ChosenPolicy
from server.services.question_record import understood

T = TypeVar("T")
USER, ROLE, UNKNOWN = "user", "role", "unknown"
PAGE = 50
_ACTIVE = PolicyQuestion()
_STOPS: Mapping[Semantic, bool | None] = {
    Semantic.EXECUTE_ALL: None,
    Semantic.DENY_ON_FIRST_DENY: False,
    Semantic.PERMIT_ON_FIRST_PERMIT: True,
}


class AuthZenService:
    def __init__(self, standings: StandingRepository, chosen: ChosenPolicy) -> None:
        self._standings = standings
        self._chosen = chosen
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers = {
            EVALUATE: self.evaluate,
            EVALUATE_ALL: self.evaluate_all,
            SEARCH_SUBJECTS: self.search_subjects,
            SEARCH_RESOURCES: self.search_resources,
            SEARCH_ACTIONS: self.search_actions,
        }
        return (Offer(spec, handlers[spec.operation], self._active) for spec in self.specs)

    async def _active(self, given: Given[Any]) -> PolicyIndex:
        return await self._chosen.of(_ACTIVE)

    # -- yes or no --

    async def evaluate(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return await _Asking(unit, self._standings, _policy(given)).decide(given.input, "evaluation")

    async def evaluate_all(self, unit: Unit, given: Given[Any]) -> BaseModel:
        question: AccessEvaluations = given.input
        asking = _Asking(unit, self._standings, _policy(given))
        if not question.evaluations:
            one = await asking.decide(_whole(question, question, ""), "evaluation")
            return AccessDecisions(decision=one.decision, context=one.context)
        wanted = [_whole(part, question, f"/evaluations/{number}") for number, part in enumerate(question.evaluations)]
        semantic = question.options.evaluations_semantic if question.options else Semantic.EXECUTE_ALL
        decisions: list[AccessDecision] = []
        for number, evaluation in enumerate(wanted):
            decisions.append(await asking.decide(evaluation, f"evaluations/{number}"))
            if decisions[-1].decision is _STOPS[semantic]:
                break
        return AccessDecisions(evaluations=decisions)

    # -- who, where, what --

    async def search_subjects(self, unit: Unit, given: Given[Any]) -> BaseModel:
        question: SubjectSearch = given.input
        index = _policy(given)
        turn, digest = _turn(question, UUID if question.subject.type == USER else str)
        lineage = await _Asking(unit, self._standings, index).resource(question.resource)
        permission = asked.permission(question.action.name)
        found: list[str] = []
        if permission is not None and lineage is not None and permission.scope == lineage.scope.type:
            allowing, denying = speaking(index, permission)
            if question.subject.type == ROLE:
                found = _beyond(sorted(allowing), turn)
            elif question.subject.type == USER:
                owner = asked.user_id(lineage)
                rows = await self._standings.people(
                    unit,
                    lineage,
                    datetime.now(UTC),
                    roles=allowing,
                    denying=denying,
                    owner=owner if OWNER in allowing else None,
                    barred=owner if OWNER in denying else None,
                    after=turn.after,
                    limit=turn.limit + 1,
                )
                found = [str(row["id"]) for row in rows]
        understood(
            unit,
            "search",
            action=question.action.name if permission else UNKNOWN,
            resource=_named(question.resource, lineage),
        )
        page, shown = _page(found, turn, digest, lambda key: key)
        return FoundSubjects(page=page, results=[FoundSubject(type=question.subject.type, id=key) for key in shown])

    async def search_resources(self, unit: Unit, given: Given[Any]) -> BaseModel:
        question: ResourceSearch = given.input
        index = _policy(given)
        kind = question.resource.type
        turn, digest = _turn(question, UUID)
        subject = await _Asking(unit, self._standings, index).subject(question.subject)
        permission = asked.permission(question.action.name)
        found: list[tuple[object, str]] = []
        if subject is not None and permission is not None and permission.scope == kind:
            where = subject.where(permission)
            if kind == ScopeType.ADMIN:
                found = [(None, kind)] if where.everywhere else []
            else:
                rows = await self._standings.scopes(unit, ScopeType(kind), where, turn.after, turn.limit + 1)
                found = [(row["id"], row["name"] if kind == ScopeType.DOMAIN else str(row["id"])) for row in rows]
        understood(
            unit,
            "search",
            subject=_called(question.subject, subject),
            action=question.action.name if permission else UNKNOWN,
        )
        page, shown = _page(found, turn, digest, lambda pair: pair[0])
        return FoundResources(page=page, results=[FoundResource(type=kind, id=name) for _, name in shown])

    async def search_actions(self, unit: Unit, given: Given[Any]) -> BaseModel:
        question: ActionSearch = given.input
        index = _policy(given)
        turn, digest = _turn(question, str)
        asking = _Asking(unit, self._standings, index)
        subject, lineage = await asking.subject(question.subject), await asking.resource(question.resource)
        found: list[str] = []
        if subject is not None and subject.in_force and lineage is not None:
            cells = index.allowed_cells(subject.roles_in(lineage), lineage.scope.type)
            found = _beyond(sorted(name for name, cell in permissions_by_action().items() if cell in cells), turn)
        understood(
            unit,
            "search",
            subject=_called(question.subject, subject),
            resource=_named(question.resource, lineage),
        )
        page, shown = _page(found, turn, digest, lambda name: name)
        return FoundActions(page=page, results=[FoundAction(name=name) for name in shown])


@dataclass(frozen=True, slots=True)
class _Asking:
    """One request: what its evaluations are decided by. Whom and what it names is looked up once."""

    unit: Unit
    standings: StandingRepository
    index: PolicyIndex
    _subjects: dict[tuple[str, str], asked.Subject | None] = field(default_factory=dict)
    _resources: dict[tuple[str, str], Lineage | None] = field(default_factory=dict)

    async def decide(self, asks: AccessEvaluation, field: str) -> AccessDecision:
        """One decision, noted in the record under ``field``."""
        subject, lineage = await self.subject(asks.subject), await self.resource(asks.resource)
        permission = asked.permission(asks.action.name)
        rule = None
        if permission is None:
            reason = Reason.NO_ACTION
        elif subject is None or not subject.in_force:
            reason = Reason.NO_SUBJECT
        elif lineage is None:
            reason = Reason.NO_RESOURCE
        elif lineage.scope.type != permission.scope:
            reason = Reason.ELSEWHERE
        else:
            verdict, rule = verdict_of(self.index, subject.roles_in(lineage), permission)
            reason = _REASONS[verdict]
        context = AccessContext(reason=reason, rule=rule.place if rule else None, policy=self.index.digest)
        understood(
            self.unit,
            field,
            subject=_called(asks.subject, subject),
            action=asks.action.name if permission else UNKNOWN,
            resource=_named(asks.resource, lineage),
            decision=reason is Reason.ALLOWED,
            rule=context.rule,
        )
        return AccessDecision(decision=reason is Reason.ALLOWED, context=context)

    async def subject(self, asks: AccessSubject) -> asked.Subject | None:
        named = (asks.type, asks.id)
        if named not in self._subjects:
            found = None
            if asks.type == USER:
                found = await asked.user(self.unit, self.standings, self.index, asks.id)
            elif asks.type == ROLE:
                found = asked.supposed(self.index, asks.id)
            self._subjects[named] = found
        return self._subjects[named]

    async def resource(self, asks: AccessResource) -> Lineage | None:
        """The scope, if there is one in which something is decided: nothing is in one that is deleted."""
        named = (asks.type, asks.id)
        if named not in self._resources:
            found = None
            if asks.type in [*ScopeType]:
                found = await asked.place(self.unit, self.standings, ScopeType(asks.type), asks.id)
            self._resources[named] = None if found is None or found.deleted else found
        return self._resources[named]


_REASONS = {Verdict.ALLOW: Reason.ALLOWED, Verdict.DENY: Reason.DENIED, Verdict.NONE: Reason.NO_RULE}


def _policy(given: Given[Any]) -> PolicyIndex:
    return cast(PolicyIndex, given.prepared)


def _whole(part: AccessEvaluationPart, common: AccessEvaluations, pointer: str) -> AccessEvaluation:
    """One evaluation with what is said for all. Raises ``BadRequest`` where neither says what it needs."""
    subject, action = part.subject or common.subject, part.action or common.action
    resource = part.resource or common.resource
    if subject is None or action is None or resource is None:
        missing = next(
            name for name, said in (("subject", subject), ("action", action), ("resource", resource)) if said is None
        )
        raise BadRequest(
            f"An evaluation lacks its {missing}.",
            reason="incomplete-evaluation",
            errors=[Fault(f"{pointer}/{missing}", "is said neither here nor for all")],
        )
    return AccessEvaluation(subject=subject, action=action, resource=resource)


def _turn(question: Any, kind: Callable[[str], Any]) -> tuple[page_tokens.Turn[Any], str]:
    """Which page is asked for, and the digest of the question. A token brings its limit along; another is refused."""
    page: AccessPage = question.page or AccessPage()
    digest = page_tokens.digest_of(question, "page")
    if not page.token:
        return page_tokens.Turn(None, min(page.limit or PAGE, page_tokens.LONGEST_PAGE)), digest
    turn = page_tokens.read(page.token, digest, kind)
    if page.limit and min(page.limit, page_tokens.LONGEST_PAGE) != turn.limit:
        raise BadRequest("A later page has the limit of the first.", reason="invalid-cursor")
    return turn, digest


def _beyond(names: Sequence[str], turn: page_tokens.Turn[Any]) -> list[str]:
    return [name for name in names if turn.after is None or name > str(turn.after)][: turn.limit + 1]


def _page(
    found: Sequence[T], turn: page_tokens.Turn[Any], digest: str, key: Callable[[T], object]
) -> tuple[AccessNextPage, Sequence[T]]:
    """What of the items found is on the page, one more than which is there if there is another page."""
    shown = found[: turn.limit]
    last = key(shown[-1]) if shown else turn.after
    more = len(found) > turn.limit
    return AccessNextPage(
        next_token=page_tokens.token(digest, last, turn.limit) if more else "", count=len(shown)
    ), shown


def _called(asks: AccessSubject, subject: asked.Subject | None) -> str:
    """A subject for the record. One that is unknown may be anything, an address of somebody even: it is not kept."""
    return f"{asks.type}:{asks.id}" if subject is not None else UNKNOWN


def _named(asks: AccessResource, lineage: Lineage | None) -> str:
    return UNKNOWN if lineage is None else asked.scope_name(lineage)
