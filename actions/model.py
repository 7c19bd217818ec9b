"""The bases of every input and output model, and the two marks a field can carry: personal and secret.

Personal fields reach the audit log only sealed under their subject's key; secret fields never reach a log at all.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


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
    """What a caller receives."""

    model_config = ConfigDict(frozen=True)


class Nothing(Input):
    """The input of an operation that needs none."""


class Kept(Output):
    """What every kept thing shows. ``version`` grows by one with each change."""

    id: UUID
    created_at: datetime
    updated_at: datetime
    deleted: bool = Field(description="Soft-deleted: hidden from searches, refused every write but restore and purge.")
    version: int


NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name that stands in a path: 1 to 64 of ``a-z 0-9 . _ -``, beginning and ending with a letter or digit."""


def _addressable(name: str) -> str:
    if name == "me":
        raise ValueError("is reserved: in a path it stands for the caller")
    return name


ScopeName = Annotated[Name, AfterValidator(_addressable)]
"""The name of something that is a scope."""


def without_nul(text: str) -> str:
    """The database keeps every character but this one."""
    if "\0" in text:
        raise ValueError("holds the character NUL, which cannot be kept")
    return text


Text = Annotated[str, StringConstraints(max_length=512, strip_whitespace=True), AfterValidator(without_nul)]


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
