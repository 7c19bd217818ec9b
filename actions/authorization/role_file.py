"""Reading ``roles.yaml``: which roles there are, where each may be bound, and one sentence about each.

Walks the YAML nodes instead of building objects, so that every mistake has a line and a column, and a key given twice
is a mistake rather than a silent replacement.
"""

import re
from collections.abc import Iterator

import yaml

from actions.authorization.linting.of_declarations import (
    GIVEN_TWICE,
    LOOK_ALIKE_ROLE,
    ROLE_ATTRIBUTE,
    ROLE_BINDABLE,
    ROLE_KIND,
    ROLE_MISSING,
    ROLE_NAME,
    ROLE_SENTENCE,
    ROLES_FEATURE,
    ROLES_SYNTAX,
)
from actions.authorization.linting.rule import LintRule
from actions.authorization.rules import Finding, Role
from actions.directory import NOBODY_YET, OWNER, SUPERADMIN, SYSTEM_ROLES
from actions.vocabulary import ScopeType

FILE = "roles.yaml"

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is ten times as fast, and not in every build
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_STRING, _BOOLEAN, _LIST, _MAPPING = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "bool", "seq", "map"))
_IMPLICIT = (OWNER, NOBODY_YET)
_NAMED = " and ".join(f"'{name}'" for name in _IMPLICIT)
_TRUE = {"true": True, "false": False}
_KEYS = ("bindable", "sentence", "implicit", "system")
_EXAMPLE = "Write: auditor: {bindable: [admin, domain], sentence: Reads everything and changes nothing.}"
_DEPTH_AT_MOST = 8
"""Three levels mean something here."""
_ALIKE = (("rn", "m"), ("vv", "w"), ("0", "o"), ("1", "l"), ("i", "l"), ("5", "s"), ("_", ""))


