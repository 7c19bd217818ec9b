"""What a stream is made of: parts, each with the things that it tells of and the marks from which a reader goes on.

No transport here: a surface makes events of it.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from pydantic import BaseModel, Field

from actions.model import Output

Item = TypeVar("Item", bound=BaseModel)
AFTER = "after"
"""The input field of a stream that says after which mark it begins."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stream has come, for the record of its end.

    ``records`` is how many records of the log its reader was sent, where that is what it sends; ``last`` the index of
    the last of them. ``complete``: whoever leaves now has had all that was asked for; of what has no end, always.
    """

    complete: bool
    records: int | None = None
    last: int | None = None


class Part(Output, Generic[Item]):
    """What a stream sends at once. A part without items says how far it has come."""

    items: list[Item]
    marks: list[str] = Field(description="Of each item: who has had it goes on after this.")
    mark: str = Field(description="Who has had the whole part goes on after this.")


def item_of(part: type[BaseModel]) -> type[BaseModel]:
    """The model of the things in a part."""
    (found,) = part.__pydantic_generic_metadata__["args"]
    return cast(type[BaseModel], found)
