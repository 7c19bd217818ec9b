"""Least privilege, looked at: which rules decided nothing in a stretch of the log, and which roles nobody needed.

What was not seen is not what will never be: the answer tells how far it looked. A deny that never fired is no reason
to remove it, so denies stand apart, and so does what the server itself relies on.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from actions.authorization.answers import PolicyLine
from actions.authorization.index import PolicyIndex
from actions.authorization.recorded import Decided, Decider, LogReach, Tally, Times, count
from actions.authorization.rules import RULE_FILES, Cells, Role, Rule, ancestors
from actions.directory import NOBODY_YET
from actions.model import Output
from actions.vocabulary import Permission

Words = tuple[str, str, str, str, str]
"""A rule's words, the effect last: what makes it the same rule in another version, whatever its line."""
Versions = Mapping[str, Mapping[str, Words]]
"""For each version whose text is at hand, by digest, the words of the rule at each ``file:line``."""


class Standing(StrEnum):
    """``unused``: an allow that decided nothing. ``shadowed``: it cannot, whatever happens, for other rules decide
    before it. ``silent_deny``: a deny that refused nobody; it may well be why nobody tried. ``relied_on``: it is the
    server's own, or lets people log in."""

    UNUSED = "unused"
    SHADOWED = "shadowed"
    SILENT_DENY = "silent_deny"
    RELIED_ON = "relied_on"


class IdleRule(Output):
    """A rule that decided nothing."""

    rule: PolicyLine
    standing: Standing
    by: PolicyLine | None = Field(description="The rule that shadows it, or the first of several.")
    in_force_since: datetime | None = Field(
        description="The first decision under a version with this rule; null: none was seen."
    )


class IdleRole(Output):
    """A role without which nothing that was allowed would have been refused."""

    role: str
    bindings: int | None = Field(description="How many hold it now; null: it was asked of files, which do not know.")
    counted: int = Field(description="In how many decisions it counted, beside others that were enough.")
    last: datetime | None


class Unused(Output):
    """What a policy holds that nobody needed."""

    policy: str
    reach: LogReach
    redecided: int = Field(
        description="Decisions of versions whose text is not at hand: decided again, to see which rule they fall to."
    )
    used: int = Field(description="How many rules decided something.")
    rules: list[IdleRule]
    roles: list[IdleRole]

    @property
    def found(self) -> bool:
        """Whether there is something to consider taking away."""
        return bool(self.roles) or any(idle.standing in (Standing.UNUSED, Standing.SHADOWED) for idle in self.rules)


def unused(
    index: PolicyIndex,
    tally: Tally,
    reach: LogReach,
    actions: Mapping[str, Permission],
    *,
    versions: Versions,
    bindings: Mapping[str, int] | None,
) -> Unused:
    """``bindings`` are the live ones of each role, None where nobody knows."""
    known = {**versions, index.digest: {rule.place: words_of(rule) for rule in index.rules}}
    decider = Decider(index, actions)
    fired: set[Words] = set()
    since: dict[Words, datetime] = {}
    redecided = 0
    for decided, times in tally.items():
        text = known.get(decided.policy)
        if text is None:
            redecided += times.count
            again = decider.again(decided)
            text, place = known[index.digest], again.place if again else None
        else:
            place = decided.rule
        if place is not None and (words := text.get(place)) is not None:
            fired.add(words)
    for digest, first in _first_seen(tally).items():
        for words in known.get(digest, {}).values():
            since[words] = min(first, since.get(words, first))
    idle = [rule for rule in index.rules if words_of(rule) not in fired]
    shadows = _shadows(index)
    told = [_idle(rule, index.roles[rule.role], shadows.get(rule), since.get(words_of(rule))) for rule in idle]
    return Unused(
        policy=index.digest,
        reach=reach,
        redecided=redecided,
        used=len(index.rules) - len(idle),
        rules=sorted(told, key=lambda rule: list(Standing).index(rule.standing)),  # what could go comes first
        roles=_idle_roles(index, tally, decider, bindings),
    )


