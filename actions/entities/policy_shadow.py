"""Shadows: a stored policy version that is asked about everything beside the active one, and is never obeyed."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from actions.authorization.answers import Cell
from actions.entities.policy import POLICY
from actions.model import Input, Output, Shown, Text
from actions.standard import Standard
from actions.vocabulary import GET, Operation, ScopeType

SHADOW = Operation("shadow")
UNSHADOW = Operation("unshadow", on_item=False)
SHADOW_REPORT = Operation("shadow_report", on_item=False, reads=True, tells_of=GET)
TALLY = Operation("tally", on_item=False)


class PolicyShadow(Output):
    """One shadow, from its beginning to its end. The numbers are those of all workers, some seconds ago."""

    candidate: str = Field(description="The digest of the version that is asked, and not obeyed.")
    started_at: datetime
    started_by: str
    reason: str
    ended_at: datetime | None = Field(description="Null: it goes on.")
    ended_by: str | None
    ended_reason: str | None
    compared: int = Field(description="How many decisions the candidate was asked about, too.")
    gained: int = Field(description="How many of them it would have allowed that were refused.")
    lost: int = Field(description="How many of them it would have refused that were allowed.")
    failed: int = Field(description="How many it could not be asked about.")


class ShadowDifference(Output):
    """Decisions in which the candidate differs: all of one kind, counted together."""

    active: str = Field(description="The digest of the version that decided.")
    roles: list[str] = Field(description="The roles that counted.")
    cell: Cell
    gain: bool = Field(description="True: the candidate would have allowed it; false: it would have refused.")
    active_rule: str | None = Field(description="The rule that decided, as `file:line`. Null: no rule allowed it.")
    candidate_rule: str | None = Field(description="The rule that would have decided, by the candidate's files.")
    count: int
    first_at: datetime
    last_at: datetime
    last_principal: str | None = Field(description="Who met it last. Null: you may not replay the log, which tells it.")


class ShadowReport(Output):
    shadow: PolicyShadow | None = Field(description="The present one, else the latest. Null: there never was one.")
    kinds: int = Field(description="How many kinds of differences are kept.")
    differences: list[ShadowDifference] = Field(description="The most frequent first.")


class ShadowReason(Input):
    reason: Annotated[Text, Field(min_length=1), Shown(pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]


class ShadowQuestion(Input):
    limit: int = Field(default=100, ge=1, le=1000, description="The most differences to show.")


class SeenDifference(Input):
    """A difference as a worker has counted it since its last tally."""

    active: str
    roles: str
    scope: str
    entity: str
    operation: str
    gain: bool
    active_rule: str | None
    candidate_rule: str | None
    count: int
    first_at: datetime
    last_at: datetime
    last_principal: str


class ShadowTally(Input):
    """What a shadow has seen in one worker since the last tally of the same worker."""

    shadow: str
    compared: int
    gained: int
    lost: int
    failed: int
    differences: tuple[SeenDifference, ...]


class ShadowTallied(Output):
    kept: int


SHADOWS = Standard(POLICY, PolicyShadow)

SPECS = (
    *SHADOWS.offer(
        SHADOW,
        ScopeType.ADMIN,
        input=ShadowReason,
        sentence="Ask a stored policy version about every decision, beside the active one, and never obey it.",
    ),
    *SHADOWS.offer(
        UNSHADOW, ScopeType.ADMIN, input=ShadowReason, sentence="Stop asking the policy version that is shadowed."
    ),
    *SHADOWS.offer(
        SHADOW_REPORT,
        ScopeType.ADMIN,
        input=ShadowQuestion,
        output=ShadowReport,
        sentence="Show where the shadowed policy version would have decided otherwise.",
    ),
    *SHADOWS.offer(
        TALLY,
        ScopeType.ADMIN,
        input=ShadowTally,
        output=ShadowTallied,
        internal=True,
        sentence="Note where the shadowed policy version would have decided otherwise.",
    ),
)
