"""What is different between two policies: every cell that a role gains or loses, and the line that makes it so.

Exact for single roles in three values (allow, deny, nothing), and so for every set of roles: what a set may do follows
from what its roles may. Moved lines, comments and their order are no difference. Whom a difference touches is said in
``touched``, the answer's models stand in ``difference_answer``; this module knows no user and no database.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from actions.authorization import role_file
from actions.authorization.answers import Cell, PolicyLine, Verdict
from actions.authorization.difference_answer import (
    DifferenceCause,
    DifferenceEdit,
    DifferenceEffect,
    DifferenceGroup,
    DifferenceKind,
    DifferenceTotals,
    PolicyDifference,
    RoleDifference,
)
from actions.authorization.difference_recording import recording_difference
from actions.authorization.index import PolicyIndex
from actions.authorization.rules import ALLOW, DENY, RULE_FILES, Cells, Role, RoleLink, Rule, ancestors
from actions.vocabulary import Permission, ScopeType

_FILES = (*RULE_FILES, role_file.FILE)
_SCOPES = [*ScopeType]
_NOTHING: frozenset[Permission] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """A role's verdict on a cell that is not what it was, by the rules that decide (None: no rule speaks of it)."""

    role: str
    cell: Permission
    old: Rule | None
    new: Rule | None

    @property
    def verdicts(self) -> tuple[Verdict, Verdict]:
        return _verdict(self.old), _verdict(self.new)


def difference(old: PolicyIndex, new: PolicyIndex) -> PolicyDifference:
    """What changes from one policy to another. Both speak of one vocabulary, or a ``ValueError`` is raised."""
    if old.vocabulary != new.vocabulary:
        raise ValueError("policies of two vocabularies cannot be compared")
    changes = list(changes_between(old, new))
    sides = _Sides(_Side(old), _Side(new))
    groups = _grouped(changes, sides)
    kinds = [DifferenceKind.of(*change.verdicts) for change in changes]
    roles = list(_roles(old, new))
    idle = _in_order(_idle(changes, sides))
    return PolicyDifference(
        old=old.digest,
        new=new.digest,
        totals=DifferenceTotals(**{kind.value: kinds.count(kind) for kind in DifferenceKind}),
        groups=groups,
        group_count=len(groups),
        roles=roles,
        role_count=len(roles),
        idle=idle,
        idle_count=len(idle),
        recording=recording_difference(old.audit, new.audit, new.vocabulary),
    )


def changes_between(old: PolicyIndex, new: PolicyIndex) -> Iterator[Change]:
    """Every role of either version on every cell, where the verdict differs."""
    cells = sorted(new.vocabulary, key=lambda cell: (_SCOPES.index(ScopeType(cell.scope)), cell.entity, cell.operation))
    for role in sorted({*old.roles, *new.roles}):
        alone = frozenset((role,))
        for cell in cells:
            before, after = old.rule_for(alone, cell), new.rule_for(alone, cell)
            if _verdict(before) is not _verdict(after):
                yield Change(role, cell, before, after)


def _verdict(rule: Rule | None) -> Verdict:
    return Verdict.NONE if rule is None else Verdict(rule.effect)


# -- what a line made different --


Words = tuple[str, ...]


def _words(rule: Rule) -> Words:
    return rule.role, rule.scope, rule.entity, rule.operation, rule.effect


def _opposite(words: Words) -> Words:
    return (*words[:-1], DENY if words[-1] == ALLOW else ALLOW)


class _Side:
    """What one version says, by its words: where and how often it says it makes no difference."""

    def __init__(self, index: PolicyIndex) -> None:
        self.index = index
        self.rules: dict[Words, Rule] = {}
        for rule in index.rules:
            self.rules.setdefault(_words(rule), rule)
        self.links: dict[tuple[str, str], RoleLink] = {}
        self.above: dict[str, list[RoleLink]] = {}
        for link in index.links:
            if self.links.setdefault((link.role, link.inherits), link) is link:
                self.above.setdefault(link.role, []).append(link)
        self.ancestors = ancestors(index.roles, index.links)

    def path(self, role: str, ancestor: str) -> list[RoleLink]:
        """The fewest links by which a role inherits another, the first in the files among the equally few."""
        paths: dict[str, list[RoleLink]] = {role: []}
        waiting = [role]
        for name in waiting:  # grows while it is walked
            for link in self.above.get(name, ()):
                if link.inherits not in paths:
                    paths[link.inherits] = [*paths[name], link]
                    waiting.append(link.inherits)
        return paths[ancestor]


