"""The bases of every input and output model, and the two marks a field can carry: personal and secret.

Personal fields reach the audit log only sealed under their subject's key; secret fields never reach a log at all.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic_core import CoreSchema

T = TypeVar("T")


class _Mark:
    """A field's confidentiality, carried in its annotation."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


PERSONAL = _Mark("personal")
SECRET = _Mark("secret")


class Input(BaseModel):
    """What a caller sends: unknown fields are errors, values do not change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Output(BaseModel):
    """What a caller receives. Every field is always there."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


class Foreign(Input):
    """What a caller sends by a protocol of others. What is not known may be of a later version, and is ignored."""

    model_config = ConfigDict(extra="ignore")


class Sparse(Output):
    """What such a caller receives: over REST a field that is null is not there."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)


class Nothing(Input):
    """The input of an operation that needs none."""


class Kept(Output):
    """What every kept thing shows. ``version`` grows by one with each change."""

    id: UUID
    created_at: datetime
    updated_at: datetime
    deleted: bool = Field(description="Soft-deleted: hidden from searches, refused every write but restore and purge.")
    version: int


class Shown:
    """Members that a type's JSON schema has besides what follows from its constraints: what a validator refuses, too.

    It stands beside the validator, so that the published schema is as strict as the server.
    """

    def __init__(self, **members: Any) -> None:
        self._members = members

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), **self._members}


class _NotNull:
    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        shown = dict(handler(core))
        kinds = [kind for kind in shown.pop("anyOf") if kind != {"type": "null"}]
        return {**shown, **(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})}


def _refuse_null(value: object) -> object:
    if value is None:
        raise ValueError("cannot be null")
    return value


Unsaid = Annotated[T | None, AfterValidator(_refuse_null), _NotNull()]
"""A field that may be left out, and says nothing then, but takes no null: ``title: Unsaid[Text] = None``."""

NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name that stands in a path: 1 to 64 of ``a-z 0-9 . _ -``, beginning and ending with a letter or digit."""


def _addressable(name: str) -> str:
    if name == "me":
        raise ValueError("is reserved: in a path it stands for the caller")
    return name


ScopeName = Annotated[Name, AfterValidator(_addressable), Shown(**{"not": {"const": "me"}})]
"""The name of something that is a scope."""


def without_nul(text: str) -> str:
    """The database keeps every character but this one."""
    if "\0" in text:
        raise ValueError("holds the character NUL, which cannot be kept")
    return text


WITHOUT_NUL = Shown(pattern=r"^[^\x00]*$")
_Kept = Annotated[str, StringConstraints(max_length=512, strip_whitespace=True), AfterValidator(without_nul)]
Text = Annotated[_Kept, WITHOUT_NUL]
Key = Annotated[_Kept, Field(max_length=64)]
"""A text that names an entry: ``dict[Key, ...]`` with ``KEYS`` beside it, for a schema speaks of names apart."""
KEYS = Shown(propertyNames={"maxLength": 64, "pattern": r"^[^\x00]*$"})

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")
_KEEPABLE = re.compile(r"^(?!0001-01-01.*\+(?!00:00$))(?!9999-12-31.*-(?!00:00$))")
KEEPABLE = Shown(pattern=_KEEPABLE.pattern)
"""A moment is kept in UTC: on the first day there is no zone may be ahead of it, and none behind on the last."""


def as_time(value: object) -> object:
    """A time is written as RFC 3339 has it. (The model by itself would read any digits as seconds since 1970.)"""
    if isinstance(value, str) and _TIME.match(value):
        try:
            moment = datetime.fromisoformat(value.upper())
        except ValueError:
            pass
        else:
            return _keepable(moment, value)
    elif isinstance(value, datetime):
        return _keepable(value, value.isoformat())
    raise ValueError("is no time like 2026-01-31T12:00:00Z")


def _keepable(moment: datetime, text: str) -> datetime:
    if not _KEEPABLE.match(text):
        raise ValueError("cannot be kept: in UTC it may lie before the year 1 or after the year 9999")
    return moment


Time = Annotated[AwareDatetime, BeforeValidator(as_time), KEEPABLE]
"""A moment, with its zone."""


@lru_cache(maxsize=1024)
def marks(model: type[BaseModel]) -> Mapping[str, str]:
    """The confidentiality of each marked field of a model: ``{"email": "personal"}``. A ``SecretStr`` is secret."""
    found: dict[str, str] = {}
    for name, info in model.model_fields.items():
        for item in info.metadata:
            if isinstance(item, _Mark):
                found[name] = item.name
        if "SecretStr" in str(info.annotation):
            found[name] = SECRET.name
    return found
