"""What a policy says once it is read: rules, inheritance, roles, and what was found wrong, each with its place.

Values only. This module reads no file and decides nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from actions.auditing import AuditPolicy
from actions.directory import NOBODY_YET
from actions.vocabulary import Permission, ScopeType, Vocabulary

ANY = "*"
ALLOW = "allow"
DENY = "deny"

RULE_FILES = {
    "superadmin.csv": ScopeType.ADMIN,
    "domain.csv": ScopeType.DOMAIN,
    "project.csv": ScopeType.PROJECT,
    "user.csv": ScopeType.USER,
}
"""The rule files, in the order in which rules are numbered, each with the scope word its rules carry."""
FILE_OF = {scope.value: name for name, scope in RULE_FILES.items()}


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something wrong at a place. ``line`` and ``column`` count from 1; ``rule_id`` names the kind of mistake."""

    file: str
    line: int
    column: int
    rule_id: str
    severity: Severity
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message} [{self.rule_id}]"


@dataclass(frozen=True, slots=True)
class Rule:
    """One ``p`` line. ``scope``, ``entity`` and ``operation`` are words of the vocabulary or ``*``."""

    role: str
    scope: str
    entity: str
    operation: str
    effect: str
    file: str
    line: int
    column: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def allows(self) -> bool:
        return self.effect == ALLOW

    @property
    def is_wild(self) -> bool:
        return ANY in (self.scope, self.entity, self.operation)


@dataclass(frozen=True, slots=True)
class RoleLink:
    """One ``g`` line: ``role`` may do whatever ``inherits`` may, and is denied whatever that is denied."""

    role: str
    inherits: str
    file: str
    line: int
    column: int

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Role:
    """A declared role. ``implicit``: held by users in their own scope, or by those who are no user yet in the admin
    scope; ``system``: by the server's own principals."""

    name: str
    sentence: str
    bindable: tuple[ScopeType, ...] = ()
    implicit: bool = False
    system: bool = False
    line: int = 1
    column: int = 1

    @property
    def held_in(self) -> tuple[ScopeType, ...]:
        """The scope types where somebody can come to hold it, by a binding or otherwise."""
        if self.implicit:
            return (ScopeType.ADMIN,) if self.name == NOBODY_YET else (ScopeType.USER,)
        return (ScopeType.ADMIN,) if self.system else self.bindable

    @property
    def home(self) -> str:
        """The file for its ``g`` lines: that of the lowest scope type where it is held, else the strictest."""
        lowest = max(self.held_in, key=list(ScopeType).index, default=ScopeType.ADMIN)
        return FILE_OF[lowest]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A whole policy. With errors among the findings it cannot be compiled."""

    rules: tuple[Rule, ...]
    links: tuple[RoleLink, ...]
    roles: Mapping[str, Role]
    findings: tuple[Finding, ...]
    audit: AuditPolicy
    """How much of what is recorded."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)


class Cells:
    """Which cells of a vocabulary a rule speaks of, wildcards spelled out."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.entities = frozenset(cell.entity for cell in vocabulary)
        self.operations = frozenset(cell.operation for cell in vocabulary)
        self._known: dict[tuple[str, str, str], frozenset[Permission]] = {}

    def of(self, scope: str, entity: str, operation: str) -> frozenset[Permission]:
        words = (scope, entity, operation)
        found = self._known.get(words)
        if found is None:
            found = self._known[words] = frozenset(
                cell
                for cell in self.vocabulary
                if scope in (ANY, cell.scope) and entity in (ANY, cell.entity) and operation in (ANY, cell.operation)
            )
        return found

    def of_rule(self, rule: Rule) -> frozenset[Permission]:
        return self.of(rule.scope, rule.entity, rule.operation)


def ancestors(roles: Iterable[str], links: Iterable[RoleLink]) -> dict[str, frozenset[str]]:
    """Each role with all the roles it inherits from, itself included. Ends on cycles too."""
    above: dict[str, list[str]] = {}
    for link in links:
        above.setdefault(link.role, []).append(link.inherits)
    found: dict[str, frozenset[str]] = {}
    for role in roles:
        seen, waiting = {role}, [role]
        while waiting:
            for parent in above.get(waiting.pop(), ()):
                if parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
        found[role] = frozenset(seen)
    return found
