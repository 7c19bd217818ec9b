"""What an audit policy says once it is compiled: how much of an action is recorded, and what of a field.

Part of a policy version, like its rules. This module reads no file and makes no record. Whatever it says, only a read
that succeeded can go unrecorded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, final

from actions.vocabulary import Kind, Permission, Vocabulary

SUCCEEDED = "succeeded"
RESULTS = (SUCCEEDED, "denied", "undecided", "failed", "unknown", "broken-off", "pending")
SURFACES = ("rest", "graphql", "internal")


class Level(StrEnum):
    """How much of an action is recorded. ``metadata`` leaves out what was asked, what values fields had, and all that
    is personal but the address the request came from."""

    NONE = "none"
    METADATA = "metadata"
    FULL = "full"


class Redaction(StrEnum):
    """What is recorded of a field's values. ``hash``: keyed hashes, by which a value that is known can be found."""

    OMIT = "omit"
    HASH = "hash"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class AuditRule:
    """One rule. Of what is None it names nothing, so it is about all. ``line`` is where its file has it."""

    level: Level
    operations: frozenset[str] | None = None
    entities: frozenset[str] | None = None
    scopes: frozenset[str] | None = None
    results: frozenset[str] | None = None
    surfaces: frozenset[str] | None = None
    line: int = field(default=0, compare=False, kw_only=True)

    def __str__(self) -> str:
        """As it could be written in the file."""
        named = zip(_KEYS, _words(self), strict=True)
        said = [f"{key}: [{', '.join(sorted(words))}]" for key, words in named if words is not None]
        return f"{{{', '.join([f'level: {self.level}', *said])}}}"

    def speaks_of(self, cell: Permission) -> bool:
        named = ((self.scopes, cell.scope), (self.entities, cell.entity), (self.operations, cell.operation))
        return all(words is None or word in words for words, word in named)

    def matches(self, cell: Permission, result: str, surface: str) -> bool:
        return (
            self.speaks_of(cell)
            and (self.results is None or result in self.results)
            and (self.surfaces is None or surface in self.surfaces)
        )


@final
@dataclass(frozen=True)
class AuditPolicy:
    """The rules and redactions of one policy version, by entity and field. The first rule that matches gives the level;
    without any it is ``full``."""

    vocabulary: Vocabulary = field(repr=False, compare=False)
    rules: tuple[AuditRule, ...] = ()
    redactions: Mapping[tuple[str, str], Redaction] = field(default_factory=dict)
    _levels: dict[tuple[Permission, str, str], Level] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """Each answer is found once: there are as many as there are cells, results and surfaces."""

    def level(self, cell: Permission, result: str, surface: str) -> Level:
        """How much of an action is recorded, by the cell that it was decided by."""
        key = (cell, result, surface)
        return self._levels.get(key) or self._levels.setdefault(key, self._level(*key))

    def deciding(self, cell: Permission, result: str, surface: str) -> AuditRule | None:
        """The first rule that matches, which gives the level; None: it is recorded in full, as nothing is said."""
        return next((rule for rule in self.rules if rule.matches(cell, result, surface)), None)

    def redaction(self, entity: str, name: str) -> Redaction | None:
        """What is said of a field; None: nothing is."""
        return self.redactions.get((entity, name))

    def told(self) -> list[Any]:
        """As JSON can say it, for another process."""
        rules = [
            [rule.level, rule.line, *(None if words is None else sorted(words) for words in _words(rule))]
            for rule in self.rules
        ]
        return [rules, [[*key, said] for key, said in self.redactions.items()]]

    @classmethod
    def read(cls, told: list[Any], vocabulary: Vocabulary) -> "AuditPolicy":
        """It again, in the other one."""
        rules, redactions = told
        return cls(
            vocabulary,
            tuple(
                AuditRule(Level(level), *(None if words is None else frozenset(words) for words in named), line=line)
                for level, line, *named in rules
            ),
            {(entity, name): Redaction(said) for entity, name, said in redactions},
        )

    def _level(self, cell: Permission, result: str, surface: str) -> Level:
        rule = self.deciding(cell, result, surface)
        if rule is None:
            return Level.FULL
        known = next((known for known in self.vocabulary if known == cell), cell)
        # No policy that says less is ever compiled; the log does not rest on that alone.
        if known.full or (rule.level is Level.NONE and not (result == SUCCEEDED and known.optional)):
            return Level.FULL
        return rule.level


def fields_of(entity: str, vocabulary: Vocabulary) -> dict[str, Kind]:
    """The fields of an entity that a policy may speak of, each as its strictest action has it."""
    order, fields = list(Kind), dict[str, Kind]()
    for cell in vocabulary:
        if cell.entity == entity:
            for name, kind in cell.fields:
                fields[name] = max(kind, fields.get(name, kind), key=order.index)
    return fields


_KEYS = ("operations", "entities", "scopes", "results", "surfaces")


def _words(rule: AuditRule) -> tuple[frozenset[str] | None, ...]:
    return rule.operations, rule.entities, rule.scopes, rule.results, rule.surfaces
