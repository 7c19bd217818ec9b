"""Reading ``tests/*.yaml``: tables of what the policy is meant to allow, whom, and where.

A table is the whole product of its principals, its scopes and all their actions; what it does not list is meant to be
denied. This module asks no policy what it says.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import yaml

from actions.authorization.answers import Verdict
from actions.authorization.linting.of_cases import CASE_CONTRADICTION, CASE_SIZE, CASE_SYNTAX, CASE_WORD
from actions.authorization.rules import ANY, Cells, Finding
from actions.authorization.source import PolicySource
from actions.authorization.texts import read_text
from actions.authorization.yaml_reader import LIST, STRING, TooMany, YamlReader, place_of
from actions.vocabulary import Permission, ScopeType, Vocabulary

ALL = "all"

_NAME = re.compile(r"[a-z][a-z0-9_-]*\Z")
_FILE_KEYS = ("principals", "tables")
_TABLE_KEYS = ("law", "principals", "scopes", "entities", "allow", "deny")
_BYTES_AT_MOST = 256 * 1024
_ANSWERS_AT_MOST = 250_000
"""How many answers all tables together may ask for: a few lines of YAML could ask for billions."""
_EXAMPLE = "Write: {law: Members see it., principals: [member], scopes: [domain], allow: {domain: [get]}}"


class Expected(StrEnum):
    """What a case wants to hear. ``REFUSE``: no allow, be it by a deny or because nothing speaks of it; ``DENY``: by a
    rule that denies it, whatever else is held."""

    ALLOW = "allow"
    REFUSE = "refuse"
    DENY = "deny"

    def met_by(self, verdict: Verdict) -> bool:
        match self:
            case Expected.ALLOW:
                return verdict is Verdict.ALLOW
            case Expected.REFUSE:
                return verdict is not Verdict.ALLOW
            case Expected.DENY:
                return verdict is Verdict.DENY


class Wanted(NamedTuple):
    """What is expected of a cell, and the place that says so: its word, or what should have listed it."""

    expected: Expected
    line: int
    column: int


class Principal(NamedTuple):
    """Somebody for whom these roles count, in the place that is asked about."""

    name: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Table:
    """One law: of each of its principals the same is expected, cell by cell."""

    file: str
    line: int
    law: str
    principals: tuple[Principal, ...]
    wanted: Mapping[Permission, Wanted]

    @property
    def size(self) -> int:
        """How many answers it asks for."""
        return len(self.principals) * len(self.wanted)


def read_cases(
    source: PolicySource, roles: Collection[str], vocabulary: Vocabulary
) -> tuple[tuple[Table, ...], tuple[Finding, ...]]:
    """Every table of a policy, in the order of the files, and what is wrong with them. Never raises."""
    tables: list[Table] = []
    findings: list[Finding] = []
    cells, asked = Cells(vocabulary), 0
    for file in source.case_files:
        content = source.files[file]
        if len(content) > _BYTES_AT_MOST:
            hint = "Make two files of it."
            message = "A file of cases is at most 256 KiB large"
            findings.append(CASE_SIZE.at(file, 1, 1, message, hint))
            continue
        text, found = read_text(file, content)
        findings += found
        if text is None:
            continue
        reader = _Reader(file, roles, cells)
        for table in reader.tables(text):
            asked += table.size
            if asked > _ANSWERS_AT_MOST:
                message = f"With this table the cases ask for more than {_ANSWERS_AT_MOST:,} answers"
                hint = "Name fewer principals, or the entities that it is about."
                findings += reader.findings
                findings.append(CASE_SIZE.at(file, table.line, 1, message, hint))
                return tuple(tables), tuple(findings)
            tables.append(table)
        findings += reader.findings
    return tuple(tables), tuple(findings)


class _Reader(YamlReader):
    """One file. What it cannot understand it reports and leaves out."""

    def __init__(self, file: str, roles: Collection[str], cells: Cells) -> None:
        super().__init__(file, CASE_SYNTAX, CASE_WORD, _EXAMPLE)
        self._roles = roles
        self._cells = cells
        self._principals: dict[str, frozenset[str]] = {role: frozenset((role,)) for role in roles}

    def tables(self, text: str) -> Iterator[Table]:
        try:
            root = self.root(text, "The file states no case", "Write a table, or remove the file.")
            given = {key.value: value for key, value in self.pairs(root, _FILE_KEYS)} if root else {}
            if "principals" in given:
                self._declare(given["principals"])
            if "tables" in given:
                yield from self._each_table(given["tables"])
            elif isinstance(root, yaml.MappingNode):
                self.refuse(root, "There are no 'tables'", _EXAMPLE)
        except TooMany:
            return

    def _declare(self, node: yaml.Node) -> None:
        """The file's own principals: those for whom other roles count than one."""
        for key, value in self.pairs(node):
            if key.value in self._roles:
                self.refuse(key, f"'{key.value}' is a role, and a principal by its own name", "Choose another name.")
            elif key.value == ALL or not _NAME.match(key.value):
                self.refuse(
                    key, f"'{key.value}' is not a principal's name", "Use lower-case letters, digits, '_' and '-'."
                )
            else:
                self._principals[key.value] = frozenset(
                    word.value for word in self.words(value, empty=True) if self.known(word, "role", self._roles)
                )

    def _each_table(self, node: yaml.Node) -> Iterator[Table]:
        if not isinstance(node, yaml.SequenceNode) or node.tag != LIST or not node.value:
            self.refuse(node, "'tables' is not a list of tables", _EXAMPLE)
            return
        for item in node.value:
            before = len(self.findings)
            given = {key.value: value for key, value in self.pairs(item, _TABLE_KEYS)}
            if len(self.findings) == before:
                table = self._table(item, given)
                if table is not None:
                    yield table

    def _table(self, item: yaml.Node, given: Mapping[str, yaml.Node]) -> Table | None:
        missing = [key for key in ("law", "principals", "scopes") if key not in given]
        if missing:
            self.refuse(item, f"This table has no '{missing[0]}'", _EXAMPLE)
            return None
        law = given["law"]
        if not isinstance(law, yaml.ScalarNode) or law.tag != STRING or not law.value.strip().endswith("."):
            self.refuse(law, "The law is no sentence", "Say in one sentence, with a full stop, what the table holds.")
            return None
        principals = tuple(
            Principal(word.value, self._principals[word.value])
            for word in self.words(given["principals"])
            if self.known(word, "principal", self._principals)
        )
        scopes = [word.value for word in self.words(given["scopes"]) if self.known(word, "scope type", list(ScopeType))]
        claimed = frozenset[Permission]().union(*(self._cells.of(scope, ANY, ANY) for scope in scopes))
        if not scopes or not principals:
            return None
        if "entities" in given:
            words = self.words(given["entities"])
            entities = {word.value for word in words if self._entity(word, claimed)}
            claimed = frozenset(cell for cell in claimed if cell.entity in entities)
        line, column = place_of(item)
        wanted = {cell: Wanted(Expected.REFUSE, line, column) for cell in claimed}
        denied = self._listed(given["deny"], Expected.DENY, claimed, wanted) if "deny" in given else {}
        allowed = self._listed(given["allow"], Expected.ALLOW, claimed, wanted) if "allow" in given else {}
        for cell in sorted(denied.keys() & allowed.keys(), key=str):
            if _is_all(allowed[cell]) == _is_all(denied[cell]):  # what is named is an exception from all
                message = f"{cell} is both allowed and denied here"
                self.refuse(denied[cell], message, "Keep one.", CASE_CONTRADICTION)
            del (allowed if _is_all(allowed[cell]) else denied)[cell]
        wanted |= {cell: Wanted(Expected.ALLOW, *place_of(node)) for cell, node in allowed.items()}
        wanted |= {cell: Wanted(Expected.DENY, *place_of(node)) for cell, node in denied.items()}
        return Table(self._file, line, " ".join(law.value.split()), principals, wanted)

    def _listed(
        self,
        node: yaml.Node,
        expected: Expected,
        claimed: frozenset[Permission],
        wanted: dict[Permission, Wanted],
    ) -> dict[Permission, yaml.Node]:
        """The cells of an ``allow`` or a ``deny``, each with what lists it. What an entity's list leaves out gets that
        list as its place in ``wanted``: there somebody would look for it."""
        if _is_all(node):
            return dict.fromkeys(claimed, node)
        listed: dict[Permission, yaml.Node] = {}
        for key, value in self.pairs(node):
            if not self._entity(key, claimed):
                continue
            of_entity = [cell for cell in claimed if cell.entity == key.value]
            if _is_all(value):
                listed |= dict.fromkeys(of_entity, value)
                continue
            for word in self.words(value):
                found = [cell for cell in of_entity if cell.operation == word.value]
                self.known(word, f"action of '{key.value}' here", {cell.operation for cell in of_entity})
                listed |= dict.fromkeys(found, word)
            if expected is Expected.ALLOW:
                place = place_of(key)
                wanted.update({cell: Wanted(Expected.REFUSE, *place) for cell in of_entity})
        return listed

    def _entity(self, word: yaml.ScalarNode, claimed: frozenset[Permission]) -> bool:
        return self.known(word, "object of this table's scopes", {cell.entity for cell in claimed})


def _is_all(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == STRING and node.value == ALL
