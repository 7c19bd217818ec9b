"""Questions about who may do what: of the roles of a policy, and of the people who hold them.

They are decided with the word of *get*: whoever may read a policy may ask what it means for roles. Who holds what is
told to those alone who may also search role bindings everywhere, and what people are called to those who may look at
users.
"""

from typing import Annotated

from pydantic import Field, StringConstraints

from actions.authorization.analysis import Matrix, WhatCan, WhoCan
from actions.entities.policy import POLICIES, PolicyQuestion
from actions.entities.policy_words import ActionWord, PrincipalWord, ScopeWord
from actions.model import Unsaid
from actions.query import Cursor
from actions.vocabulary import GET, Operation, ScopeType

Limit = Annotated[int, Field(ge=1, le=100, description="How many of them on a page.")]

WHO_CAN = Operation("who_can", on_item=False, reads=True, in_body=True, tells_of=GET)
WHAT_CAN = Operation("what_can", on_item=False, reads=True, in_body=True, tells_of=GET)
MATRIX = Operation("matrix", on_item=False, reads=True, in_body=True, tells_of=GET)


class Paged(PolicyQuestion):
    limit: Limit = 20
    cursor: Unsaid[Cursor] = Field(default=None, description="The `next_cursor` of the page before.")


class WhoCanQuestion(Paged):
    action: ActionWord
    scope: Unsaid[ScopeWord] = Field(
        default=None,
        description="Where. Unsaid: of the roles alone, without the people.",
    )


class WhatCanQuestion(Paged):
    principal: PrincipalWord
    scope: Unsaid[ScopeWord] = Field(
        default=None, description="One scope; unsaid: each where the principal holds a role, a page of them."
    )
    scope_type: Unsaid[ScopeType] = Field(default=None, description="Only what is done in scopes of this type.")


class MatrixQuestion(Paged):
    scope: Unsaid[ScopeWord] = Field(
        default=None, description="Whose people are the columns, a page of them. Unsaid: the columns are the roles."
    )
    scope_type: Unsaid[ScopeType] = Field(default=None, description="Only what is done in scopes of this type.")
    entity: Unsaid[Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_]*$", max_length=64)]] = Field(
        default=None, description="Only what is done to this."
    )
    roles: Annotated[list[Annotated[str, StringConstraints(max_length=64)]], Field(max_length=100)] = Field(
        default_factory=list, description="Only these roles, where the columns are roles."
    )


SPECS = (
    *POLICIES.offer(
        WHO_CAN,
        ScopeType.ADMIN,
        input=WhoCanQuestion,
        output=WhoCan,
        sentence="Tell which roles, and in a scope which people, may do something, and by which rule.",
    ),
    *POLICIES.offer(
        WHAT_CAN,
        ScopeType.ADMIN,
        input=WhatCanQuestion,
        output=WhatCan,
        sentence="Tell what somebody, or a set of roles, may do, and by which rules.",
    ),
    *POLICIES.offer(
        MATRIX,
        ScopeType.ADMIN,
        input=MatrixQuestion,
        output=Matrix,
        sentence="Tell what each role, or each of the people in a scope, may do: a mark for each cell.",
    ),
)
