"""Every field that takes any text at all is marked as personal or secret, or it is said here why it is neither.

What is not marked stands in the audit log in the open, for good.
"""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from actions.entities import ALL_SPECS
from actions.model import marks
from actions.query import Filter, Operators
from actions.vocabulary import CREATE, UPDATE

UNDERSTOOD = "recorded as it is understood, or under seal where it is no word"
WHY_NOT = {
    "domain": {
        "description": "says what a domain is for; who writes of people writes in a user's own",
        "integration_id": "what another system calls the same domain",
        "allowed_vfolder_hosts": "names of machines, and what may be done with them",
        "allowed_docker_registries": "names of machines",
    },
    "project": {
        "description": "says what a project is for; who writes of people writes in a user's own",
        "integration_id": "what another system calls the same project",
        "allowed_vfolder_hosts": "names of machines, and what may be done with them",
        "allowed_docker_registries": "names of machines",
    },
    "keypair": {"keypair_id": "the server's own count of what was used, by id"},
    "policy": {
        "reason": "why the policy was changed, by somebody who is named: it is kept as evidence",
        "files": "rules: recorded is how many files there were, and their digest",
        "action": UNDERSTOOD,
        "name": UNDERSTOOD,
        "scope": UNDERSTOOD,
        "type": UNDERSTOOD,
        "id": UNDERSTOOD + ": of a resource; a subject's is marked",
        "roles": UNDERSTOOD,
        "token": "a page's own; it is not recorded",
        "digest": "of files",
        "before": "a digest",
        "signature": "of a digest",
        **dict.fromkeys(
            (
                *("shadow", "active", "active_rule", "candidate_rule", "entity", "operation"),
                "last_principal",
            ),
            "the server's own count of what it has recorded already",
        ),
    },
    "audit_partition": {"archive": "a folder on the machine, named by whoever runs it"},
}
EVERYWHERE = {"order": "names of fields; whatever else stands there is refused, and is under seal where it is no word"}
"""In every search."""


def test_every_free_text_is_marked_or_has_a_reason() -> None:
    found: dict[str, set[str]] = {}
    for spec in ALL_SPECS:
        for model in _models(spec.input):
            if not issubclass(model, Filter | Operators):
                found.setdefault(spec.entity.name, set()).update(set(_free(model)) - EVERYWHERE.keys())
    assert {entity: names for entity, names in found.items() if names} == {
        entity: set(reasons) for entity, reasons in WHY_NOT.items()
    }


def test_what_is_marked_where_it_is_asked_is_marked_where_it_is_kept() -> None:
    """A change is told by the marks of what is shown."""
    seen = set()
    for spec in ALL_SPECS:
        if spec.operation in (CREATE, UPDATE):
            output: type[BaseModel] = spec.output
            given: type[BaseModel] = spec.input
            shown, asked = marks(output), marks(given)
            common = asked.keys() & output.model_fields.keys()
            assert {name: shown.get(name) for name in common} == {name: asked[name] for name in common}, spec.name
            seen |= {(spec.entity.name, name) for name in common}
    assert ("user", "description") in seen


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for info in annotation.model_fields.values():
            yield from _models(info.annotation)
    for inner in get_args(annotation):
        yield from _models(inner)


def _free(model: type[BaseModel]) -> Iterator[str]:
    marked, shown = marks(model), model.model_json_schema()
    for name, info in model.model_fields.items():
        if name not in marked and _is_free(shown["properties"][info.alias or name]):
            yield name


def _is_free(shown: Any) -> bool:
    """Whether a part of a schema takes a text of no form: its pattern forbids one character at most."""
    if isinstance(shown, list):
        return any(map(_is_free, shown))
    if not isinstance(shown, dict):
        return False
    if shown.get("type") == "string":
        return "\\x00" in shown.get("pattern", "\\x00") and not shown.keys() & {"format", "enum", "const"}
    return any(_is_free(inner) for name, inner in shown.items() if name not in ("default", "description", "title"))
