"""From pydantic models to GraphQL types, so that both surfaces take and give the same things.

An output is the model's JSON with its names in camelCase; an input is read by the model itself, inside the pipeline.
So a type here says only what GraphQL has words for: lengths, patterns and ranges stay with the model. What it has no
word for is ``JSON``. No model is touched: each gets a Strawberry class beside it. This module knows no entity.
"""

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, NewType, Self, Union, get_args, get_origin
from uuid import UUID

import strawberry
from pydantic import BaseModel, SecretStr, TypeAdapter
from pydantic.fields import FieldInfo
from strawberry.annotation import StrawberryAnnotation
from strawberry.types.arguments import StrawberryArgument
from strawberry.types.field import StrawberryField
from strawberry.types.scalar import ScalarDefinition

from server.http.names import public_name

Long = NewType("Long", int)
Moment = NewType("Moment", str)
Json = NewType("Json", object)

_NARROW = 2**31
_WIDE = 2**63
_RESERVED = ("Int", "Float", "String", "Boolean", "ID", "Long", "DateTime", "JSON")
_LISTS = (list, set, frozenset, tuple, Sequence)
_MAPPINGS = (dict, Mapping)
_PLAIN: Mapping[object, object] = {
    bool: bool,
    float: float,
    str: str,
    SecretStr: str,
    UUID: strawberry.ID,
    datetime: Moment,
    dict: Json,
}
_JSON_SCHEMA_TYPES = {"string": str, "integer": Long, "number": float, "boolean": bool}


class SchemaError(RuntimeError):
    """The declarations make no GraphQL schema; the message says which of them."""


@dataclass(frozen=True)
class Names:
    """How an input's fields are called in its model, by their GraphQL names; and the names below them."""

    keys: dict[str, tuple[str, "Names | None"]] = field(default_factory=dict)

    def to_model(self, value: object) -> object:
        """A value from GraphQL under the model's names."""
        if isinstance(value, dict):
            return {key: below.to_model(part) if below else part for key, below, part in self._pairs(value)}
        return [self.to_model(part) for part in value] if isinstance(value, list) else value

    def _pairs(self, value: dict[str, object]) -> list[tuple[str, "Names | None", object]]:
        return [(*self.keys[name], part) for name, part in value.items()]

    def pointer(self, pointer: str) -> str:
        """A JSON pointer into the model's input as a pointer into what GraphQL was given."""
        told, names = "", self
        for part in pointer.split("/")[1:]:
            found = next((pair for pair in names.keys.items() if pair[1][0] == part), None)
            if found is not None:
                part, names = found[0], found[1][1] or Names()
            told += f"/{part}"
        return told


