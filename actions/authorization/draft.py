"""The smallest policy that allows what the log shows was used, and nothing that the policy it came from refuses.

A proposal to be read, not a policy to be trusted: what happens once a year is not in a month of the log. It grants
cell by cell, without wildcards, each to as few roles as the decisions need, and of those to the ones that the fewest
others inherit from. What an input named is granted in the narrowest scope that allowed it, even where another cell of
the draft would do. Denies and inheritance stay as they are.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from itertools import chain, combinations

from pydantic import Field

from actions.authorization import model_conf, role_file
from actions.authorization.index import PolicyIndex
from actions.authorization.recorded import Decided, Decider, LogReach, Tally, Times, count
from actions.authorization.rules import RULE_FILES, Cells, ancestors
from actions.authorization.source import PolicySource
from actions.authorization.usage import relied_on
from actions.model import Output
from actions.vocabulary import Permission, ScopeType

EXACT_AT_MOST = 12
"""Up to so many roles the fewest are found by trying them all; beyond, each time the one that helps most is taken."""

Roles = frozenset[str]


class PolicyDraft(Output):
    """Drafted policy files, by name. They are stored nowhere."""

    policy: str = Field(description="The digest of the policy that it was drafted from.")
    digest: str = Field(description="The digest that the drafted files have.")
    reach: LogReach
    allows: int = Field(description="How many rules allow something; each is one cell for one role.")
    allowed_before: int = Field(description="How many such pairs of cell and role the policy allows that it is from.")
    denies: int
    left_out: int = Field(
        description="Decisions that were allowed once and that the policy, as it is, refuses or does not know."
    )
    files: dict[str, str]


class _Source:
    """What a draft needs to know of the policy it is made from."""

    def __init__(self, index: PolicyIndex) -> None:
        self.index = index
        self.lines = ancestors(index.roles, index.links)
        heirs = Counter(chain.from_iterable(self.lines.values()))
        self._breadth = {role: (heirs[role], len(self.cells_of(role))) for role in index.roles}

    def cells_of(self, role: str) -> frozenset[Permission]:
        return frozenset().union(*(self.index.allowed_cells(frozenset((role,)), scope) for scope in ScopeType))

    def narrower_first(self, roles: Iterable[str]) -> list[str]:
        """Those first that the fewest other roles inherit from, and of these those that may do the least."""
        return sorted(roles, key=lambda role: (*self._breadth[role], role))

    def serving(self, held: Roles, cell: Permission) -> Roles:
        """The roles to one of which the cell has to be granted, so that holders of some roles have it."""
        theirs = {role for name in held if name in self.lines for role in self.lines[name]}
        return frozenset(role for role in theirs if self.index.decide(frozenset((role,)), cell).allowed)


def draft(
    index: PolicyIndex,
    source: PolicySource,
    tally: Tally,
    reach: LogReach,
    actions: Mapping[str, Permission],
) -> PolicyDraft:
    """``source`` are the files of ``index``; the model and the roles are taken over from there as they are."""
    origin = _Source(index)
    decider = Decider(index, actions)
    seen: dict[Permission, dict[Roles, Times]] = {}
    left_out = 0
    for decided, times in tally.items():
        if not decided.allowed:
            continue
        again = decider.again(decided)
        if again is None or not again.allowed:
            left_out += times.count
            continue
        cell, held = _granted(index, decided, actions)
        count(seen.setdefault(cell, {}), held, times)
    rules = {
        (role, cell): _together(times for held, times in sets.items() if role in origin.serving(held, cell))
        for cell, sets in seen.items()
        for role in fewest({origin.serving(held, cell) for held in sets}, origin.narrower_first)
    }
    kept = {
        (role, cell): rules.get((role, cell))
        for role, declared in index.roles.items()
        if relied_on(declared)
        for cell in origin.cells_of(role)
    }
    files, denies = _files(index, source, rules, kept, reach)
    return PolicyDraft(
        policy=index.digest,
        digest=PolicySource({name: text.encode() for name, text in files.items()}).digest,
        reach=reach,
        allows=len({**rules, **kept}),
        allowed_before=sum(len(origin.cells_of(role)) for role in index.roles),
        denies=denies,
        left_out=left_out,
        files=files,
    )


def fewest(wanted: Collection[Roles], narrower_first: Callable[[Iterable[str]], list[str]]) -> Roles:
    """A smallest set of roles that has one of each of the wanted sets; of several such, one of narrow roles."""
    least = [each for each in wanted if not any(other < each for other in wanted)]
    roles = narrower_first(frozenset().union(*least))
    if len(roles) <= EXACT_AT_MOST:
        for size in range(len(roles) + 1):
            for chosen in combinations(roles, size):  # in the order of the roles, so narrow ones come first
                if all(not each.isdisjoint(chosen) for each in least):
                    return frozenset(chosen)
    chosen_so_far: list[str] = []
    while missing := [each for each in least if each.isdisjoint(chosen_so_far)]:
        chosen_so_far.append(max(roles, key=lambda role: (sum(role in each for each in missing), -roles.index(role))))
    for role in reversed(narrower_first(chosen_so_far)):
        rest = [other for other in chosen_so_far if other != role]
        if all(not each.isdisjoint(rest) for each in least):
            chosen_so_far = rest
    return frozenset(chosen_so_far)


def _granted(index: PolicyIndex, decided: Decided, actions: Mapping[str, Permission]) -> tuple[Permission, Roles]:
    """The cell that allowed it, and the roles that counted there. Of a used thing, that of the narrowest scope."""
    if decided.used is None:
        return actions[decided.action], frozenset(decided.held[0][1])
    for scope, roles in decided.held:
        cell = Permission(scope, *decided.used)
        if index.decide(frozenset(roles), cell).allowed:
            return cell, frozenset(roles)
    raise ValueError("nothing allows it")  # it was asked before


def _together(times: Iterable[Times]) -> Times:
    first, *rest = times
    sum_ = first.copy()
    for each in rest:
        sum_.add(each)
    return sum_


_Rules = Mapping[tuple[str, Permission], Times]
_KeptRules = Mapping[tuple[str, Permission], Times | None]


def _files(
    index: PolicyIndex, source: PolicySource, rules: _Rules, kept: _KeptRules, reach: LogReach
) -> tuple[dict[str, str], int]:
    granted = {cell for _, cell in (*rules, *kept)}
    cells = Cells(index.vocabulary)
    denies = [rule for rule in index.rules if not rule.allows and not cells.of_rule(rule).isdisjoint(granted)]
    order = {role: number for number, role in enumerate(index.roles)}
    files = {name: source.files[name].decode() for name in (model_conf.FILE, role_file.FILE)}
    for name, scope in RULE_FILES.items():
        lines = _head(name, scope, index, reach)
        if links := [link for link in index.links if link.file == name]:
            lines += ["", "# Inheritance, as it was.", *(f"g, {link.role}, {link.inherits}" for link in links)]
        if here := [rule for rule in denies if rule.file == name]:
            lines += [
                "",
                "# Denies that what is allowed below could meet, as they were.",
                *(rule.text for rule in here),
            ]
        ours = [key for key in {**rules, **kept} if key[1].scope == scope]
        for role in sorted({role for role, _ in ours}, key=order.__getitem__):
            lines.append("")
            if relied_on(index.roles[role]):
                lines.append(f"# The server itself relies on {role}: kept as it was, whether it was seen or not.")
            for key in sorted((key for key in ours if key[0] == role), key=str):
                times = rules.get(key)
                if times is not None:
                    lines.append(f"# {_told(times)}")
                _, cell = key
                lines.append(f"p, {role}, {cell.scope}, {cell.entity}, {cell.operation}, allow")
        files[name] = "\n".join(lines) + "\n"
    return files, len(denies)


def _head(name: str, scope: ScopeType, index: PolicyIndex, reach: LogReach) -> list[str]:
    return [
        f"# {name} -- drafted: what was used in scopes of type {scope}, and no more",
        "#",
        f"# From {reach.decisions} recorded decisions{_between(reach.first, reach.last)},",
        f"# under the policy {index.digest[:12]}. What happens more seldom than that is not here: read every line.",
        *(["# The log reaches further back than was read."] if reach.truncated else []),
    ]


def _between(first: datetime | None, last: datetime | None) -> str:
    return f" from {first:%Y-%m-%d} to {last:%Y-%m-%d}" if first and last else ""


def _told(times: Times) -> str:
    often = "once" if times.count == 1 else f"{times.count} times"
    return f"{often}, {'on' if times.count == 1 else 'last on'} {times.last:%Y-%m-%d}"
