"""How a question about a policy names an action, somebody and a scope: the same words in every question.

Which words there are, no schema can say. One that means nothing is refused where it is read, with a hint.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from actions.model import PERSONAL, WITHOUT_NUL, without_nul

_Word = Annotated[str, AfterValidator(without_nul), WITHOUT_NUL]
ActionWord = Annotated[
    _Word,
    StringConstraints(min_length=1, max_length=200),
    Field(description="An action by its name, `domain_search_users`, or by its words, `domain:user:search`."),
]
PrincipalWord = Annotated[
    _Word,
    StringConstraints(min_length=1, max_length=1000),
    PERSONAL,
    Field(
        description="`user:` and an id; a principal of the server's own, like `system:sweeper`; `anonymous`; or roles "
        "that are supposed to count, like `domain_admin+auditor`."
    ),
]
ScopeWord = Annotated[
    _Word,
    StringConstraints(min_length=1, max_length=256),
    Field(description="`admin`, `domain:` and a name or id, `project:` or `user:` and an id."),
]
