"""Reading one rule file, line by line: ``p`` lines into rules, ``g`` lines into links, all else into findings."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from actions.authorization.characters import wrong_in_rule
from actions.authorization.linting.of_declarations import NO_DENIES, NO_WILDCARDS
from actions.authorization.linting.of_files import NO_RULE
from actions.authorization.linting.of_lines import (
    ACTION,
    EFFECT,
    EMPTY_FIELD,
    FIELD_COUNT,
    LINE_TYPE,
    NO_ACTION,
    OBJECT,
    ROLE,
    SCOPE,
    SYSTEM_ROLE,
    TRAILING_COMMENT,
    WILDCARD,
    WRONG_FILE,
)
from actions.authorization.linting.rule import LintRule
from actions.authorization.model_conf import ModelShape
from actions.authorization.rules import (
    ALLOW,
    ANY,
    DENY,
    FILE_OF,
    RULE_FILES,
    Cells,
    Finding,
    Role,
    RoleLink,
    Rule,
)
from actions.authorization.texts import FINDINGS_AT_MOST, too_many
from actions.directory import NOBODY_YET
from actions.vocabulary import ScopeType

_OUTSIDE_WORDS = re.compile(r"[^A-Za-z0-9_,* ]")
_RULE_SHAPE = "p, role, scope, entity, operation, allow|deny"
_LINK_SHAPE = "g, role, inherited role"


@dataclass(slots=True)
class Read:
    """What one file says."""

    rules: list[Rule] = field(default_factory=list)
    links: list[RoleLink] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_rules(file: str, text: str, cells: Cells, shape: ModelShape, roles: Mapping[str, Role] | None) -> Read:
    """Everything in one rule file. ``roles`` is None when it is not known which roles there are."""
    reader = _Reader(file, cells, shape, roles)
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#") or not line.strip(" "):
            continue
        reader.line(number, line)
        if len(reader.read.findings) >= FINDINGS_AT_MOST:
            reader.read.findings.append(too_many(file, number))
            return reader.read
    return reader.read


def says_nothing(file: str) -> Finding:
    """The finding about a rule file in which no line says anything."""
    return NO_RULE.at(file, 1, 1, "The file states no rule", "Is it whole?")


class _Reader:
    def __init__(self, file: str, cells: Cells, shape: ModelShape, roles: Mapping[str, Role] | None) -> None:
        self.file, self.cells, self.shape, self.roles = file, cells, shape, roles
        self.is_widest = RULE_FILES[file] is ScopeType.ADMIN
        self.read = Read()

    def refuse(self, kind: LintRule, line: int, column: int, message: str, hint: str) -> None:
        self.read.findings.append(kind.at(self.file, line, column, message, hint))

    def line(self, number: int, text: str) -> None:
        if _OUTSIDE_WORDS.search(text):
            self.outside(number, text)
            return
        words, columns = _fields(text)
        if words[0] == "p":
            self.rule(number, text, words, columns)
        elif words[0] == "g":
            self.link(number, words, columns)
        else:
            message = f"'{words[0]}' is no type of line, and Casbin would drop the line in silence"
            self.refuse(LINE_TYPE, number, columns[0], message, f"Write '{_RULE_SHAPE}' or '{_LINK_SHAPE}'.")

    def outside(self, number: int, text: str) -> None:
        """The first character of each kind that stands in no word. What follows a ``#`` is a comment, if misplaced."""
        told: set[str] = set()
        for match in _OUTSIDE_WORDS.finditer(text):
            kind, message, hint = wrong_in_rule(match.group())
            if kind.id not in told:
                told.add(kind.id)
                self.refuse(kind, number, match.start() + 1, message, hint)
            if kind is TRAILING_COMMENT:
                return

    def rule(self, number: int, text: str, words: list[str], columns: list[int]) -> None:
        if len(words) != 6:
            message = f"A rule has 6 fields, this has {len(words)}"
            self.refuse(FIELD_COUNT, number, columns[0], message, _RULE_SHAPE)
            return
        before = len(self.read.findings)
        _, role, scope, entity, operation, effect = words
        self.role(number, columns[1], role)
        self.word(SCOPE, number, columns[2], scope, (*ScopeType, ANY))
        self.word(OBJECT, number, columns[3], entity, (*self.cells.entities, ANY))
        offered = {cell.operation for cell in self.cells.of(scope, entity, ANY)}
        self.word(ACTION, number, columns[4], operation, (*self.cells.operations, ANY), meant=offered)
        self.word(EFFECT, number, columns[5], effect, (ALLOW, DENY))
        self.placed(number, words, columns)
        if len(self.read.findings) == before and not self.cells.of(scope, entity, operation):
            message = f"No action is '{operation}' of '{entity}' in scope '{scope}'"
            self.refuse(NO_ACTION, number, columns[2], message, self.which(scope, entity))
        if len(self.read.findings) == before:
            self.read.rules.append(Rule(role, scope, entity, operation, effect, self.file, number, columns[0], text))

    def placed(self, number: int, words: list[str], columns: list[int]) -> None:
        """Whether what a rule says may stand here, whatever else is wrong with it."""
        scope, effect = words[2], words[5]
        if ANY in words[2:5]:
            column = columns[words.index(ANY, 2)]
            if not self.shape.wildcards:
                hint = "Name the words, or change model.conf."
                self.refuse(NO_WILDCARDS, number, column, "The model has no wildcards", hint)
            elif not self.is_widest:
                message = "A wildcard may stand in superadmin.csv alone"
                self.refuse(WILDCARD, number, column, message, "Name each word.")
        home = FILE_OF.get(scope, self.file)
        if home != self.file:
            message = f"A rule of scope '{scope}' is in {self.file}"
            self.refuse(WRONG_FILE, number, columns[2], message, f"Move it to {home}, under its reviewers.")
        if effect == DENY and not self.shape.denies:
            self.refuse(NO_DENIES, number, columns[5], "The model ignores a deny", "Use the shipped model.conf.")

    def which(self, scope: str, entity: str) -> str:
        operations = sorted({cell.operation for cell in self.cells.of(scope, entity, ANY)})
        return f"In scope '{scope}' of '{entity}' there is: {', '.join(operations) or 'nothing'}."

    def link(self, number: int, words: list[str], columns: list[int]) -> None:
        if len(words) != 3:
            message = f"An inheritance line has 3 fields, this has {len(words)}"
            self.refuse(FIELD_COUNT, number, columns[0], message, _LINK_SHAPE)
            return
        _, role, inherits = words
        known = [self.role(number, columns[1], role), self.role(number, columns[2], inherits)]
        if not all(known):
            return
        if self.roles is not None:
            if self.roles[role].home != self.file:
                message = f"A line that extends '{role}' is in {self.file}"
                hint = f"Move it to {self.roles[role].home}, the file of the lowest scope in which the role is held."
                self.refuse(WRONG_FILE, number, columns[1], message, hint)
                return
            for name, column in ((inherits, columns[2]), (role, columns[1])):
                if self.roles[name].system or name == NOBODY_YET:
                    message = f"The server's own roles, and '{NOBODY_YET}', neither inherit nor are inherited"
                    self.refuse(SYSTEM_ROLE, number, column, message, "State the rules one by one.")
                    return
        self.read.links.append(RoleLink(role, inherits, self.file, number, columns[0]))

    def role(self, number: int, column: int, role: str) -> bool:
        return self.word(ROLE, number, column, role, self.roles)

    def word(
        self,
        kind: LintRule,
        number: int,
        column: int,
        word: str,
        known: Collection[str] | None,
        meant: Collection[str] = (),
    ) -> bool:
        """Whether a word is one of those known; None: which ones are is not known. ``meant`` are the likely ones."""
        if not word:
            self.refuse(EMPTY_FIELD, number, column, f"The {kind.id} is missing", "Write a word between the commas.")
            return False
        if known is None or word in known:
            return True
        near = get_close_matches(word.lower(), meant or known, 1)
        if near:
            hint = f"Did you mean '{near[0]}'?"
        elif kind is ROLE:
            hint = "Declare it in roles.yaml."
        else:
            hint = f"Known: {', '.join(sorted(meant or known))}."
        self.refuse(kind, number, column, f"'{word}' is no known {kind.id}", hint)
        return False


def _fields(text: str) -> tuple[list[str], list[int]]:
    """The words between the commas, stripped of spaces, and the column at which each begins."""
    words, columns, start = [], [], 0
    for part in text.split(","):
        words.append(part.strip(" "))
        columns.append(start + len(part) - len(part.lstrip(" ")) + 1)
        start += len(part) + 1
    return words, columns
