"""Reading ``model.conf``: Casbin reads it too, so it must be one of the shapes that the index knows to imitate.

The text is compared, not interpreted: a shape that is not listed here is an error that says so.
"""

from dataclasses import dataclass

from actions.authorization.rules import Finding, Severity

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


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the model lets rules say."""

    denies: bool = True
    wildcards: bool = True


def read_model(text: str) -> tuple[ModelShape, list[Finding]]:
    """The shape of a model file, and what is wrong with it. With findings the shape means nothing."""
    findings: list[Finding] = []

    def refuse(line: int, column: int, message: str, hint: str) -> None:
        findings.append(Finding(FILE, line, column, "model", Severity.ERROR, message, hint))

    values: dict[tuple[str, str], tuple[str, int]] = {}
    section = ""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(" ")
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = (part.strip(" ") for part in line.partition("="))
        place = (section, key)
        if not equals or place not in {*_FIXED, _EFFECT_KEY, _MATCHER_KEY}:
            refuse(number, 1, f"'{line}' is no line of a known model", "Use the shipped model.conf.")
        elif place in values:
            refuse(number, 1, f"'{key}' is defined twice", f"Keep one; the first is at line {values[place][1]}.")
        else:
            values[place] = (value, number)

    def known(place: tuple[str, str], shapes: dict[str, bool]) -> bool:
        if place not in values:
            refuse(1, 1, f"[{place[0]}] {place[1]} is not defined", f"Write: {place[1]} = {next(iter(shapes))}")
            return True
        value, number = values[place]
        if value not in shapes:
            refuse(
                number,
                1,
                f"'{place[1]}' is not a shape that Chamberlain knows",
                "Known: " + " or ".join(f"'{place[1]} = {shape}'" for shape in shapes),
            )
        return shapes.get(value, True)

    for place, value in _FIXED.items():
        known(place, {value: True})
    return ModelShape(denies=known(_EFFECT_KEY, _EFFECTS), wildcards=known(_MATCHER_KEY, _MATCHERS)), findings
