"""Models as components of the OpenAPI document: JSON Schema 2020-12 under short, stable names.

Names follow ``server.http.names``. Two models of one name stop the program.
Knows no entity and no route.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from server.http.names import public_name

Schema = dict[str, Any]
PREFIX = "#/components/schemas/"
_SERIALIZED: JsonSchemaMode = "serialization"
_VALIDATED: JsonSchemaMode = "validation"


class SchemaError(RuntimeError):
    """Two models would have the same name in the document."""


class Schemas:
    """The components of some models, ``components`` by name, and where each model's own is."""

    def __init__(self, inputs: Iterable[type[BaseModel]], outputs: Iterable[type[BaseModel]]) -> None:
        asked = [(model, _VALIDATED) for model in inputs] + [(model, _SERIALIZED) for model in outputs]
        wanted = list(dict.fromkeys(asked))
        made, told = models_json_schema(wanted, schema_generator=_Generator, ref_template=PREFIX + "{model}")
        definitions: dict[str, Schema] = told.get("$defs", {})
        names = _names(definitions)
        self.components: dict[str, Schema] = {}
        for old, new in sorted(names.items(), key=lambda pair: pair[1]):
            shown = _renamed(definitions[old], names)
            shown.pop("title", None)
            self.components[new] = shown
        self._places = {key: _renamed(made[key], names)["$ref"] for key in wanted}

    def input(self, model: type[BaseModel]) -> Schema:
        return {"$ref": self._places[model, _VALIDATED]}

    def output(self, model: type[BaseModel]) -> Schema:
        return {"$ref": self._places[model, _SERIALIZED]}

    def properties(self, model: type[BaseModel]) -> Mapping[str, Schema]:
        """The schema of each field of an input."""
        shown = self.components[self._places[model, _VALIDATED].removeprefix(PREFIX)]
        properties: Mapping[str, Schema] = shown.get("properties", {})
        return properties


class _Generator(GenerateJsonSchema):
    """Without what says nothing: a title that repeats the field's name, a default that is null."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        shown = super().default_schema(schema)
        if shown.get("default", ...) is None:
            del shown["default"]
        return shown


def _names(definitions: Mapping[str, Schema]) -> dict[str, str]:
    names: dict[str, str] = {}
    for key, shown in definitions.items():
        name = public_name(shown.get("title", key))
        if name in names.values():
            raise SchemaError(f"two models are called {name}; give one of them another name")
        names[key] = name
    return names


def _renamed(shown: Any, names: Mapping[str, str]) -> Any:
    """A schema with its references under the new names."""
    if isinstance(shown, list):
        return [_renamed(member, names) for member in shown]
    if not isinstance(shown, dict):
        return shown
    return {
        key: PREFIX + names[value.removeprefix(PREFIX)] if key == "$ref" else _renamed(value, names)
        for key, value in shown.items()
    }
