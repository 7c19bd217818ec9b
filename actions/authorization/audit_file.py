"""Reading ``audit.yaml``: how much of what is recorded. Only its mistakes keep a version from going live; what it says
is ``actions.auditing``'s business.
"""

from collections.abc import Collection, Mapping
from typing import TypeVar

import yaml

from actions.auditing import RESULTS, SUCCEEDED, SURFACES, AuditPolicy, AuditRule, Level, Redaction, fields_of
from actions.authorization.linting.of_audit import (
    AUDIT_MANDATORY,
    AUDIT_SECRET,
    AUDIT_SYNTAX,
    AUDIT_UNREACHABLE,
    AUDIT_WORD,
)
from actions.authorization.linting.of_files import TOO_LARGE
from actions.authorization.rules import Finding
from actions.authorization.texts import read_text
from actions.authorization.yaml_reader import LIST, STRING, TooMany, YamlReader
from actions.vocabulary import Kind, Permission, ScopeType, Vocabulary

FILE = "audit.yaml"
RULES_AT_MOST = 200

_BYTES_AT_MOST = 64 * 1024
_FILE_KEYS = ("rules", "redact")
_RULE_KEYS = ("level", "operations", "entities", "scopes", "results", "surfaces")
_REDACT_KEYS = ("entity", "fields", "as")
_EXAMPLE = "Write: {level: metadata, operations: [search], entities: [project], results: [succeeded]}"
_REDACT_EXAMPLE = "Write: {entity: keypair, fields: [secret_key], as: hash}"
_FORBIDDEN: Mapping[Kind, Mapping[Redaction, str]] = {
    Kind.PLAIN: {},
    Kind.PERSONAL: {Redaction.HASH: "is personal, and a hash of it would outlast the person's erasure"},
    Kind.ISSUED: {Redaction.KEEP: "is a secret, and a secret in the log is none"},
    Kind.CHOSEN: {
        Redaction.KEEP: "is a secret, and a secret in the log is none",
        Redaction.HASH: "is a secret that people choose, and a hash of it can be guessed at",
    },
}
_GOVERNS = "says who may do what or what the log keeps, and what it was changed to is always recorded"
_FORBIDDEN_OF_WHAT_GOVERNS = {**_FORBIDDEN, Kind.PLAIN: {Redaction.OMIT: _GOVERNS, Redaction.HASH: _GOVERNS}}

WordT = TypeVar("WordT", Level, Redaction)


def read_audit(content: bytes | None, vocabulary: Vocabulary) -> tuple[AuditPolicy, list[Finding]]:
    """What the file says, and what is wrong with it. Without the file everything is recorded in full. Never raises."""
    if content is None:
        return AuditPolicy(vocabulary), []
    if len(content) > _BYTES_AT_MOST:
        return AuditPolicy(vocabulary), [TOO_LARGE.at(FILE, 1, 1, "The file is larger than 64 KiB", "Say less.")]
    text, findings = read_text(FILE, content)
    if text is None:
        return AuditPolicy(vocabulary), findings
    reader = _Reader(vocabulary)
    try:
        policy = reader.policy(text)
    except TooMany:
        policy = AuditPolicy(vocabulary)
    return policy, [*findings, *reader.findings]


