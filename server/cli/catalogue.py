"""``chamberlain actions``, ``chamberlain schema``: the catalogue, read from the declarations. Needs neither server nor
database."""

from typing import Any

import typer

from actions.entities import ALL_SPECS
from actions.standard import Spec
from actions.vocabulary import ScopeType
from server.cli.output import CannotRun, Format, show_json, show_table


def show(form: Format, scope: ScopeType | None, entity: str | None) -> None:
    known = {spec.entity.name: spec.entity for spec in ALL_SPECS}
    if entity is not None and entity not in known:
        raise CannotRun(f"there is no entity {entity!r}; there are {', '.join(sorted(known))}")
    chosen = [spec for spec in ALL_SPECS if scope in (None, spec.scope_type) and entity in (None, spec.entity.name)]
    if form is Format.JSON:
        show_json([_told(spec) for spec in chosen])
    else:
        show_table(
            ("action", "route", "permission", "what it does"),
            [(spec.name, _route(spec), str(spec.permission), spec.sentence) for spec in chosen],
        )


def _route(spec: Spec) -> str:
    return "(internal)" if spec.internal else spec.route


def _told(spec: Spec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "scope": spec.scope_type.value,
        "entity": spec.entity.name,
        "operation": spec.operation.word,
        "route": None if spec.internal else spec.route,
        "aliases": [f"{alias.method} {alias.path}" for alias in spec.aliases],
        "permission": str(spec.permission),
        "effect": spec.effect.value,
        "internal": spec.internal,
        "sentence": spec.sentence,
    }


def show_schema() -> None:
    from server.http.graphql.schema import build

    typer.echo(build(ALL_SPECS).sdl, nl=False)
