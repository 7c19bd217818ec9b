"""Reading ``model.conf``: Casbin reads it too, so it must be one of the shapes that the index knows to imitate.

The text is compared, not interpreted: a shape that is not listed here is an error that says so.
"""

from dataclasses import dataclass

from actions.authorization.linting.of_declarations import (
    MODEL_BRACKET,
    MODEL_LINE,
    MODEL_MISSING,
    MODEL_TWICE,
    MODEL_UNKNOWN,
)
from actions.authorization.linting.rule import LintRule
from actions.authorization.rules import Finding

FILE = "model.conf"

_FIXED = {
    ("request_definition", "r"): "sub, scope, obj, act",
    ("policy_definition", "p"): "sub, scope, obj, act, eft",
    ("role_definition", "g"): "_, _",
}
_EFFECTS = {
    "some(where (p.eft == allow)) && !some(where (p.eft == deny))": True,
    "some(where (p.eft == allow))": False,
}
_MATCHERS = {
    'g(r.sub, p.sub) && (p.scope == "*" || r.scope == p.scope)'
    ' && (p.obj == "*" || r.obj == p.obj) && (p.act == "*" || r.act == p.act)': True,
    "g(r.sub, p.sub) && r.scope == p.scope && r.obj == p.obj && r.act == p.act": False,
}
_EFFECT_KEY, _MATCHER_KEY = ("policy_effect", "e"), ("matchers", "m")
_PLACES = {*_FIXED, _EFFECT_KEY, _MATCHER_KEY}
_SECTIONS = {section for section, _ in _PLACES}
_PAIRS = {")": "(", "]": "[", "}": "{"}
_FINDINGS_AT_MOST = 100


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the model lets rules say."""

    denies: bool = True
    wildcards: bool = True


def read_model(text: str) -> tuple[ModelShape, list[Finding]]:
    """The shape of a model file, and what is wrong with it. With findings the shape means nothing."""
    findings: list[Finding] = []
    values: dict[tuple[str, str], tuple[str, int]] = {}
    headers: dict[str, int] = {}

    def refuse(kind: LintRule, line: int, column: int, message: str, hint: str) -> None:
        if len(findings) < _FINDINGS_AT_MOST:
            findings.append(kind.at(FILE, line, column, message, hint))

    def known(place: tuple[str, str], shapes: dict[str, bool]) -> bool:
        section, key = place
        if place not in values:
            message = f"[{section}] {key} is not defined"
            refuse(MODEL_MISSING, headers.get(section, last), 1, message, f"Write: {key} = {next(iter(shapes))}")
            return True
        value, number = values[place]
        if value not in shapes and number not in unbalanced:
            hint = "Known: " + " or ".join(f"'{key} = {shape}'" for shape in shapes)
            refuse(MODEL_UNKNOWN, number, 1, f"'{key}' is not a shape that Chamberlain knows", hint)
        return shapes.get(value, True)

    section, last, unbalanced = "", 1, set[int]()
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(" ")
        if not line or line.startswith("#"):
            continue
        last = number
        if (column := _unbalanced(raw)) is not None:
            unbalanced.add(number)
            message = f"The bracket {raw[column - 1]} has no other half"
            refuse(MODEL_BRACKET, number, column, message, "Balance it, or use the shipped model.conf.")
        if "=" not in line and line.strip("[]") in _SECTIONS:
            section = line.strip("[]")
            headers[section] = number
            continue
        key, equals, value = (part.strip(" ") for part in line.partition("="))
        place = (section, key)
        if not equals or place not in _PLACES:
            message = f"'{line[:80]}' is no line of a known model"
            refuse(MODEL_LINE, number, len(raw) - len(raw.lstrip(" ")) + 1, message, "Use the shipped model.conf.")
        elif place in values:
            first = values[place][1]
            refuse(MODEL_TWICE, number, 1, f"'{key}' is defined twice", f"Keep one; the first is at line {first}.")
        else:
            values[place] = (value, number)

    for place, value in _FIXED.items():
        known(place, {value: True})
    return ModelShape(denies=known(_EFFECT_KEY, _EFFECTS), wildcards=known(_MATCHER_KEY, _MATCHERS)), findings


def _unbalanced(line: str) -> int | None:
    """The column of the first bracket without its other half."""
    opened: list[int] = []
    for column, character in enumerate(line, 1):
        if character in _PAIRS.values():
            opened.append(column)
        elif character in _PAIRS and (not opened or line[opened.pop() - 1] != _PAIRS[character]):
            return column
    return opened[0] if opened else None
