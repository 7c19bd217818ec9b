"""Replay: what was decided once, decided again under a candidate policy. Who would gain or lose what.

Only the policy's decision is asked again, with the roles that counted then. What an action failed by besides (a
missing thing, a quota, law 5) is no matter of the files, and neither is who holds which role today.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from actions.authorization.answers import PolicyLine
from actions.authorization.index import PolicyIndex
from actions.authorization.recorded import Decided, Decider, LogReach, Times, count
from actions.model import Output
from actions.vocabulary import Permission


class Turn(StrEnum):
    GAIN = "gain"
    LOSS = "loss"


class ReplayRuling(Output):
    """What decided then, as the record has it."""

    rule: str | None = Field(description="`file:line` in the version `policy`; null: no rule allowed it.")
    policy: str


class ReplayChange(Output):
    """Something that was decided and would now be decided otherwise, for one principal."""

    turn: Turn
    principal: str
    action: str
    uses: str | None = Field(description="What the action's input named, and what was needed of it: `project:get`.")
    scope: str = Field(description="The type of scope.")
    roles: list[str] = Field(description="The roles that counted when it was asked last.")
    times: int
    first: datetime
    last: datetime
    then: ReplayRuling
    now: PolicyLine | None = Field(description="The rule that decides in the candidate; null: none speaks of it.")


class ForgottenAction(Output):
    """An action that this program has no more, so that no policy can speak of it."""

    action: str
    times: int
    last: datetime


class Replay(Output):
    """The log under a candidate policy."""

    policy: str = Field(description="The digest of the candidate.")
    reach: LogReach
    same: int = Field(description="Decisions that stay as they are.")
    gained: int = Field(description="Decisions that were refusals and would be allowed.")
    lost: int = Field(description="Decisions that were allowed and would be refused.")
    unknown: list[ForgottenAction]
    changes: list[ReplayChange] = Field(description="Losses first, the most frequent first.")
    more: int = Field(description="Further changes that are counted and not listed.")

    @property
    def differs(self) -> bool:
        return bool(self.gained or self.lost)


class Replayer:
    """Takes recorded decisions in any order, and answers at any time. It remembers what differs, not what it saw."""

    def __init__(self, index: PolicyIndex, actions: Mapping[str, Permission]) -> None:
        self._index = index
        self._decider = Decider(index, actions)
        self._lines = {rule.place: rule for rule in index.rules}
        self._turned = {Turn.GAIN: 0, Turn.LOSS: 0}
        self._same = 0
        self._unknown: dict[str, Times] = {}
        self._changed: dict[tuple[object, ...], tuple[Times, Decided, str | None]] = {}

    def add(self, decided: Decided, times: Times) -> None:
        now = self._decider.again(decided)
        if now is None:
            name = decided.action if decided.used is None else f"{decided.action} ({':'.join(decided.used)})"
            count(self._unknown, name, times)
        elif now.allowed is decided.allowed:
            self._same += times.count
        else:
            turn = Turn.GAIN if now.allowed else Turn.LOSS
            self._turned[turn] += times.count
            self._note(
                (turn, decided.principal, decided.action, decided.used, decided.scope), decided, times, now.place
            )

    def _note(self, key: tuple[object, ...], decided: Decided, times: Times, place: str | None) -> None:
        before = self._changed.get(key)
        if before is None:
            self._changed[key] = (times.copy(), decided, place)
            return
        is_later = times.last >= before[0].last
        before[0].add(times)
        if is_later:
            self._changed[key] = (before[0], decided, place)

    def answer(self, reach: LogReach, *, at_most: int) -> Replay:
        """With no more changes listed than ``at_most``."""
        order = sorted(
            self._changed.items(),
            key=lambda item: (item[0][0] is Turn.GAIN, -item[1][0].count, *map(str, item[0][1:])),
        )
        return Replay(
            policy=self._index.digest,
            reach=reach,
            same=self._same,
            gained=self._turned[Turn.GAIN],
            lost=self._turned[Turn.LOSS],
            unknown=[
                ForgottenAction(action=name, times=times.count, last=times.last)
                for name, times in sorted(self._unknown.items())[:at_most]
            ],
            changes=[self._change(Turn(str(key[0])), *found) for key, found in order[:at_most]],
            more=max(len(order) - at_most, 0),
        )

    def _change(self, turn: Turn, times: Times, latest: Decided, place: str | None) -> ReplayChange:
        return ReplayChange(
            turn=turn,
            principal=latest.principal,
            action=latest.action,
            uses=":".join(latest.used) if latest.used else None,
            scope=latest.scope,
            roles=sorted({role for _, roles in latest.held for role in roles}),
            times=times.count,
            first=times.first,
            last=times.last,
            then=ReplayRuling(rule=latest.rule, policy=latest.policy),
            now=PolicyLine.of(self._lines[place]) if place else None,
        )
