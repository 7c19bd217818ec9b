"""Walking the nodes of a YAML file, so that every mistake in it has a line and a column.

What cannot be understood is reported and left out. What the file is about, those who inherit from ``YamlReader`` know.
"""

from collections.abc import Collection, Iterator
from difflib import get_close_matches

import yaml

from actions.authorization.linting.rule import LintRule
from actions.authorization.rules import Finding
from actions.authorization.texts import FINDINGS_AT_MOST, too_many

STRING, LIST, MAPPING = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


class TooMany(Exception):
    """There are so many mistakes that the rest of the file is not read."""


class YamlReader:
    """One file. ``syntax`` is the kind of mistake of whatever has another form than ``example``, ``word`` that of a
    word which there is not."""

    def __init__(self, file: str, syntax: LintRule, word: LintRule, example: str) -> None:
        self._file = file
        self._syntax = syntax
        self._word = word
        self._example = example
        self.findings: list[Finding] = []

    def root(self, text: str, empty: str, hint: str) -> yaml.Node | None:
        """The whole of it; None, and why, where there is nothing that could be walked. ``empty`` and ``hint`` say what
        is wrong with a file that says nothing."""
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            self._find(line, column, self._syntax, f"This is not YAML: {error.problem or error.context}", self._example)
            return None
        except (yaml.YAMLError, RecursionError, ValueError):
            self._find(1, 1, self._syntax, "This is not YAML that can be read", self._example)
            return None
        if root is None:
            self._find(1, 1, self._syntax, empty, hint)
            return None
        repeated = _repeated(root)
        if repeated is not None:
            self.refuse(repeated, "This is used again by an alias", "Write it out: it is read where it stands.")
            return None
        return root

    def known(self, word: yaml.ScalarNode, kind: str, known: Collection[str]) -> bool:
        """Whether a word is one of those that there are."""
        if word.value in known:
            return True
        near = get_close_matches(word.value.lower(), known, 1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(sorted(known)) or 'none'}."
        self.refuse(word, f"'{word.value}' is no known {kind}", hint, self._word)
        return False

    def words(self, node: yaml.Node, *, empty: bool = False) -> list[yaml.ScalarNode]:
        """A word, or a list of different words."""
        if isinstance(node, yaml.ScalarNode) and node.tag == STRING:
            return [node]
        if not isinstance(node, yaml.SequenceNode) or node.tag != LIST or not (node.value or empty):
            self.refuse(node, "This is neither a word nor a list of words", "Write: [get, search]")
            return []
        found: dict[str, yaml.ScalarNode] = {}
        for item in node.value:
            if not isinstance(item, yaml.ScalarNode) or item.tag != STRING:
                self.refuse(item, "This is not a word", "Use a plain word.")
            elif item.value in found:
                self.refuse(item, f"'{item.value}' is listed twice", "Keep one.")
            else:
                found[item.value] = item
        return list(found.values())

    def pairs(self, node: yaml.Node, known: Collection[str] = ()) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Each key with its value; a key that is no word, unknown or given before is reported and left out."""
        if not isinstance(node, yaml.MappingNode) or node.tag != MAPPING:
            self.refuse(node, "This is not a mapping", self._example)
            return
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != STRING:
                self.refuse(key, "This key is not a word", "Use a plain word.")
            elif known and key.value not in known:
                self.refuse(key, f"'{key.value}' is not known here", f"Known: {', '.join(known)}.")
            elif key.value in seen:
                self.refuse(key, f"'{key.value}' is given twice", f"Keep one; the first is at line {seen[key.value]}.")
            else:
                seen[key.value] = place_of(key)[0]
                yield key, value

    def refuse(self, node: yaml.Node, message: str, hint: str, rule: LintRule | None = None) -> None:
        """Report what is wrong with a node; of another kind than the form, if ``rule`` says so."""
        self._find(*place_of(node), rule or self._syntax, message, hint)

    def _find(self, line: int, column: int, rule: LintRule, message: str, hint: str) -> None:
        self.findings.append(rule.at(self._file, line, column, message, hint))
        if len(self.findings) == FINDINGS_AT_MOST:
            self.findings.append(too_many(self._file, line))
            raise TooMany


def place_of(node: yaml.Node) -> tuple[int, int]:
    """Line and column, counted from 1."""
    return node.start_mark.line + 1, node.start_mark.column + 1


def _repeated(root: yaml.Node) -> yaml.Node | None:
    """A node that stands in more than one place, by an alias: a few of these can spell out billions of words."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            return node
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [each for pair in node.value for each in pair]
    return None
