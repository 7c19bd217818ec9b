"""Asking why something is allowed or denied: of a user as it is, of the server's own principals, of supposed roles."""

from pydantic import Field

from actions.authorization.explain import Explanation
from actions.entities.policy import POLICIES, PolicyQuestion
from actions.entities.policy_words import ActionWord, PrincipalWord, ScopeWord
from actions.model import Unsaid
from actions.vocabulary import GET, Operation, ScopeType

EXPLAIN = Operation("explain", on_item=False, reads=True, in_body=True, tells_of=GET)


class PolicyExplanation(PolicyQuestion):
    """Who, what and where."""

    principal: PrincipalWord
    action: ActionWord
    scope: Unsaid[ScopeWord] = Field(
        default=None,
        description="Where; `user:me` is the principal's own. May be left out in the admin scope, and of whom is no "
        "user.",
    )


SPECS = POLICIES.offer(
    EXPLAIN,
    ScopeType.ADMIN,
    input=PolicyExplanation,
    output=Explanation,
    sentence="Explain why somebody is allowed or denied an action, and what would have to be otherwise.",
)
