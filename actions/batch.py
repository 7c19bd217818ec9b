"""Batches: one request that does the same operation to up to a hundred things (law 9).

Here are the models, spelled from those of the operation that is repeated, and what an item's failure means for its
batch. Which specs have a batch beside them is said in ``actions.standard``.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from actions.errors import ChamberlainError, Fault, Invalid, NotFound, seen
from actions.model import Input, Output

MAX_ITEMS = 100
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Mode(StrEnum):
    """``atomic``: all items or none. ``partial``: each for itself; what fails is told beside what is done."""

    ATOMIC = "atomic"
    PARTIAL = "partial"


def _spelled(key: object) -> object:
    """Ids have one spelling; any other names nothing."""
    if isinstance(key, str) and not _ID.fullmatch(key):
        raise ValueError("is not an id")
    return key


class BatchItem(Input):
    """One thing of a batch."""

    id: Annotated[UUID, BeforeValidator(_spelled)]
    version: int | None = Field(
        default=None, ge=1, lt=2**31, description="Where it is given, the thing must have this version."
    )


Change = TypeVar("Change", bound=BaseModel)
ItemT = TypeVar("ItemT", bound=BatchItem)
Result = TypeVar("Result", bound=BaseModel)


class ChangeItem(BatchItem, Generic[Change]):
    """One thing of a batch, and what to change of it."""

    change: Change

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        return f"{params[0].__name__.removesuffix('Change')}BatchUpdateItem"


def _each_once(items: list[ItemT]) -> list[ItemT]:
    first: dict[UUID, int] = {}
    twice = [place for place, item in enumerate(items) if first.setdefault(item.id, place) != place]
    if twice:
        raise Invalid(
            "A thing stands in the batch twice.",
            reason="repeated-item",
            errors=[Fault(f"/items/{place}/id", "stands in the batch already") for place in twice],
        )
    return items


class Batch(Input, Generic[ItemT]):
    """The input of every batch."""

    items: Annotated[list[ItemT], Field(min_length=1, max_length=MAX_ITEMS), AfterValidator(_each_once)]
    mode: Mode = Field(default=Mode.ATOMIC, description="`atomic`: all items or none. `partial`: each item for itself.")

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        return str(params[0].__name__).removesuffix("Item")


class ItemFault(Output):
    """One wrong place: ``pointer`` is a JSON pointer into the whole input of the batch."""

    pointer: str
    message: str


class ItemProblem(Output):
    """Why an item was not done: what the operation on this thing alone would have answered."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[ItemFault] = Field(default_factory=list)


class ItemResult(Output, Generic[Result]):
    """What became of one item. ``status`` is that of the operation on this thing alone."""

    id: UUID
    status: int
    result: Result | None = Field(default=None, description="The thing, where the item was done.")
    problem: ItemProblem | None = Field(default=None, description="Why not, where it was not.")

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        return f"{params[0].__name__}BatchItemResult"


class BatchResult(Output, Generic[Result]):
    """The output of every batch: its items, in the order of the request."""

    items: list[ItemResult[Result]]

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        return f"{params[0].__name__}BatchResult"


def problem_of(error: ChamberlainError, code_prefix: str) -> ItemProblem:
    """The problem of one item, with the code of the operation that the batch repeats."""
    face = seen(error)
    return ItemProblem(
        type=f"urn:chamberlain:problem:{face.reason}",
        title=face.title,
        status=face.status,
        detail=face.detail,
        code=f"{code_prefix}-{face.reason}",
        errors=[ItemFault(pointer=fault.pointer, message=fault.message) for fault in face.errors],
    )


def placed(error: ChamberlainError, place: int) -> ChamberlainError:
    """The same error, with its faults where they stand in the input of the batch. Without any, its item is one."""
    named = f"/items/{place}"
    if error.errors:
        error.errors = tuple(Fault(f"{named}/change{fault.pointer}", fault.message) for fault in error.errors)
    else:
        field = "version" if error.reason == "version-mismatch" else "id"
        error.errors = (Fault(f"{named}/{field}", error.detail),)
    return error


def failing(error: ChamberlainError, place: int) -> ChamberlainError:
    """What an atomic batch fails with, when the item at ``place`` fails with ``error`` (already ``placed``).

    A 404 says the same for everything on its route, so a missing item is told as the wrong value that its id is.
    """
    if error.face == NotFound.status:
        return Invalid(
            "An item names nothing that is here, or nothing that you may see. Nothing was done.",
            reason="item-not-found",
            errors=[Fault(f"/items/{place}/id", "names nothing here")],
        )
    return error


def order_of(items: Sequence[BatchItem]) -> list[int]:
    """The places of the items in the order of their ids: the order in which everyone locks and changes them."""
    return sorted(range(len(items)), key=lambda place: items[place].id)