def words_of(rule: Rule) -> Words:
    return (rule.role, rule.scope, rule.entity, rule.operation, rule.effect)


def words_in(files: Mapping[str, str]) -> dict[str, Words]:
    """The words of each rule of a version by its ``file:line``. What is stored was checked, so it is not read again."""
    found: dict[str, Words] = {}
    for name in RULE_FILES:
        for number, line in enumerate(files.get(name, "").split("\n"), 1):
            kind, *words = (word.strip() for word in line.split(","))
            if kind == "p" and len(words) == 5:
                role, scope, entity, operation, effect = words
                found[f"{name}:{number}"] = (role, scope, entity, operation, effect)
    return found


def relied_on(role: Role) -> bool:
    """Whether the server itself needs what the role may do: its own work, and everybody's way in."""
    return role.system or role.name == NOBODY_YET


def _first_seen(tally: Tally) -> dict[str, datetime]:
    """When each version was first seen to decide."""
    found: dict[str, datetime] = {}
    for decided, times in tally.items():
        found[decided.policy] = min(times.first, found.get(decided.policy, times.first))
    return found


def _idle(rule: Rule, role: Role, shadow: Rule | None, since: datetime | None) -> IdleRule:
    if not rule.allows:
        standing = Standing.SILENT_DENY
    elif relied_on(role):
        standing = Standing.RELIED_ON
    else:
        standing = Standing.SHADOWED if shadow else Standing.UNUSED
    by = PolicyLine.of(shadow) if shadow and standing is Standing.SHADOWED else None
    return IdleRule(rule=PolicyLine.of(rule), standing=standing, by=by, in_force_since=since)


def _shadows(index: PolicyIndex) -> dict[Rule, Rule]:
    """For each allow that can decide nothing by itself, the first rule that decides in its place.

    Whoever has the rule's role has all that it inherits, too. So what the rule says of a cell is idle if among those
    roles an earlier or a broader allow says it as well, or a deny forbids it.
    """
    cells = Cells(index.vocabulary)
    lines = ancestors(index.roles, index.links)
    of_role: dict[str, list[tuple[int, Rule]]] = {}
    for number, rule in enumerate(index.rules):
        of_role.setdefault(rule.role, []).append((number, rule))
    found: dict[Rule, Rule] = {}
    for number, rule in enumerate(index.rules):
        if not rule.allows:
            continue
        meant = cells.of_rule(rule)
        left, by = set(meant), list[tuple[int, Rule]]()
        for role in lines[rule.role]:
            for place, other in of_role.get(role, ()):
                if not left:
                    break
                theirs = cells.of_rule(other)
                instead = not other.allows or place < number or meant < theirs
                if place != number and instead and not left.isdisjoint(theirs):
                    left -= theirs
                    by.append((place, other))
        if not left:
            found[rule] = min(by, key=lambda each: each[0])[1]
    return found


def _idle_roles(
    index: PolicyIndex, tally: Tally, decider: Decider, bindings: Mapping[str, int] | None
) -> list[IdleRole]:
    needed: set[str] = set()
    counted: dict[str, Times] = {}
    for decided, times in tally.items():
        again = decider.again(decided)
        for role in {role for _, roles in decided.held for role in roles}:
            count(counted, role, times)
            if decided.allowed and again is not None and again.allowed and role not in needed:
                without = decider.again(_without(decided, role))
                if without is not None and not without.allowed:
                    needed.add(role)
    return [
        IdleRole(
            role=name,
            bindings=None if bindings is None else bindings.get(name, 0),
            counted=counted[name].count if name in counted else 0,
            last=counted[name].last if name in counted else None,
        )
        for name, role in index.roles.items()
        if name not in needed and not (role.system or role.implicit)
    ]


def _without(decided: Decided, role: str) -> Decided:
    return decided._replace(
        held=tuple((scope, tuple(held for held in roles if held != role)) for scope, roles in decided.held)
    )
