"""Query parameters as the JSON document that they stand for, so that they are held to the same model as strictly.

A parameter that is a text in the model is the text itself; any other (a number, a filter) is written as JSON. Knows no
request and no entity.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from types import NoneType
from typing import Any, get_args
from uuid import UUID

from pydantic import BaseModel

from actions.errors import BadRequest

_BARE = (str, UUID, datetime)


def document(model: type[BaseModel], parameters: Mapping[str, str]) -> bytes:
    """Raises ``BadRequest`` where an object is no JSON; whatever else is wrong, the model will say."""
    kinds = _kinds(model)
    return json.dumps({name: _read(name, text, kinds.get(name, _BARE)) for name, text in parameters.items()}).encode()


def _read(name: str, text: str, kinds: tuple[type, ...]) -> object:
    if all(issubclass(kind, _BARE) for kind in kinds):
        return text
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        if any(issubclass(kind, BaseModel) for kind in kinds):
            raise BadRequest(f"The parameter `{name}` is not JSON.", reason=f"malformed-{name}") from None
        return text  # no number, then, and the model says so at its place


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A name given twice would lose one of its conditions in silence."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name is given twice in one object")
    return members


@lru_cache(maxsize=256)
def _kinds(model: type[BaseModel]) -> Mapping[str, tuple[type, ...]]:
    """The types that each field may have, None apart."""
    return {name: tuple(_members(info.annotation)) for name, info in model.model_fields.items()}


def _members(annotation: Any) -> Iterator[type]:
    if not (inner := get_args(annotation)):
        if annotation is not NoneType:
            yield annotation
    elif isinstance(annotation, type) or not hasattr(annotation, "__metadata__"):
        for kind in inner:
            yield from _members(kind)
    else:  # Annotated: what follows the type is no type
        yield from _members(inner[0])