class _Reader(YamlReader):
    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(FILE, AUDIT_SYNTAX, AUDIT_WORD, _EXAMPLE)
        self._vocabulary = vocabulary
        self._entities = {cell.entity for cell in vocabulary}
        self._words: Mapping[str, Collection[str]] = {
            "operations": {cell.operation for cell in vocabulary},
            "entities": self._entities,
            "scopes": tuple(ScopeType),
            "results": RESULTS,
            "surfaces": SURFACES,
        }
        self._decided: dict[Permission, set[tuple[str, str]]] = {cell: set() for cell in vocabulary}
        """What the rules so far speak of."""

    def policy(self, text: str) -> AuditPolicy:
        root = self.root(text, "The file states no rule", "Write 'rules: []' if everything is to be recorded in full.")
        given = {key.value: value for key, value in self.pairs(root, _FILE_KEYS)} if root else {}
        rules = [rule for item in self._items(given, "rules") if (rule := self._rule(item)) is not None]
        redactions: dict[tuple[str, str], Redaction] = {}
        for item in self._items(given, "redact"):
            self._redact(item, redactions)
        return AuditPolicy(self._vocabulary, tuple(rules), redactions)

    def _items(self, given: Mapping[str, yaml.Node], key: str) -> list[yaml.Node]:
        node = given.get(key)
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode) or node.tag != LIST:
            self.refuse(node, f"'{key}' is not a list", _EXAMPLE if key == "rules" else _REDACT_EXAMPLE)
            return []
        if len(node.value) > RULES_AT_MOST:
            self.refuse(node, f"'{key}' has more than {RULES_AT_MOST} entries", "Say it with fewer.")
            return []
        return list(node.value)

    def _rule(self, item: yaml.Node) -> AuditRule | None:
        before = len(self.findings)
        given = {key.value: value for key, value in self.pairs(item, _RULE_KEYS)}
        if len(self.findings) > before:
            return None
        if "level" not in given:
            self.refuse(item, "This rule has no 'level'", _EXAMPLE)
            return None
        level = self._one(given.pop("level"), "level", Level)
        named = {
            key: frozenset(word.value for word in self.words(node) if self.known(word, key, self._words[key]))
            for key, node in given.items()
        }
        if level is None or len(self.findings) > before:
            return None
        rule = AuditRule(level, **named, line=item.start_mark.line + 1)
        self._hold_to_the_law(item, rule)
        self._reached(item, rule)
        return rule

    def _hold_to_the_law(self, item: yaml.Node, rule: AuditRule) -> None:
        if rule.level is Level.METADATA:
            self._keep_whole(item, rule)
        if rule.level is not Level.NONE:
            return
        if rule.results != frozenset({SUCCEEDED}):
            hint = f"Write: results: [{SUCCEEDED}]"
            self.refuse(item, "This would leave out refusals and failures", hint, AUDIT_MANDATORY)
        kept = sorted(str(cell) for cell in self._vocabulary if rule.speaks_of(cell) and not cell.optional)
        if kept:
            told = ", ".join(kept[:3]) + ", ..." * (len(kept) > 3)
            hint = "Name the operations and entities that are only read."
            self.refuse(item, f"This would leave out what is always recorded: {told}", hint, AUDIT_MANDATORY)

    def _keep_whole(self, item: yaml.Node, rule: AuditRule) -> None:
        """Of what governs, nothing is left out of a change; a rule may speak of it where one before it has decided."""
        first = [cell for cell in self._vocabulary if rule.speaks_of(cell) and not _about(rule) <= self._decided[cell]]
        if cut := sorted({cell.entity for cell in first if cell.full}):
            hint = f"Put a rule before it: {{level: full, entities: [{', '.join(cut)}]}}"
            self.refuse(item, f"This would leave out what was changed of: {', '.join(cut)}", hint, AUDIT_MANDATORY)

    def _reached(self, item: yaml.Node, rule: AuditRule) -> None:
        """Whether there is anything that this rule is the first to speak of."""
        about = _about(rule)
        cells = [cell for cell in self._vocabulary if rule.speaks_of(cell)]
        reached = any(not about <= self._decided[cell] for cell in cells)
        for cell in cells:
            self._decided[cell] |= about
        if not reached:
            message = "The rules before this one decide all of it" if cells else "No action is all of this at once"
            self.refuse(item, message, "Move it up, correct its words, or remove it.", AUDIT_UNREACHABLE)

    def _redact(self, item: yaml.Node, found: dict[tuple[str, str], Redaction]) -> None:
        before = len(self.findings)
        given = {key.value: value for key, value in self.pairs(item, _REDACT_KEYS)}
        if len(self.findings) > before:
            return
        if missing := [key for key in _REDACT_KEYS if key not in given]:
            self.refuse(item, f"This has no '{missing[0]}'", _REDACT_EXAMPLE)
            return
        redaction = self._one(given["as"], "way to record a field", Redaction)
        entities = self.words(given["entity"])
        if len(entities) != 1:
            self.refuse(given["entity"], "This is about more than one entity", _REDACT_EXAMPLE)
            return
        [entity] = entities
        if redaction is None or not self.known(entity, "entity", self._entities):
            return
        fields = fields_of(entity.value, self._vocabulary)
        governs = any(cell.full for cell in self._vocabulary if cell.entity == entity.value)
        forbidden = _FORBIDDEN_OF_WHAT_GOVERNS if governs else _FORBIDDEN
        for word in self.words(given["fields"]):
            if not self.known(word, f"field that a '{entity.value}' can be told to change", fields):
                continue
            if (entity.value, word.value) in found:
                self.refuse(word, f"'{word.value}' is spoken of already", "Keep one.")
            elif why := forbidden[fields[word.value]].get(redaction):
                allowed = [way.value for way in Redaction if way not in forbidden[fields[word.value]]]
                self.refuse(word, f"'{word.value}' {why}", f"Use: {' or '.join(allowed)}.", AUDIT_SECRET)
            else:
                found[entity.value, word.value] = redaction

    def _one(self, node: yaml.Node, kind: str, words: type[WordT]) -> WordT | None:
        known = [word.value for word in words]
        if not isinstance(node, yaml.ScalarNode) or node.tag != STRING:
            self.refuse(node, "This is not a word", f"Known: {', '.join(known)}.")
            return None
        return words(node.value) if self.known(node, kind, known) else None


def _about(rule: AuditRule) -> set[tuple[str, str]]:
    """The results and surfaces that a rule speaks of."""
    return {
        (result, surface)
        for result in (RESULTS if rule.results is None else rule.results)
        for surface in (SURFACES if rule.surfaces is None else rule.surfaces)
    }
