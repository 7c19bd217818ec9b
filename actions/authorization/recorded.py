"""What the audit log says was decided: from records to decisions, alike ones counted together.

A record tells with which roles something was decided, so it can be decided again without anybody's bindings. This
module takes records as they are kept, from wherever they come; it knows neither files nor the database.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from pydantic import Field

from actions.authorization.index import PolicyIndex
from actions.authorization.standing import decide_along
from actions.model import Output
from actions.vocabulary import Permission
from audit.record import Phase

Key = TypeVar("Key", bound=Hashable)

_TOLD_BEFORE = frozenset({Phase.OUTCOME, Phase.SETTLED})
"""Phases that repeat the decision of an intent. A stream is decided anew until it closes, so ``closed`` is none."""
_USES_TOLD_BEFORE = _TOLD_BEFORE | {Phase.CLOSED}


class NoRecord(ValueError):
    """This is no audit record; the message says why."""


class Decided(NamedTuple):
    """One recorded decision, without its time: what makes two alike.

    ``used`` is None for the decision of the action itself; for that of a thing which its input named, the entity and
    the operation that was needed. ``held`` are the roles that counted: in the action's own scope, or, of a used thing,
    in each scope of its lineage.
    """

    action: str
    used: tuple[str, str] | None
    held: tuple[tuple[str, tuple[str, ...]], ...]
    allowed: bool
    rule: str | None
    policy: str
    principal: str

    @property
    def scope(self) -> str:
        """The type of the narrowest scope that was decided in."""
        return self.held[0][0]


@dataclass(slots=True)
class Times:
    """How often, first and last when (aware)."""

    count: int
    first: datetime
    last: datetime

    def add(self, other: "Times") -> None:
        self.count += other.count
        self.first = min(self.first, other.first)
        self.last = max(self.last, other.last)

    def copy(self) -> "Times":
        return Times(self.count, self.first, self.last)


class LogReach(Output):
    """How much of the log an answer rests on."""

    records: int = Field(description="How many records were read.")
    decisions: int = Field(description="How many decisions they tell of: an action's own, and of what its input named.")
    undecided: int = Field(
        description="Records of what no rule decided: failed authentications, scopes that do not exist, events."
    )
    unreplayable: int = Field(
        description="Decisions about what an input named, in older records that do not say with which roles."
    )
    first: datetime | None = Field(description="When the earliest of them was made.")
    last: datetime | None
    since: datetime | None = Field(default=None, description="From when on it was asked for.")
    until: datetime | None = None
    truncated: bool = Field(
        default=False, description="There is more in the log before `first`, which was not read: the bound was reached."
    )


class Reading:
    """Reads records one by one and keeps count of what they hold."""

    def __init__(self) -> None:
        self.records = self._decisions = self._undecided = self._unreplayable = 0
        self._first: datetime | None = None
        self._last: datetime | None = None

    def reach(
        self, since: datetime | None = None, until: datetime | None = None, *, truncated: bool = False
    ) -> LogReach:
        return LogReach(
            records=self.records,
            decisions=self._decisions,
            undecided=self._undecided,
            unreplayable=self._unreplayable,
            first=self._first,
            last=self._last,
            since=since,
            until=until,
            truncated=truncated,
        )

    def line(self, record: Any) -> list[tuple[Decided, Times]]:
        """The decisions of one record as it is kept. Raises ``NoRecord``."""
        at = moment_of(record)
        try:
            found = list(_decisions(record))
            bare = sum(_unreplayable(use) for use in record.get("uses") or ())
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise NoRecord(f"a part of it is missing or of another form: {error}") from None
        self.records += 1
        self._decisions += len(found)
        self._unreplayable += bare
        if not found and not bare:
            self._undecided += 1
        if self._first is None or at < self._first:
            self._first = at
        if self._last is None or at > self._last:
            self._last = at
        return [(decided, Times(1, at, at)) for decided in found]

    def pass_over(self) -> None:
        """Count a record that tells of no decision in a form that is known."""
        self.records += 1
        self._undecided += 1


def moment_of(record: Any) -> datetime:
    """When a record was made. Raises ``NoRecord``."""
    try:
        at = datetime.fromisoformat(record["at"])
    except (KeyError, TypeError, ValueError):
        raise NoRecord("it has no time `at`") from None
    if at.tzinfo is None:
        raise NoRecord("its time `at` has no zone")
    return at


def _decisions(record: Mapping[str, Any]) -> Iterator[Decided]:
    """The action's own decision and those of what it used. An item of a batch stands under the batch's (law 9)."""
    action, said = record["action"], record.get("decision")
    _expect(str, action)
    if said is None:
        return
    phase, part = record["phase"], "place" in (record.get("batch") or ())
    principal, policy = record["principal"]["name"], said["policy"]
    _expect(str, principal, policy)
    if not part and phase not in _TOLD_BEFORE:
        held = ((_word(record["scope"]["type"]), _roles(said["roles"])),)
        yield Decided(action, None, held, *_answer(said), policy, principal)
    if phase in _USES_TOLD_BEFORE:
        return
    for use in record.get("uses") or ():
        if use.get("held"):
            along = tuple((_word(place["scope"]), _roles(place["roles"])) for place in use["held"])
            wanted = (use["entity"], use["operation"])
            _expect(str, *wanted)
            yield Decided(action, wanted, along, *_answer(use), policy, principal)


def _answer(said: Mapping[str, Any]) -> tuple[bool, str | None]:
    allowed, rule = said["allowed"], said["rule"]
    _expect(bool, allowed)
    if rule is not None:
        _expect(str, rule)
    return allowed, rule


def _word(said: Any) -> str:
    _expect(str, said)
    return str(said)


def _roles(said: Any) -> tuple[str, ...]:
    _expect(list, said)
    _expect(str, *said)
    return tuple(said)


def _expect(kind: type, *values: object) -> None:
    for value in values:
        if type(value) is not kind:
            raise TypeError(f"{value!r:.50} is no {kind.__name__}")


def _unreplayable(use: Mapping[str, Any]) -> bool:
    """Whether something was decided of it that the record does not tell enough of."""
    return "operation" not in use and (use["allowed"] or use["rule"] is not None)


@dataclass(frozen=True, slots=True)
class Again:
    """What a policy says now of something that was decided once. ``place`` is the deciding rule's, if there is one."""

    allowed: bool
    place: str | None


