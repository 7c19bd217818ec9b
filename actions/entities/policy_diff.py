"""The question what changes from one policy to another, and for whom."""

from pydantic import Field

from actions.authorization.difference_answer import PolicyDifference
from actions.entities.policy import POLICIES, PolicyQuestion
from actions.model import Input, Unsaid
from actions.vocabulary import GET, Operation, ScopeType

DIFF = Operation("diff", on_item=False, reads=True, tells_of=GET, in_body=True)


class DifferenceQuestion(Input):
    old: Unsaid[PolicyQuestion] = Field(default=None, description="The policy to begin with; unsaid: the active one.")
    new: PolicyQuestion = Field(description="The policy that it is compared with.")


SPECS = POLICIES.offer(
    DIFF,
    ScopeType.ADMIN,
    input=DifferenceQuestion,
    output=PolicyDifference,
    sentence="Compare two policies: the cells gained and lost, the lines that make it so, and the users they touch.",
)