class Types:
    """The GraphQL types made so far, by what they were made from."""

    def __init__(self) -> None:
        self._outputs: dict[type, type] = {}
        self._inputs: dict[type, tuple[type, Names]] = {}
        self._enums: dict[type, type] = {}
        self._taken = set(_RESERVED)

    def output(self, model: type[BaseModel]) -> type:
        if model not in self._outputs:
            made = self._outputs[model] = self.new(name_of(model), _sentence(model))
            self.fill(
                made,
                *(
                    output_field(name, self.annotation(info.annotation, model, info.metadata, None), info.description)
                    for name, info in model.model_fields.items()
                ),
                *(
                    output_field(name, self.annotation(info.return_type, model, (), None), info.description)
                    for name, info in model.model_computed_fields.items()
                ),
            )
        return self._outputs[model]

    def input(self, model: type[BaseModel]) -> tuple[type, Names]:
        """An input type with the names of its fields. One that has no fields is of no use to GraphQL."""
        if model not in self._inputs:
            name = name_of(model)
            made = self.new(f"{name}Input" if model in self._outputs else name, _sentence(model), is_input=True)
            names = Names()
            self._inputs[model] = made, names
            for key, info in model.model_fields.items():
                below: list[Names] = []
                shape: Any = self.annotation(info.annotation, model, info.metadata, below)
                if not info.is_required():
                    shape = shape | None
                told = camel_case(key.rstrip("_"))
                names.keys[told] = (info.alias or key, below[0] if below else None)
                self.fill(made, input_field(told, shape, _described(info)))
        return self._inputs[model]

    def enum(self, kind: type[Enum]) -> type:
        """Its members in UPPER_SNAKE. The class itself stays as it is: this is one of GraphQL's own."""
        if kind not in self._enums:
            members = {member.name.upper(): member.value for member in kind}
            self._enums[kind] = self.words(kind.__name__, members)
        return self._enums[kind]

    def words(self, name: str, members: Mapping[str, str]) -> type:
        """An enum of its own, from its members' names and values."""
        kind: Any = StrEnum  # its functional form is beyond type checkers
        made: type = strawberry.enum(kind(name, members), name=self._take(name))
        return made

    def new(self, name: str, description: str | None = None, *, is_input: bool = False) -> type:
        """An empty type, to be filled. Raises ``SchemaError`` when the name is taken."""
        made: type = types.new_class(self._take(name))
        decorate: Any = strawberry.input if is_input else strawberry.type
        return decorate(made, name=name, description=description)  # type: ignore[no-any-return]

    def fill(self, made: type, *fields: StrawberryField) -> None:
        made.__strawberry_definition__.fields.extend(fields)  # type: ignore[attr-defined]

    def annotation(
        self, annotation: object, owner: type[BaseModel] | None, metadata: Sequence[object], below: list[Names] | None
    ) -> object:
        """What Strawberry is told of a field's type. ``below`` is None for an output; an input's gets its names."""
        origin, arguments = get_origin(annotation), get_args(annotation)
        if annotation is Self:
            assert owner is not None  # noqa: S101
            annotation = owner
        if origin is Annotated:
            return self.annotation(arguments[0], owner, (*metadata, *arguments[1:]), below)
        if origin in (Union, types.UnionType):
            members = [member for member in arguments if member is not type(None)]
            shape: Any = self.annotation(members[0], owner, metadata, below) if len(members) == 1 else Json
            return shape | None if len(members) < len(arguments) else shape
        if origin in _LISTS and arguments:
            item: Any = self.annotation(arguments[0], owner, (), below)
            return list[item]
        if origin in _MAPPINGS:
            return Json
        if origin is Literal:
            kinds = {type(value) for value in arguments}
            return self.annotation(kinds.pop(), owner, (), below) if len(kinds) == 1 else Json
        return self._named(annotation, metadata, below)

    def _named(self, annotation: object, metadata: Sequence[object], below: list[Names] | None) -> object:
        if annotation is Any or annotation is object:  # null is anything, too
            nothing: Any = Json
            return nothing | None
        if annotation is int:
            return int if _is_narrow(metadata) else Long
        if annotation in _PLAIN:
            return _PLAIN[annotation]
        if not isinstance(annotation, type):
            raise SchemaError(f"GraphQL has no type for {annotation!r}")
        if issubclass(annotation, Enum):
            return self.enum(annotation)
        if not issubclass(annotation, BaseModel):
            schema = TypeAdapter(annotation).json_schema(mode="serialization")
            return _JSON_SCHEMA_TYPES.get(schema.get("type", ""), Json)
        if not annotation.model_fields:  # GraphQL has no word for an object without fields
            return Json
        if below is None:
            return self.output(annotation)
        made, names = self.input(annotation)
        below.append(names)
        return made

    def _take(self, name: str) -> str:
        if name in self._taken:
            raise SchemaError(f"two types want to be called {name}")
        self._taken.add(name)
        return name


def camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def name_of(model: type[BaseModel]) -> str:
    return public_name(model.__name__)


def output_field(name: str, annotation: object, description: str | None = None) -> StrawberryField:
    return StrawberryField(name, camel_case(name), StrawberryAnnotation(annotation), description=description)


def input_field(name: str, annotation: object, description: str | None = None) -> StrawberryField:
    return StrawberryField(name, name, StrawberryAnnotation(annotation), description=description)


def argument(name: str, annotation: object, description: str | None = None) -> StrawberryArgument:
    return StrawberryArgument(name, name, StrawberryAnnotation(annotation), description=description)


def _sentence(model: type[BaseModel]) -> str | None:
    """A model's own description. That of a base says nothing of it."""
    told = model.__dict__.get("__doc__")
    return " ".join(told.split()) if told else None


def _described(info: FieldInfo) -> str | None:
    default = None if info.is_required() or info.default_factory else info.default
    if isinstance(default, Enum):
        default = default.name.upper()
    unsaid = (
        None
        if default in (None, "")
        else f"If unsaid: {str(default).lower() if default in (True, False) else default}."
    )
    return " ".join(part for part in (info.description, unsaid) if part) or None


def _is_narrow(metadata: Sequence[object]) -> bool:
    """Whether a number is bounded on both sides to what GraphQL's own Int can hold."""
    flat = [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else (item,))]
    low = [
        bound for item in flat for bound in (getattr(item, "ge", None), getattr(item, "gt", None)) if bound is not None
    ]
    high = [
        bound for item in flat for bound in (getattr(item, "le", None), getattr(item, "lt", None)) if bound is not None
    ]
    return bool(low and high) and max(low) >= -_NARROW and min(high) < _NARROW


def _long(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -_WIDE <= value < _WIDE:
        raise TypeError("is no whole number of 64 bits")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("is no text")
    return value


def _same(value: object) -> object:
    return value


SCALARS: Mapping[object, ScalarDefinition] = {
    Long: strawberry.scalar(name="Long", description="A whole number of 64 bits.", serialize=_long, parse_value=_long),
    Moment: strawberry.scalar(
        name="DateTime",
        description="A time as in RFC 3339, with its zone: `2026-11-23T08:00:00Z`.",
        serialize=_text,
        parse_value=_text,
    ),
    Json: strawberry.scalar(
        name="JSON", description="Any JSON value, under its own names.", serialize=_same, parse_value=_same
    ),
}
