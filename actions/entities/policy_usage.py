"""What the audit log says of a policy: what a candidate would change of what was done, what nobody needed, and the
least that would do.

These questions read the log, so whoever may read a policy may not ask them for that alone: they have a word of their
own.
"""

from typing import Annotated

from pydantic import Field

from actions.authorization.draft import PolicyDraft
from actions.authorization.replay import Replay
from actions.authorization.usage import Unused
from actions.entities.policy import POLICY, PolicyQuestion
from actions.model import Time, Unsaid
from actions.standard import Standard
from actions.vocabulary import Operation, ScopeType

REPLAY = Operation("replay", on_item=False, reads=True, in_body=True, watched=True)
UNUSED = Operation("unused", on_item=False, reads=True, in_body=True, tells_of=REPLAY)
DRAFT = Operation("draft", on_item=False, reads=True, in_body=True, tells_of=REPLAY)
DAYS = 90

Records = Annotated[int, Field(ge=1, le=1_000_000)]


class LogQuestion(PolicyQuestion):
    """A question about a policy and the log. Without `since` and `until` it is about all of the log."""

    since: Unsaid[Time] = None
    until: Unsaid[Time] = None
    records: Records = Field(
        default=200_000,
        description="How many records to read at most, the newest first; the answer says whether there are more.",
    )


class ReplayQuestion(LogQuestion):
    changes: Annotated[int, Field(ge=1, le=1000)] = Field(default=200, description="How many changes to list at most.")


class UnusedQuestion(PolicyQuestion):
    days: Annotated[int, Field(ge=1, le=3650)] = Field(default=DAYS, description="How many days to look back.")
    until: Unsaid[Time] = Field(default=None, description="From when on backwards; unsaid: from now.")
    records: Records = Field(
        default=200_000,
        description="How many records to read at most, the newest first; the answer says whether there are more.",
    )


POLICY_USAGE = Standard(POLICY, Replay)

SPECS = (
    *POLICY_USAGE.offer(
        REPLAY,
        ScopeType.ADMIN,
        input=ReplayQuestion,
        sentence="Decide again, under a policy, what the audit log tells of: who would gain or lose what.",
    ),
    *POLICY_USAGE.offer(
        UNUSED,
        ScopeType.ADMIN,
        input=UnusedQuestion,
        output=Unused,
        sentence="Tell which rules and roles of a policy nobody needed for some days.",
    ),
    *POLICY_USAGE.offer(
        DRAFT,
        ScopeType.ADMIN,
        input=LogQuestion,
        output=PolicyDraft,
        sentence="Draft the smallest policy files that allow what the audit log shows was used.",
    ),
)
