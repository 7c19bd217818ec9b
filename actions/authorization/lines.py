"""Reading one rule file, line by line: ``p`` lines into rules, ``g`` lines into links, all else into findings."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from actions.authorization.characters import wrong_in_rule
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
    Severity,
)
from actions.directory import NOBODY_YET
from actions.vocabulary import ScopeType

_OUTSIDE_WORDS = re.compile(r"[^A-Za-z0-9_,* ]")
_FINDINGS_AT_MOST = 100
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
        if len(reader.read.findings) >= _FINDINGS_AT_MOST:
            reader.refuse(
                number, 1, "too-many", "There are too many mistakes; the rest is not read", "Mend these first."
            )
            return reader.read
    if not reader.read.rules and not reader.read.links and not reader.read.findings:
        message = "The file states no rule"
        reader.read.findings.append(Finding(file, 1, 1, "no-rule", Severity.WARNING, message, "Is it whole?"))
    return reader.read


class _Reader:
    def __init__(self, file: str, cells: Cells, shape: ModelShape, roles: Mapping[str, Role] | None) -> None:
        self.file, self.cells, self.shape, self.roles = file, cells, shape, roles
        self.is_widest = RULE_FILES[file] is ScopeType.ADMIN
        self.read = Read()

    def refuse(self, line: int, column: int, rule_id: str, message: str, hint: str) -> None:
        self.read.findings.append(Finding(self.file, line, column, rule_id, Severity.ERROR, message, hint))

    def line(self, number: int, text: str) -> None:
        outside = _OUTSIDE_WORDS.search(text)
        if outside:
            self.refuse(number, outside.start() + 1, *wrong_in_rule(outside.group()))
            return
        words, columns = _fields(text)
        if words[0] == "p":
            self.rule(number, text, words, columns)
        elif words[0] == "g":
            self.link(number, words, columns)
        else:
            message = f"'{words[0]}' is no type of line, and Casbin would drop the line in silence"
            self.refuse(number, columns[0], "line-type", message, f"Write '{_RULE_SHAPE}' or '{_LINK_SHAPE}'.")

    def rule(self, number: int, text: str, words: list[str], columns: list[int]) -> None:
        if len(words) != 6:
            self.refuse(number, columns[0], "field-count", f"A rule has 6 fields, this has {len(words)}", _RULE_SHAPE)
            return
        _, role, scope, entity, operation, effect = words
        understood = all(
            (
                self.role(number, columns[1], role),
                self.word(number, columns[2], "scope", scope, (*ScopeType, ANY)),
                self.word(number, columns[3], "object", entity, (*self.cells.entities, ANY)),
                self.word(number, columns[4], "action", operation, (*self.cells.operations, ANY)),
                self.word(number, columns[5], "effect", effect, (ALLOW, DENY)),
            )
        )
        if understood and self.placed(number, words, columns):
            self.read.rules.append(Rule(role, scope, entity, operation, effect, self.file, number, columns[0], text))

    def placed(self, number: int, words: list[str], columns: list[int]) -> bool:
        """Whether a rule made of known words may stand here and means anything."""
        _, _, scope, entity, operation, effect = words
        before = len(self.read.findings)
        if ANY in words and not self.shape.wildcards:
            column = columns[words.index(ANY)]
            self.refuse(
                number, column, "wildcard", "The model has no wildcards", "Name the words, or change model.conf."
            )
        elif ANY in words and not self.is_widest:
            column = columns[words.index(ANY)]
            self.refuse(number, column, "wildcard", "A wildcard may stand in superadmin.csv alone", "Name each word.")
        elif scope != ANY and FILE_OF[scope] != self.file:
            message = f"A rule of scope '{scope}' is in {self.file}"
            self.refuse(number, columns[2], "wrong-file", message, f"Move it to {FILE_OF[scope]}, under its reviewers.")
        elif not self.cells.of(scope, entity, operation):
            message = f"No action is '{operation}' of '{entity}' in scope '{scope}'"
            self.refuse(number, columns[2], "no-action", message, self.which(scope, entity))
        if effect == DENY and not self.shape.denies:
            self.refuse(number, columns[5], "effect", "The model ignores a deny", "Use the shipped model.conf.")
        return len(self.read.findings) == before

    def which(self, scope: str, entity: str) -> str:
        operations = sorted({cell.operation for cell in self.cells.of(scope, entity, ANY)})
        return f"In scope '{scope}' of '{entity}' there is: {', '.join(operations) or 'nothing'}."

    def link(self, number: int, words: list[str], columns: list[int]) -> None:
        if len(words) != 3:
            message = f"An inheritance line has 3 fields, this has {len(words)}"
            self.refuse(number, columns[0], "field-count", message, _LINK_SHAPE)
            return
        _, role, inherits = words
        if not all((self.role(number, columns[1], role), self.role(number, columns[2], inherits))):
            return
        if self.roles is not None:
            if self.roles[role].home != self.file:
                message = f"A line that extends '{role}' is in {self.file}"
                hint = f"Move it to {self.roles[role].home}, the file of the lowest scope in which the role is held."
                self.refuse(number, columns[1], "wrong-file", message, hint)
                return
            for name, column in ((inherits, columns[2]), (role, columns[1])):
                if self.roles[name].system or name == NOBODY_YET:
                    message = f"The server's own roles, and '{NOBODY_YET}', neither inherit nor are inherited"
                    self.refuse(number, column, "system-role", message, "State the rules one by one.")
                    return
        self.read.links.append(RoleLink(role, inherits, self.file, number, columns[0]))

    def role(self, number: int, column: int, role: str) -> bool:
        return self.roles is None or self.word(number, column, "role", role, self.roles)

    def word(self, number: int, column: int, kind: str, word: str, known: Collection[str]) -> bool:
        if word in known:
            return True
        near = get_close_matches(word.lower(), known, 1)
        if near:
            hint = f"Did you mean '{near[0]}'?"
        elif kind == "role":
            hint = "Declare it in roles.yaml."
        else:
            hint = f"Known: {', '.join(sorted(known))}."
        self.refuse(number, column, kind, f"'{word}' is no known {kind}", hint)
        return False


def _fields(text: str) -> tuple[list[str], list[int]]:
    """The words between the commas, stripped of spaces, and the column at which each begins."""
    words, columns, start = [], [], 0
    for part in text.split(","):
        words.append(part.strip(" "))
        columns.append(start + len(part) - len(part.lstrip(" ")) + 1)
        start += len(part) + 1
    return words, columns