@dataclass(frozen=True)
class _Sides:
    old: _Side
    new: _Side
    _known: dict[tuple[str, Rule, bool], DifferenceCause] = field(default_factory=dict)

    def cause(self, change: Change) -> DifferenceCause:
        """The line that made a cell change: it counts for the role in one version, and does not in the other.

        Where several do, it is the one that decides: the new rule where a cell was gained or denied, the old one where
        nothing speaks of it any longer. A deny that went, and had hidden an allow, is the cause of the allow.
        """
        old, new = change.old, change.new
        if new is None or (
            new.allows
            and old is not None
            and change.cell in _allowed_but_for_denies(self.old, change.role, change.cell)
        ):
            assert old is not None  # the verdicts differ  # noqa: S101
            return self._line(change.role, old, is_new=False)
        return self._line(change.role, new, is_new=True)

    def _line(self, role: str, rule: Rule, *, is_new: bool) -> DifferenceCause:
        key = (role, rule, is_new)
        if key not in self._known:
            self._known[key] = self._found(role, rule, is_new=is_new)
        return self._known[key]

    def _found(self, role: str, rule: Rule, *, is_new: bool) -> DifferenceCause:
        here, there = (self.new, self.old) if is_new else (self.old, self.new)
        if role not in there.index.roles:
            return _one_sided(_declaration(here.index.roles[role]), is_new=is_new)
        if rule.role not in there.ancestors[role]:
            link = next(link for link in here.path(role, rule.role) if (link.role, link.inherits) not in there.links)
            return _one_sided(PolicyLine.of(link), is_new=is_new)
        return self.rule(rule, is_new=is_new)

    def rule(self, rule: Rule, *, is_new: bool) -> DifferenceCause:
        """A rule that one version has and the other has not, unless it is turned into its opposite there."""
        here, there = (self.new, self.old) if is_new else (self.old, self.new)
        opposite = _opposite(_words(rule))
        if opposite in there.rules and opposite not in here.rules:
            after, before = (rule, there.rules[opposite]) if is_new else (there.rules[opposite], rule)
            return DifferenceCause(edit=DifferenceEdit.CHANGED, line=PolicyLine.of(after), before=PolicyLine.of(before))
        return _one_sided(PolicyLine.of(rule), is_new=is_new)


def _allowed_but_for_denies(side: _Side, role: str, cell: Permission) -> frozenset[Permission]:
    return side.index.reach(cell.scope, frozenset((role,)), frozenset())


def _one_sided(line: PolicyLine, *, is_new: bool) -> DifferenceCause:
    return DifferenceCause(edit=DifferenceEdit.ADDED if is_new else DifferenceEdit.REMOVED, line=line)


def _declaration(role: Role) -> PolicyLine:
    return PolicyLine(file=role_file.FILE, line=role.line, text=f"{role.name}:")


def _grouped(changes: Iterable[Change], sides: _Sides) -> list[DifferenceGroup]:
    """Changes by their cause, and under it by what became of which roles on the same cells."""
    gathered: dict[DifferenceCause, dict[tuple[Verdict, Verdict], dict[str, list[Permission]]]] = {}
    for change in changes:
        roles = gathered.setdefault(sides.cause(change), {}).setdefault(change.verdicts, {})
        roles.setdefault(change.role, []).append(change.cell)
    return [
        DifferenceGroup(
            cause=cause,
            effects=sorted(
                (effect for verdicts, roles in gathered[cause].items() for effect in _effects(*verdicts, roles)),
                key=lambda effect: ([*DifferenceKind].index(effect.kind), effect.before, effect.after, effect.roles),
            ),
        )
        for cause in _in_order(gathered)
    ]


def _effects(before: Verdict, after: Verdict, changed: dict[str, list[Permission]]) -> Iterator[DifferenceEffect]:
    alike: dict[tuple[Permission, ...], list[str]] = {}
    for role, cells in changed.items():
        alike.setdefault(tuple(cells), []).append(role)
    for same, roles in alike.items():
        yield DifferenceEffect(
            kind=DifferenceKind.of(before, after),
            before=before,
            after=after,
            roles=roles,
            role_count=len(roles),
            cells=[Cell.of(cell) for cell in same],
            cell_count=len(same),
        )


def _in_order(causes: Iterable[DifferenceCause]) -> list[DifferenceCause]:
    """As one reads the files; what went at a place before what came there."""
    return sorted(
        causes,
        key=lambda cause: (
            _FILES.index(cause.line.file),
            cause.line.line,
            cause.edit is not DifferenceEdit.REMOVED,
            cause.line.text,
        ),
    )


# -- what makes no cell different --


def _idle(changes: Iterable[Change], sides: _Sides) -> Iterator[DifferenceCause]:
    """The lines of one version alone that speak of no cell that has changed for anybody whom they concern."""
    changed: dict[str, set[Permission]] = {}
    for change in changes:
        changed.setdefault(change.role, set()).add(change.cell)
    cells = Cells(sides.new.index.vocabulary)
    found: dict[DifferenceCause, None] = {}
    for here, there, is_new in ((sides.old, sides.new, False), (sides.new, sides.old, True)):
        touched: dict[str, set[Permission]] = {}
        for role, line in here.ancestors.items():
            for ancestor in line:
                touched.setdefault(ancestor, set()).update(changed.get(role, ()))
        for words, rule in here.rules.items():
            if words not in there.rules and touched[rule.role].isdisjoint(cells.of_rule(rule)):
                found[sides.rule(rule, is_new=is_new)] = None
        spoken: dict[str, set[Permission]] = {}
        for rule in here.rules.values():
            spoken.setdefault(rule.role, set()).update(cells.of_rule(rule))
        for key, link in here.links.items():
            passed_on = _NOTHING.union(*(spoken.get(role, ()) for role in here.ancestors[link.inherits]))
            if key not in there.links and touched[link.role].isdisjoint(passed_on):
                found[_one_sided(PolicyLine.of(link), is_new=is_new)] = None
    return iter(found)


def _roles(old: PolicyIndex, new: PolicyIndex) -> Iterator[RoleDifference]:
    for name in sorted({*old.roles, *new.roles}):
        before, after = old.roles.get(name), new.roles.get(name)
        held, holds = before.held_in if before else (), after.held_in if after else ()
        if before and after and set(held) == set(holds):
            continue
        edit = (
            DifferenceEdit.CHANGED if before and after else (DifferenceEdit.ADDED if after else DifferenceEdit.REMOVED)
        )
        declared = after or before
        assert declared is not None  # one of the two has it  # noqa: S101
        line = _declaration(declared)
        yield RoleDifference(role=name, edit=edit, line=line, before=list(held), after=list(holds))