def read_roles(text: str) -> tuple[dict[str, Role] | None, list[Finding]]:
    """The declared roles by name (None when the file is not readable at all), and what is wrong with them."""
    findings: list[Finding] = []
    try:
        unplain = _unplain(text)
        if unplain is not None:
            return None, [unplain]
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = _inside(text, mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = f"This is not YAML: {error.problem or error.context}"
        return None, [ROLES_SYNTAX.at(FILE, line, column, message, _EXAMPLE)]
    except (yaml.YAMLError, RecursionError, ValueError):
        return None, [ROLES_SYNTAX.at(FILE, 1, 1, "This is not YAML that can be read", _EXAMPLE)]
    if not isinstance(root, yaml.MappingNode) or root.tag != _MAPPING:
        return None, [ROLES_SYNTAX.at(FILE, 1, 1, "This is not a mapping of roles", _EXAMPLE)]

    roles: dict[str, Role] = {}
    for key, value in _pairs(root, findings):
        if not _NAME.match(key.value):
            hint = "Use lower-case letters, digits and '_'."
            _refuse(findings, ROLE_NAME, key, f"'{key.value}' is not a role's name", hint)
        roles[key.value] = _role(key, value, findings)
    for name in (SUPERADMIN, *_IMPLICIT, *SYSTEM_ROLES):
        if name not in roles:
            message = f"The role '{name}', which the server itself relies on, is not declared"
            findings.append(ROLE_MISSING.at(FILE, 1, 1, message, "Declare it; it may have no rules."))
    findings += _alike(roles)
    return roles, findings


def _inside(text: str, line: int, column: int) -> tuple[int, int]:
    """A place as the reader has it. At the end of a text whose last line does not end, libyaml is a line farther."""
    lines = text.split("\n")
    return (line, column) if line <= len(lines) else (len(lines), len(lines[-1]) + 1)


def _unplain(text: str) -> Finding | None:
    """The first thing that lets YAML say something else than it shows, or more than there is room for."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        kind = None
        if isinstance(event, yaml.AliasEvent):
            kind = "An alias"
        elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            kind = "An anchor"
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            kind = "A tag"
        elif isinstance(event, yaml.DocumentStartEvent) and (event.version or event.tags):
            kind = "A directive"
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH_AT_MOST:
            kind = "So deep a list or mapping"
        if kind is not None:
            line, column = (event.start_mark.line, event.start_mark.column) if event.start_mark else (0, 0)
            message, hint = f"{kind} has no place here", "Write out what each role has."
            return ROLES_FEATURE.at(FILE, line + 1, column + 1, message, hint)
    return None


def _role(key: yaml.ScalarNode, value: yaml.Node, findings: list[Finding]) -> Role:
    name = key.value
    line, column = key.start_mark.line + 1, key.start_mark.column + 1
    if not isinstance(value, yaml.MappingNode) or value.tag != _MAPPING:
        _refuse(findings, ROLE_ATTRIBUTE, value, f"'{name}' is not described by a mapping", _EXAMPLE)
        return Role(name, "", line=line, column=column)
    sentence, bindable, flags = "", tuple[ScopeType, ...](), {"implicit": False, "system": False}
    for attribute, given in _pairs(value, findings):
        if attribute.value == "sentence":
            if isinstance(given, yaml.ScalarNode) and given.tag == _STRING:
                sentence = given.value.strip()
        elif attribute.value == "bindable":
            bindable = _scopes(given, findings)
        elif attribute.value in flags:
            if isinstance(given, yaml.ScalarNode) and given.tag == _BOOLEAN and given.value in _TRUE:
                flags[attribute.value] = _TRUE[given.value]
            else:
                message = f"'{attribute.value}' is neither true nor false"
                _refuse(findings, ROLE_KIND, given, message, "Write true or false.")
        else:
            message = f"'{attribute.value}' is no attribute of a role"
            _refuse(findings, ROLE_ATTRIBUTE, attribute, message, f"Known: {', '.join(_KEYS)}.")
    if not sentence.endswith("."):
        hint = "Say in one sentence, with a full stop, what it is for."
        _refuse(findings, ROLE_SENTENCE, key, f"'{name}' has no sentence", hint)
    for message, hint in _wrong_kind(name, bindable, flags["implicit"], flags["system"]):
        _refuse(findings, ROLE_KIND, key, message, hint)
    return Role(name, sentence, bindable, flags["implicit"], flags["system"], line, column)


def _wrong_kind(name: str, bindable: tuple[ScopeType, ...], implicit: bool, system: bool) -> Iterator[tuple[str, str]]:
    if implicit != (name in _IMPLICIT):
        yield f"only {_NAMED} are implicit, and they always are", "Give other roles 'bindable'."
    if system != (name in SYSTEM_ROLES):
        yield "exactly the server's own roles are system roles", f"These: {', '.join(SYSTEM_ROLES)}."
    if bindable and (implicit or system):
        yield f"'{name}' is never bound, yet has 'bindable'", "Remove 'bindable'."
    if name == SUPERADMIN and bindable != (ScopeType.ADMIN,):
        yield f"'{SUPERADMIN}' is bound in the admin scope and nowhere else", "bindable: [admin]"


def _scopes(node: yaml.Node, findings: list[Finding]) -> tuple[ScopeType, ...]:
    if not isinstance(node, yaml.SequenceNode) or node.tag != _LIST:
        _refuse(findings, ROLE_BINDABLE, node, "'bindable' is not a list", "Write: bindable: [domain]")
        return ()
    found: list[ScopeType] = []
    for item in node.value:
        word = item.value if isinstance(item, yaml.ScalarNode) else None
        if word not in list(ScopeType):
            told = "this" if word is None else f"'{word}'"
            _refuse(findings, ROLE_BINDABLE, item, f"{told} is no scope type", f"Known: {', '.join(ScopeType)}.")
        elif ScopeType(word) in found:
            _refuse(findings, ROLE_BINDABLE, item, f"'{word}' is listed twice", "Keep one.")
        else:
            found.append(ScopeType(word))
    return tuple(found)


def _pairs(node: yaml.MappingNode, findings: list[Finding]) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """Each key with its value; a key that is no string or was given before is reported and left out."""
    seen: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != _STRING:
            _refuse(
                findings,
                ROLE_NAME,
                key,
                "this key is not a word",
                "Use a plain word, none that YAML takes for a value.",
            )
        elif key.value in seen:
            hint = f"Keep one; the first is at line {seen[key.value]}."
            _refuse(findings, GIVEN_TWICE, key, f"'{key.value}' is given twice", hint)
        else:
            seen[key.value] = key.start_mark.line + 1
            yield key, value


def _alike(roles: dict[str, Role]) -> Iterator[Finding]:
    """The later of two roles whose names a reader takes for one."""
    seen: dict[str, str] = {}
    for name, role in roles.items():
        look = name
        for one, other in _ALIKE:
            look = look.replace(one, other)
        first = seen.setdefault(look, name)
        if first != name:
            message = f"'{name}' looks like '{first}'"
            yield LOOK_ALIKE_ROLE.at(FILE, role.line, role.column, message, "Give one of them another name.")


def _refuse(findings: list[Finding], kind: LintRule, node: yaml.Node, message: str, hint: str) -> None:
    mark = node.start_mark
    findings.append(kind.at(FILE, mark.line + 1, mark.column + 1, message, hint))
