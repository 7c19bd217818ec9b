"""Filters, orders and pages: the models a caller fills in, the ``Querier`` a repository reads, and the one adapter
between them.

An entity's filter is a subclass of ``Filter`` with a field per column; every operator that is set counts, all joined
by AND. The adapter turns any such filter into conditions without knowing the entity. No SQL here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Generic, Self, TypeVar, cast
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, StringConstraints

from actions.errors import Fault, Invalid
from actions.model import KEEPABLE, PERSONAL, WITHOUT_NUL, Input, Output, Shown, as_time, without_nul

MAX_PAGE = 100
MAX_OFFSET = 10_000
MAX_FILTER_DEPTH = 5
MAX_FILTER_CONDITIONS = 50
MAX_ORDERS = 4
COUNT_LIMIT = 10_000
"""Totals are exact up to here; beyond, ``total_count_exact`` is false unless ``total=exact`` was asked for."""


def _zoned(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Operand = Annotated[str, StringConstraints(max_length=512), AfterValidator(without_nul), WITHOUT_NUL]
Operands = Annotated[list[Operand], Field(max_length=100)]
Moment = Annotated[datetime, BeforeValidator(as_time), AfterValidator(_zoned), KEEPABLE]
Number = Annotated[int, Field(ge=-(2**63), lt=2**63)]


CURSOR_PATTERN = r"^[A-Za-z0-9_-]+$"
Cursor = Annotated[str, StringConstraints(max_length=2000), Shown(pattern=CURSOR_PATTERN)]
"""Opaque: whoever reads it says whether it is one. It tells where a page ends, and so values of what stands there."""


class Operators(Input):
    """The operators on one field. A field that is unset says nothing; all that are set must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)


class StringFilter(Operators):
    """Text. ``i_`` ignores case; ``not_`` inverts."""

    equals: Operand | None = None
    not_equals: Operand | None = None
    i_equals: Operand | None = None
    i_not_equals: Operand | None = None
    contains: Operand | None = None
    not_contains: Operand | None = None
    i_contains: Operand | None = None
    i_not_contains: Operand | None = None
    starts_with: Operand | None = None
    not_starts_with: Operand | None = None
    i_starts_with: Operand | None = None
    i_not_starts_with: Operand | None = None
    ends_with: Operand | None = None
    not_ends_with: Operand | None = None
    i_ends_with: Operand | None = None
    i_not_ends_with: Operand | None = None
    in_: Operands | None = Field(default=None, alias="in")
    not_in: Operands | None = None
    i_in: Operands | None = None
    i_not_in: Operands | None = None


class UUIDFilter(Operators):
    equals: UUID | None = None
    not_equals: UUID | None = None
    in_: Annotated[list[UUID], Field(max_length=100)] | None = Field(default=None, alias="in")
    not_in: Annotated[list[UUID], Field(max_length=100)] | None = None


class DateTimeFilter(Operators):
    """Times; one without a zone is taken as UTC."""

    equals: Moment | None = None
    not_equals: Moment | None = None
    before: Moment | None = None
    after: Moment | None = None


class IntFilter(Operators):
    equals: Number | None = None
    not_equals: Number | None = None
    greater_than: Number | None = None
    greater_than_or_equal: Number | None = None
    less_than: Number | None = None
    less_than_or_equal: Number | None = None


class BooleanFilter(Operators):
    equals: bool | None = None


E = TypeVar("E", bound=StrEnum)


class EnumFilter(Operators, Generic[E]):
    equals: E | None = None
    not_equals: E | None = None
    in_: Annotated[list[E], Field(max_length=100)] | None = Field(default=None, alias="in")
    not_in: Annotated[list[E], Field(max_length=100)] | None = None


class Filter(Input):
    """The base of an entity's filter. ``AND``, ``OR`` and ``NOT`` nest filters of the same kind.

    ``speaks_of_deleted`` are the fields that tell the deleted from the living: a filter by one of them shows both.
    """

    speaks_of_deleted: ClassVar[frozenset[str]] = frozenset({"deleted"})

    AND: Annotated[list[Self], Field(max_length=20)] | None = None
    OR: Annotated[list[Self], Field(max_length=20)] | None = None
    NOT: Annotated[list[Self], Field(max_length=20)] | None = None
    deleted: BooleanFilter | None = Field(
        default=None, description="Soft-deleted things are hidden unless a filter speaks of them."
    )


FilterT = TypeVar("FilterT", bound=Filter)


class Total(StrEnum):
    EXACT = "exact"
    NONE = "none"


class Search(Input, Generic[FilterT]):
    """The parameters of every search."""

    filter: FilterT | None = None
    order: str | None = Field(default=None, max_length=200, description="For example `name:asc,created_at:desc`.")
    offset: int = Field(default=0, ge=0, le=MAX_OFFSET, description="Deeper pages take a `cursor`.")
    limit: int = Field(default=20, ge=1, le=MAX_PAGE)
    cursor: Annotated[Cursor | None, PERSONAL] = Field(default=None, description="`next_cursor` of the page before.")
    total: Total | None = Field(default=None, description="`exact` counts beyond 10,000, `none` not at all.")


def filter_of(search: type[BaseModel]) -> type[Filter]:
    """The filter that a search's model takes."""
    (found,) = search.__pydantic_generic_metadata__["args"]
    return cast(type[Filter], found)


Item = TypeVar("Item", bound=BaseModel)


