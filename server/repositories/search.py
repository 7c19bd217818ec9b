"""From the shape of a search to its statements: conditions, order, page, total.

A search's *shape* is what is left of a ``Querier`` without its values. Statements are built once per shape and scope
and kept; the values are bound at each run, so no caller's text ever becomes SQL.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    true,
)

from actions.errors import BadRequest
from actions.query import COUNT_LIMIT, CURSOR_PATTERN, Condition, Group, Join, Order, Page, Querier, Shape, Total
from server.repositories.database import Query, Row
from server.repositories.unit import Unit

Item = TypeVar("Item", bound=BaseModel)
Field = Callable[[str], ColumnElement[Any]]
_BY_ID = Order("id")


class SearchStatement:
    """The statements of one shape of search: ``page``, ``count`` up to the limit, ``exact_count``.

    ``last`` is the order in which rows come that are alike in all others, by a column of which the two rows of such a
    pair never have the same value.
    """

    def __init__(
        self, shape: Shape, visible: Select[Any], field: Field, last_column: ColumnElement[Any], last: Order = _BY_ID
    ) -> None:
        places = iter(range(10_000))
        conditions = [_condition(part, field, places) for part in shape.conditions]
        if shape.hide_deleted:
            conditions.append(not_(field("deleted")))
        matching = visible.where(*conditions)
        self.orders = (*shape.orders, last)
        columns = [*(field(order.field) for order in shape.orders), last_column]
        self._types = [column.type for column in columns]
        page = matching
        if shape.by_cursor:
            page = page.where(_after(columns, self.orders))
        directions = [c.asc() if o.ascending else c.desc() for c, o in zip(columns, self.orders, strict=True)]
        limit, offset = bindparam("limit", type_=Integer), bindparam("offset", type_=Integer)
        self.page = Query(page.order_by(*directions).limit(limit).offset(offset))
        found = page.cte("found").prefix_with("MATERIALIZED")
        sorted_by = [found.c[o.field].asc() if o.ascending else found.c[o.field].desc() for o in self.orders]
        self._few = select(found).order_by(*sorted_by).limit(limit).offset(offset)
        bare: Select[Any] = matching.with_only_columns(literal_column("1"), maintain_column_froms=True)
        self.count = Query(_total(bare.limit(literal_column(str(COUNT_LIMIT + 1)))))
        self.exact_count = Query(_total(bare))

    @cached_property
    def page_of_few(self) -> Query:
        """The page, by finding all that matches first and sorting it. For a search that is known to find little: going
        through everything in the order asked for, until enough of it matches, would take long."""
        return Query(self._few)

    def values(self, querier: Querier) -> dict[str, object]:
        """The values of one run. Raises ``BadRequest`` for a cursor that is not one of ours for this order."""
        values: dict[str, object] = {f"c{place}": value for place, value in enumerate(_values(querier.conditions))}
        values.update(limit=querier.limit + 1, offset=querier.offset)
        if querier.cursor is not None:
            values.update(_read_cursor(querier.cursor, self.orders, [kind.python_type for kind in self._types]))
        return values


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of one page, each with the cursor that leads to what comes after it, and what is known of the rest."""

    rows: Sequence[Row]
    cursors: tuple[str, ...]
    more: bool
    total: int
    exact: bool

    @classmethod
    def of(cls, found: Sequence[Row], statement: SearchStatement, querier: Querier, total: int, exact: bool) -> "Found":
        """``found`` has one row more than the page, unless the page is the last."""
        rows = found[: querier.limit]
        signature, names = _signature(statement.orders), [order.field for order in statement.orders]
        cursors = tuple(_cursor([signature, *(row[name] for name in names)]) for row in rows)
        return cls(rows, cursors, len(found) > querier.limit, total, exact)

    def shown(self, page: type[Page[Item]], items: Sequence[Any], querier: Querier) -> Page[Item]:
        """The page with these items, which are what its model takes."""
        return page(
            items=list(items),
            total_count=self.total,
            total_count_exact=self.exact,
            offset=querier.offset,
            limit=querier.limit,
            next_cursor=self.cursors[-1] if self.more else None,
        ).marked(self.cursors)


async def page_of(
    unit: Unit, statement: SearchStatement, querier: Querier, page: type[Page[Item]], item: Callable[[Row], Any]
) -> Page[Item]:
    """One page of a search, with the cursors of its items and its total. ``item`` is what ``page`` takes of a row."""
    values = statement.values(querier)
    rows = await unit.read_all(statement.page, **values)
    total, exact = await _count(unit, statement, querier, values, len(rows))
    found = Found.of(rows, statement, querier, total, exact)
    return found.shown(page, [item(row) for row in found.rows], querier)


