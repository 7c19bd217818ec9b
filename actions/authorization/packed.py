"""A compiled policy as bytes, for the way from the process that compiled it to the one that decides by it.

What deciding takes comes first, and is made ready at once. The rules, which are most of it, stay as they came until
somebody wants to see them. Bytes are good for the same program on the same machine, and are never kept.
"""

import base64
import json
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from actions.auditing import AuditPolicy
from actions.authorization.index import PolicyIndex, Verdicts, in_order
from actions.authorization.rules import Role, RoleLink, Rule
from actions.vocabulary import ScopeType, Vocabulary


def pack(index: PolicyIndex) -> bytes:
    """A line of JSON with what decides, and one with the rules."""
    verdicts = index.verdicts
    head = {
        "digest": index.digest,
        "cells": _words(index.vocabulary),
        "roles": [
            [role.name, role.sentence, role.bindable, role.implicit, role.system, role.line, role.column]
            for role in index.roles.values()
        ],
        "links": [[link.role, link.inherits, link.file, link.line, link.column] for link in index.links],
        "deciding": _text(b"".join(column.tobytes() for column in verdicts.deciding)),
        "allows": verdicts.allows,
        "denies": verdicts.denies,
        "files": _text(verdicts.files),
        "lines": _text(verdicts.lines.tobytes()),
        "audit": index.audit.told(),
    }
    rules = [
        [rule.role, rule.scope, rule.entity, rule.operation, rule.effect, rule.file, rule.line, rule.column, rule.text]
        for rule in index.rules
    ]
    return json.dumps(head).encode() + b"\n" + json.dumps(rules).encode()


def unpack(packed: bytes, vocabulary: Vocabulary) -> PolicyIndex:
    """The index again. Raises ``ValueError`` for what is not whole, and for a policy of another vocabulary."""
    first, _, rules = packed.partition(b"\n")
    head: dict[str, Any] = json.loads(first)
    if head["cells"] != _words(vocabulary):
        raise ValueError("the policy was compiled with another vocabulary")
    roles = {name: Role(name, sentence, _scopes(bindable), *rest) for name, sentence, bindable, *rest in head["roles"]}
    lines = _numbers(_bytes(head["lines"]))
    numbers, wide = _numbers(_bytes(head["deciding"])), len(roles)
    deciding = tuple(numbers[start : start + wide] for start in range(0, len(numbers), wide or 1))
    files = _bytes(head["files"])
    allows, denies = tuple(head["allows"]), tuple(head["denies"])
    whole = (len(files), len(allows), len(denies), len(numbers)) == (len(lines), wide, wide, wide * len(vocabulary))
    if not whole:
        raise ValueError("the compiled policy is not whole")
    links = tuple(RoleLink(*fields) for fields in head["links"])
    read_rules: Callable[[], tuple[Rule, ...]] = partial(_rules, rules)
    verdicts = Verdicts(deciding, allows, denies, files, lines)
    audit = AuditPolicy.read(head["audit"], vocabulary)
    return PolicyIndex(head["digest"], vocabulary, roles, links, verdicts, read_rules, audit)


def _rules(packed: bytes) -> tuple[Rule, ...]:
    return tuple(Rule(*fields) for fields in json.loads(packed))


def _words(vocabulary: Vocabulary) -> list[list[str]]:
    return [[cell.scope, cell.entity, cell.operation] for cell in in_order(vocabulary)]


def _scopes(words: Iterator[str]) -> tuple[ScopeType, ...]:
    return tuple(ScopeType(word) for word in words)


def _numbers(content: bytes) -> "array[int]":
    found = array("i")
    found.frombytes(content)
    return found


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