class Decider:
    """Decides recorded questions again, each distinct one once. ``actions`` are the known ones, by name."""

    def __init__(self, index: PolicyIndex, actions: Mapping[str, Permission]) -> None:
        self._index = index
        self._actions = actions
        self._things = frozenset((cell.entity, cell.operation) for cell in index.vocabulary)
        self._answers: dict[tuple[object, ...], Again | None] = {}

    def again(self, decided: Decided) -> Again | None:
        """The same question asked of this policy. None: it is about what this program does not know any more."""
        key = decided[:3]
        try:
            return self._answers[key]
        except KeyError:
            answer = self._answers[key] = self._decide(decided)
            return answer

    def _decide(self, decided: Decided) -> Again | None:
        if decided.used is None:
            permission = self._actions.get(decided.action)
            if permission is None:
                return None
            found = self._index.decide(frozenset(decided.held[0][1]), permission)
        elif decided.used in self._things:
            held = tuple((scope, frozenset(roles)) for scope, roles in decided.held)
            found = decide_along(self._index, held, *decided.used)
        else:
            return None
        return Again(found.allowed, found.rule)


class Tally:
    """Recorded decisions with the alike ones counted together, whoever asked. Its size does not grow with the log's."""

    def __init__(self) -> None:
        self._counts: dict[Decided, Times] = {}

    def add(self, decided: Decided, times: Times) -> None:
        count(self._counts, decided._replace(principal=""), times)

    def policies(self) -> list[str]:
        """The digests that decided, the most frequent first."""
        counts: Counter[str] = Counter()
        for decided, times in self._counts.items():
            counts[decided.policy] += times.count
        return [digest for digest, _ in counts.most_common()]

    def items(self) -> Iterable[tuple[Decided, Times]]:
        return self._counts.items()


def count(counts: dict[Key, Times], key: Key, times: Times) -> None:
    """Add to what is counted under a key."""
    known = counts.get(key)
    if known is None:
        counts[key] = times.copy()
    else:
        known.add(times)
