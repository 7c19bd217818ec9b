"""Testing a policy: its own cases, asked by the server. What a case is, ``actions.authorization.cases`` says."""

from pydantic import Field

from actions.authorization.cases import CaseResults
from actions.entities.policy import POLICIES, PolicyQuestion
from actions.vocabulary import GET, Operation, ScopeType

TEST = Operation("test", on_item=False, reads=True, in_body=True, tells_of=GET)


class CaseQuestion(PolicyQuestion):
    coverage: bool = Field(default=False, description="Whether to tell which lines no case reaches.")
    mutation: bool = Field(default=False, description="Whether to tell which changed lines no case would notice.")


SPECS = POLICIES.offer(
    TEST,
    ScopeType.ADMIN,
    input=CaseQuestion,
    output=CaseResults,
    sentence="Ask a policy version its own cases, and how much of it they reach.",
)
