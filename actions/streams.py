"""What a stream is made of: parts, each with the things that it tells of and the marks from which a reader goes on.

No transport here: a surface makes events of it.
"""

from typing import Generic, TypeVar, cast

from pydantic import BaseModel, Field

from actions.model import Output

Item = TypeVar("Item", bound=BaseModel)
AFTER = "after"
"""The input field of a stream that says after which mark it begins."""


class Part(Output, Generic[Item]):
    """What a stream sends at once. A part without items says how far it has come."""

    items: list[Item]
    marks: list[str] = Field(description="Of each item: who has had it goes on after this.")
    mark: str = Field(description="Who has had the whole part goes on after this.")


def item_of(part: type[BaseModel]) -> type[BaseModel]:
    """The model of the things in a part."""
    (found,) = part.__pydantic_generic_metadata__["args"]
    return cast(type[BaseModel], found)
