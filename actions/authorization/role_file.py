"""Reading ``roles.yaml``: which roles there are, where each may be bound, and one sentence about each.

Walks the YAML nodes instead of building objects, so that every mistake has a line and a column, and a key given twice
is a mistake rather than a silent replacement.
"""

import re
from collections.abc import Iterator

import yaml

from actions.authorization.rules import Finding, Role, Severity
from actions.directory import NOBODY_YET, OWNER, SUPERADMIN, SYSTEM_ROLES
from actions.vocabulary import ScopeType

FILE = "roles.yaml"

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_STRING, _BOOLEAN, _LIST, _MAPPING = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "bool", "seq", "map"))
_IMPLICIT = (OWNER, NOBODY_YET)
_NAMED = " and ".join(f"'{name}'" for name in _IMPLICIT)
_TRUE = {"true": True, "false": False}
_KEYS = ("bindable", "sentence", "implicit", "system")
_EXAMPLE = "Write: auditor: {bindable: [admin, domain], sentence: Reads everything and changes nothing.}"


def read_roles(text: str) -> tuple[dict[str, Role] | None, list[Finding]]:
    """The declared roles by name (None when the file is not readable at all), and what is wrong with them."""
    findings: list[Finding] = []
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = f"This is not YAML: {error.problem or error.context}"
        return None, [Finding(FILE, line, column, "roles", Severity.ERROR, message, _EXAMPLE)]
    except (yaml.YAMLError, RecursionError, ValueError):
        return None, [Finding(FILE, 1, 1, "roles", Severity.ERROR, "This is not YAML that can be read", _EXAMPLE)]
    if not isinstance(root, yaml.MappingNode) or root.tag != _MAPPING:
        return None, [Finding(FILE, 1, 1, "roles", Severity.ERROR, "This is not a mapping of roles", _EXAMPLE)]

    roles: dict[str, Role] = {}
    for key, value in _pairs(root, findings):
        if not _NAME.match(key.value):
            _refuse(findings, key, f"'{key.value}' is not a role's name", "Use lower-case letters, digits and '_'.")
        roles[key.value] = _role(key, value, findings)
    for name in (SUPERADMIN, *_IMPLICIT, *SYSTEM_ROLES):
        if name not in roles:
            message = f"The role '{name}', which the server itself relies on, is not declared"
            findings.append(Finding(FILE, 1, 1, "roles", Severity.ERROR, message, "Declare it; it may have no rules."))
    return roles, findings


def _role(key: yaml.ScalarNode, value: yaml.Node, findings: list[Finding]) -> Role:
    name = key.value
    line, column = key.start_mark.line + 1, key.start_mark.column + 1
    if not isinstance(value, yaml.MappingNode) or value.tag != _MAPPING:
        _refuse(findings, value, f"'{name}' is not described by a mapping", _EXAMPLE)
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
                _refuse(findings, given, f"'{attribute.value}' is neither true nor false", "Write true or false.")
        else:
            _refuse(
                findings, attribute, f"'{attribute.value}' is no attribute of a role", f"Known: {', '.join(_KEYS)}."
            )
    if not sentence.endswith("."):
        _refuse(findings, key, f"'{name}' has no sentence", "Say in one sentence, with a full stop, what it is for.")
    if flags["implicit"] != (name in _IMPLICIT):
        _refuse(findings, key, f"only {_NAMED} are implicit, and they always are", "Give other roles 'bindable'.")
    if flags["system"] != (name in SYSTEM_ROLES):
        _refuse(findings, key, "exactly the server's own roles are system roles", f"These: {', '.join(SYSTEM_ROLES)}.")
    if bindable and True in flags.values():
        _refuse(findings, key, f"'{name}' is never bound, yet has 'bindable'", "Remove 'bindable'.")
    if name == SUPERADMIN and bindable != (ScopeType.ADMIN,):
        _refuse(findings, key, f"'{SUPERADMIN}' is bound in the admin scope and nowhere else", "bindable: [admin]")
    return Role(name, sentence, bindable, flags["implicit"], flags["system"], line, column)


def _scopes(node: yaml.Node, findings: list[Finding]) -> tuple[ScopeType, ...]:
    if not isinstance(node, yaml.SequenceNode) or node.tag != _LIST:
        _refuse(findings, node, "'bindable' is not a list", "Write: bindable: [domain]")
        return ()
    found: list[ScopeType] = []
    for item in node.value:
        word = item.value if isinstance(item, yaml.ScalarNode) else None
        if word not in list(ScopeType):
            _refuse(findings, item, f"'{word}' is no scope type", f"Known: {', '.join(ScopeType)}.")
        elif ScopeType(word) in found:
            _refuse(findings, item, f"'{word}' is listed twice", "Keep one.")
        else:
            found.append(ScopeType(word))
    return tuple(found)


def _pairs(node: yaml.MappingNode, findings: list[Finding]) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """Each key with its value; a key that is no string or was given before is reported and left out."""
    seen: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != _STRING:
            _refuse(findings, key, "this key is not a word", "Use a plain word.")
        elif key.value in seen:
            _refuse(
                findings, key, f"'{key.value}' is given twice", f"Keep one; the first is at line {seen[key.value]}."
            )
        else:
            seen[key.value] = key.start_mark.line + 1
            yield key, value


def _refuse(findings: list[Finding], node: yaml.Node, message: str, hint: str) -> None:
    mark = node.start_mark
    findings.append(Finding(FILE, mark.line + 1, mark.column + 1, "roles", Severity.ERROR, message, hint))