class Page(Output, Generic[Item]):
    """One page of a search. ``next_cursor`` is null on the last page.

    A total that is not exact is what there is at least. ``cursors`` are those of the items, in their order; no JSON
    of a page shows them.
    """

    items: list[Item]
    total_count: int
    total_count_exact: bool
    offset: int
    limit: int
    next_cursor: str | None = None

    _cursors: tuple[str, ...] = PrivateAttr(default=())

    @property
    def cursors(self) -> tuple[str, ...]:
        return self._cursors

    def marked(self, cursors: tuple[str, ...]) -> Self:
        """This page, with the cursors of its items."""
        self._cursors = cursors
        return self


def item_of(page: type[BaseModel]) -> type[BaseModel]:
    """The model of the things on a page."""
    (found,) = page.__pydantic_generic_metadata__["args"]
    return cast(type[BaseModel], found)


class Join(StrEnum):
    AND = "and"
    OR = "or"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class Condition:
    """``field operator value``; the operator is spelled as in the filter models."""

    field: str
    operator: str
    value: object


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions joined; NOT joins with AND and inverts the whole."""

    join: Join
    members: tuple["Condition | Group", ...]


@dataclass(frozen=True, slots=True)
class Order:
    field: str
    ascending: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    """A search without its values: what its statements depend on. Hashable, so that they can be kept."""

    conditions: tuple[Condition | Group, ...]
    orders: tuple[Order, ...]
    hide_deleted: bool
    by_cursor: bool


@dataclass(frozen=True, slots=True)
class Querier:
    """What a repository searches by. ``hide_deleted`` is false once a filter speaks of ``deleted``."""

    conditions: tuple[Condition | Group, ...]
    orders: tuple[Order, ...]
    limit: int
    offset: int = 0
    cursor: str | None = None
    total: Total | None = None
    hide_deleted: bool = True

    @property
    def shape(self) -> Shape:
        return Shape(
            tuple(_bare(part) for part in self.conditions), self.orders, self.hide_deleted, self.cursor is not None
        )


def _bare(part: Condition | Group) -> Condition | Group:
    if isinstance(part, Group):
        return Group(part.join, tuple(_bare(member) for member in part.members))
    return Condition(part.field, part.operator, None)


def to_querier(search: Search[FilterT], orderable: Sequence[str], *, descending: bool = False) -> Querier:
    """The one adapter from a search's DTO to a ``Querier``. Raises ``Invalid`` that names the place.

    A search that names no order gets the first of the orderable fields, ``descending`` or not.
    """
    conditions = tuple(_conditions(search.filter, "/filter", 1)) if search.filter else ()
    leaves = list(_leaves(conditions))
    if len(leaves) > MAX_FILTER_CONDITIONS:
        raise Invalid(
            "The filter is too large.",
            reason="filter-too-large",
            errors=[Fault("/filter", f"more than {MAX_FILTER_CONDITIONS} conditions")],
        )
    if search.cursor is not None and search.offset:
        raise Invalid(
            "A page is asked for by offset or by cursor.",
            reason="two-pages",
            errors=[Fault("/cursor", "stands beside an offset")],
        )
    return Querier(
        conditions=conditions,
        orders=_orders(search.order, orderable) or (Order(orderable[0], not descending),),
        limit=search.limit,
        offset=search.offset,
        cursor=search.cursor,
        total=search.total,
        hide_deleted=search.filter is None or not any(leaf.field in search.filter.speaks_of_deleted for leaf in leaves),
    )


def _conditions(part: Filter, pointer: str, depth: int) -> Iterator[Condition | Group]:
    if depth > MAX_FILTER_DEPTH:
        raise Invalid(
            "The filter is too deep.",
            reason="filter-too-deep",
            errors=[Fault(pointer, f"nested more than {MAX_FILTER_DEPTH} deep")],
        )
    for name in type(part).model_fields:
        value = getattr(part, name)
        if value is None:
            continue
        if isinstance(value, Operators):
            yield from (Condition(name, operator, operand) for operator, operand in _operands(value))
        else:
            members = (
                Group(Join.AND, tuple(_conditions(member, f"{pointer}/{name}/{place}", depth + 1)))
                for place, member in enumerate(value)
            )
            if name == "NOT":
                yield from (Group(Join.NOT, member.members) for member in members)
            else:
                yield Group(Join(name.lower()), tuple(members))


def _operands(operators: Operators) -> Iterator[tuple[str, object]]:
    for name in type(operators).model_fields:
        if (operand := getattr(operators, name)) is not None:
            yield name.rstrip("_"), operand


def _leaves(parts: Sequence[Condition | Group]) -> Iterator[Condition]:
    for part in parts:
        if isinstance(part, Group):
            yield from _leaves(part.members)
        else:
            yield part


def _orders(text: str | None, orderable: Sequence[str]) -> tuple[Order, ...]:
    orders: list[Order] = []
    for part in text.split(",") if text is not None else ():
        name, colon, direction = part.partition(":")
        known_direction = direction in ("asc", "desc") if colon else True
        if name not in orderable or not known_direction or any(o.field == name for o in orders):
            known = ", ".join(orderable)
            raise Invalid(
                "The order cannot be followed.",
                errors=[Fault("/order", f"is a list of {known}, each once, with :asc or :desc")],
            )
        orders.append(Order(name, direction != "desc"))
    if len(orders) > MAX_ORDERS:
        raise Invalid("The order is too long.", errors=[Fault("/order", f"has more than {MAX_ORDERS} parts")])
    return tuple(orders)
