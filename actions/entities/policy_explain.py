"""Asking why something is allowed or denied: of a user as it is, of the server's own principals, of supposed roles."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from actions.authorization.explain import Explanation
from actions.entities.policy import POLICIES, PolicyQuestion
from actions.model import WITHOUT_NUL, Unsaid, without_nul
from actions.vocabulary import GET, Operation, ScopeType

EXPLAIN = Operation("explain", on_item=False, reads=True, in_body=True, tells_of=GET)
_Word = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(without_nul), WITHOUT_NUL]


class PolicyExplanation(PolicyQuestion):
    """Who, what and where."""

    principal: _Word = Field(
        description="`user:` and an id; a principal of the server's own, like `system:sweeper`; `anonymous`; or roles "
        "that are supposed to count, like `domain_admin+auditor`."
    )
    action: _Word = Field(
        description="An action by its name, `domain_search_users`, or its words, `domain:user:search`."
    )
    scope: Unsaid[_Word] = Field(
        default=None,
        description="`admin`, `domain:` and a name or id, `project:` and an id, `user:` and an id or `me`, "
        "the principal's own. May be left out in the admin scope, and of whom is no user.",
    )


SPECS = POLICIES.offer(
    EXPLAIN,
    ScopeType.ADMIN,
    input=PolicyExplanation,
    output=Explanation,
    sentence="Explain why somebody is allowed or denied an action, and what would have to be otherwise.",
)
