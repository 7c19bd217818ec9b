"""The AuthZEN Authorization API 1.0 (OpenID Foundation): how enforcement points of other makes ask who may do what.

A subject is a user by its id, or roles joined by +, supposed to count; an action has the name that the catalogue gives
it; a resource is the scope where the action would take place. An evaluation is decided with the word *evaluate*: it
says yes or no about what the caller can name, and names a rule by its place, so whoever holds it need not be able to
read the policy. The searches list users, domains and actions, and have a word of their own, *search_subjects*.

The names of members, and what may be missing, are that specification's.
"""

from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from actions.entities.policy import POLICIES
from actions.model import PERSONAL, Foreign, Sparse
from actions.vocabulary import Alias, Operation, ScopeType

MOST_EVALUATIONS = 100
EVALUATE = Operation("evaluate", on_item=False, reads=True, in_body=True)
EVALUATE_ALL = Operation("evaluate_all", on_item=False, reads=True, in_body=True, tells_of=EVALUATE)
SEARCH_SUBJECTS = Operation("search_subjects", on_item=False, reads=True, in_body=True)
SEARCH_RESOURCES = Operation("search_resources", on_item=False, reads=True, in_body=True, tells_of=SEARCH_SUBJECTS)
SEARCH_ACTIONS = Operation("search_actions", on_item=False, reads=True, in_body=True, tells_of=SEARCH_SUBJECTS)

Word = Annotated[str, StringConstraints(max_length=256)]
Properties = Annotated[dict[str, Any] | None, Field(description="Taken, and of no consequence here.")]


class AccessSubject(Foreign):
    """Who: `user` and an id, or `role` and one or more roles joined by +."""

    type: Word
    id: Annotated[Word, PERSONAL]
    properties: Properties = None


class AccessAction(Foreign):
    """What: an action by its name."""

    name: Word
    properties: Properties = None


class AccessResource(Foreign):
    """Where: `admin`, `domain`, `project` or `user`, and the name or id of that scope; of the first it is `admin`."""

    type: Word
    id: Word
    properties: Properties = None


class AccessSubjectType(Foreign):
    type: Word
    properties: Properties = None


class AccessResourceType(Foreign):
    type: Word
    properties: Properties = None


class AccessEvaluation(Foreign):
    subject: AccessSubject
    action: AccessAction
    resource: AccessResource
    context: Properties = None


class AccessEvaluationPart(Foreign):
    """One of several evaluations. What it leaves out is said for all of them."""

    subject: AccessSubject | None = None
    action: AccessAction | None = None
    resource: AccessResource | None = None
    context: Properties = None


class Semantic(StrEnum):
    """Whether to stop, and where: what comes after that is not evaluated."""

    EXECUTE_ALL = "execute_all"
    DENY_ON_FIRST_DENY = "deny_on_first_deny"
    PERMIT_ON_FIRST_PERMIT = "permit_on_first_permit"


class AccessOptions(Foreign):
    evaluations_semantic: Semantic = Semantic.EXECUTE_ALL


class AccessEvaluations(AccessEvaluationPart):
    """Several evaluations, with what they have in common beside them; or, without a list, one."""

    evaluations: Annotated[list[AccessEvaluationPart] | None, Field(max_length=MOST_EVALUATIONS)] = None
    options: AccessOptions | None = None


class AccessPage(Foreign):
    token: Annotated[str, StringConstraints(max_length=2000)] | None = Field(
        default=None, description="The `next_token` of the page before; empty: the first."
    )
    limit: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="At most 100 are given; 0: as many as if nothing were said."
    )
    properties: Properties = None


class SubjectSearch(Foreign):
    subject: AccessSubjectType
    action: AccessAction
    resource: AccessResource
    context: Properties = None
    page: AccessPage | None = None


class ResourceSearch(Foreign):
    subject: AccessSubject
    action: AccessAction
    resource: AccessResourceType
    context: Properties = None
    page: AccessPage | None = None


class ActionSearch(Foreign):
    subject: AccessSubject
    resource: AccessResource
    context: Properties = None
    page: AccessPage | None = None


class Reason(StrEnum):
    """Why it is decided so: by a rule that allows or denies it, or for want of one; because there is no such subject
    (or none that may sign in), action or resource; or because the action takes place *elsewhere*, in resources of
    another type."""

    ALLOWED = "allowed"
    DENIED = "denied"
    NO_RULE = "no_rule"
    NO_SUBJECT = "no_subject"
    NO_ACTION = "no_action"
    NO_RESOURCE = "no_resource"
    ELSEWHERE = "elsewhere"


class AccessContext(Sparse):
    reason: Reason
    rule: str | None = Field(default=None, description="`file:line` of the rule that decided.")
    policy: str = Field(description="The digest of the policy version.")


class AccessDecision(Sparse):
    decision: bool
    context: AccessContext


class AccessDecisions(Sparse):
    """The decisions in the order of the evaluations; of one that was asked for alone, that."""

    decision: bool | None = None
    context: AccessContext | None = None
    evaluations: list[AccessDecision] | None = None


class AccessNextPage(Sparse):
    next_token: str = Field(description="Empty: there is no more.")
    count: int


class FoundSubject(Sparse):
    type: str
    id: str


class FoundResource(Sparse):
    type: str
    id: str


class FoundAction(Sparse):
    name: str


class FoundSubjects(Sparse):
    page: AccessNextPage
    results: list[FoundSubject]


class FoundResources(Sparse):
    page: AccessNextPage
    results: list[FoundResource]


class FoundActions(Sparse):
    page: AccessNextPage
    results: list[FoundAction]


_OFFERED = (
    *POLICIES.offer(
        EVALUATE,
        ScopeType.ADMIN,
        input=AccessEvaluation,
        output=AccessDecision,
        aliases=(Alias("POST", "/access/v1/evaluation"),),
        sentence="Decide whether somebody may do something somewhere (AuthZEN access evaluation).",
    ),
    *POLICIES.offer(
        EVALUATE_ALL,
        ScopeType.ADMIN,
        input=AccessEvaluations,
        output=AccessDecisions,
        aliases=(Alias("POST", "/access/v1/evaluations"),),
        sentence=f"Decide up to {MOST_EVALUATIONS} such questions at once (AuthZEN access evaluations).",
    ),
    *POLICIES.offer(
        SEARCH_SUBJECTS,
        ScopeType.ADMIN,
        input=SubjectSearch,
        output=FoundSubjects,
        aliases=(Alias("POST", "/access/v1/search/subject"),),
        sentence="Tell who may do something somewhere (AuthZEN subject search).",
    ),
    *POLICIES.offer(
        SEARCH_RESOURCES,
        ScopeType.ADMIN,
        input=ResourceSearch,
        output=FoundResources,
        aliases=(Alias("POST", "/access/v1/search/resource"),),
        sentence="Tell in which scopes somebody may do something (AuthZEN resource search).",
    ),
    *POLICIES.offer(
        SEARCH_ACTIONS,
        ScopeType.ADMIN,
        input=ActionSearch,
        output=FoundActions,
        aliases=(Alias("POST", "/access/v1/search/action"),),
        sentence="Tell what somebody may do somewhere (AuthZEN action search).",
    ),
)
SPECS = tuple(replace(spec, foreign=True) for spec in _OFFERED)