async def _count(
    unit: Unit, statement: SearchStatement, querier: Querier, values: Mapping[str, object], seen: int
) -> tuple[int, bool]:
    """The total, and whether it is exact. Uncounted, it is what the page itself tells of."""
    if querier.total is Total.NONE:
        return (querier.offset + seen if seen else 0), False
    exact = querier.total is Total.EXACT
    told = await unit.read(statement.exact_count if exact else statement.count, **values)
    total: int = told["total"] if told else 0
    return (total, True) if exact or total <= COUNT_LIMIT else (COUNT_LIMIT, False)


def _cursor(marks: Sequence[object]) -> str:
    return urlsafe_b64encode(orjson.dumps(marks, default=str)).decode().rstrip("=")


def _total(matching: Select[Any]) -> Select[Any]:
    return select(func.count().label("total")).select_from(matching.subquery())


def _condition(part: Condition | Group, field: Field, places: Iterator[int]) -> ColumnElement[bool]:
    if isinstance(part, Group):
        members = [_condition(member, field, places) for member in part.members]
        match part.join:
            case Join.OR:
                return or_(false(), *members)
            case Join.AND:
                return and_(true(), *members)
            case Join.NOT:  # a comparison with null is not true, so its inversion is
                return func.coalesce(and_(true(), *members), literal(False)).is_(False)
    column = field(part.field)
    return _operator(part.operator, column, f"c{next(places)}")


def _operator(name: str, column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """An operator as in the filter models. A null column satisfies the negative ones and no other."""
    bare = name
    ignore_case = bare.startswith("i_")
    bare = bare.removeprefix("i_")
    negative = bare.startswith("not_")
    bare = bare.removeprefix("not_")
    many = bare == "in"
    # A number is compared as a wide one, so that every number a filter may name has its place among the column's.
    kind = BigInteger() if isinstance(column.type, Integer) else column.type
    value: ColumnElement[Any] = bindparam(parameter, type_=ARRAY(kind) if many else kind)
    if ignore_case:
        column = func.lower(column)
        value = func.lower(func.unnest(value) if many else value)
    found: ColumnElement[bool]
    match bare:
        case "equals":
            found = column == value
        case "in":
            found = column.in_(select(value)) if ignore_case else column == any_(value)
        case "contains":
            found = func.strpos(cast(column, Text), value) > 0
        case "starts_with":
            found = func.starts_with(cast(column, Text), value)
        case "ends_with":
            found = func.right(cast(column, Text), func.length(value)) == value
        case "before" | "less_than":
            found = column < value
        case "after" | "greater_than":
            found = column > value
        case "less_than_or_equal":
            found = column <= value
        case "greater_than_or_equal":
            found = column >= value
        case _:
            raise ValueError(f"there is no operator {name}")
    return func.coalesce(not_(found), literal(True)) if negative else found


def _values(parts: Sequence[Condition | Group]) -> Iterator[object]:
    for part in parts:
        if isinstance(part, Group):
            yield from _values(part.members)
        else:
            yield _plain(part.value)


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return value.value if isinstance(value, Enum) else value


def _after(columns: Sequence[ColumnElement[Any]], orders: Sequence[Order]) -> ColumnElement[bool]:
    """The rows that come after the cursor's, whatever mix of directions: (a > x) or (a = x and b < y) or ...

    They are none before it in the first order, which adds nothing but a range that an index can be entered by.
    """
    marks = [bindparam(f"k{place}", type_=column.type) for place, column in enumerate(columns)]
    steps = []
    for place, order in enumerate(orders):
        beyond = columns[place] > marks[place] if order.ascending else columns[place] < marks[place]
        steps.append(and_(*(columns[before] == marks[before] for before in range(place)), beyond))
    first = columns[0] >= marks[0] if orders[0].ascending else columns[0] <= marks[0]
    return and_(first, or_(*steps))


def _read_cursor(cursor: str, orders: Sequence[Order], kinds: Sequence[type]) -> Mapping[str, object]:
    try:
        if not re.fullmatch(CURSOR_PATTERN, cursor):
            raise ValueError("not in the alphabet")  # which the decoder would pass over
        signature, *marks = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if signature != _signature(orders) or len(marks) != len(kinds):
            raise ValueError("another order")
        return {f"k{place}": _from_text(mark, kinds[place]) for place, mark in enumerate(marks)}
    except (ValueError, TypeError, RecursionError):
        raise BadRequest("The cursor is not one of this search's.", reason="invalid-cursor") from None


def _signature(orders: Sequence[Order]) -> str:
    return ",".join(f"{order.field}:{'asc' if order.ascending else 'desc'}" for order in orders)


def _from_text(mark: object, kind: type) -> object:
    if kind is UUID and isinstance(mark, str):
        return UUID(mark)
    if kind is datetime and isinstance(mark, str):
        return datetime.fromisoformat(mark)
    if not isinstance(mark, kind) or (kind is int and isinstance(mark, bool)):
        raise TypeError("not the type of this order")
    return mark
