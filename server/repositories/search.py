"""From the shape of a search to its statements: conditions, order, page, total.

A search's *shape* is what is left of a ``Querier`` without its values. Statements are built once per shape and scope
and kept; the values are bound at each run, so no caller's text ever becomes SQL.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

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
from actions.query import COUNT_LIMIT, CURSOR_PATTERN, Condition, Group, Join, Order, Querier, Shape
from server.repositories.database import Query, Row

Field = Callable[[str], ColumnElement[Any]]


class SearchStatement:
    """The statements of one shape of search: ``page``, ``count`` up to the limit, ``exact_count``."""

    def __init__(self, shape: Shape, visible: Select[Any], field: Field, id_column: ColumnElement[Any]) -> None:
        places = iter(range(10_000))
        conditions = [_condition(part, field, places) for part in shape.conditions]
        if shape.hide_deleted:
            conditions.append(not_(field("deleted")))
        matching = visible.where(*conditions)
        self.orders = (*shape.orders, Order("id"))
        columns = [*(field(order.field) for order in shape.orders), id_column]
        self._types = [column.type for column in columns]
        page = matching
        if shape.by_cursor:
            page = page.where(_after(columns, self.orders))
        directions = [c.asc() if o.ascending else c.desc() for c, o in zip(columns, self.orders, strict=True)]
        limit, offset = bindparam("limit", type_=Integer), bindparam("offset", type_=Integer)
        self.page = Query(page.order_by(*directions).limit(limit).offset(offset))
        bare: Select[Any] = matching.with_only_columns(literal_column("1"))
        self.count = Query(_total(bare.limit(literal_column(str(COUNT_LIMIT + 1)))))
        self.exact_count = Query(_total(bare))

    def values(self, querier: Querier) -> dict[str, object]:
        """The values of one run. Raises ``BadRequest`` for a cursor that is not one of ours for this order."""
        values: dict[str, object] = {f"c{place}": value for place, value in enumerate(_values(querier.conditions))}
        values.update(limit=querier.limit + 1, offset=querier.offset)
        if querier.cursor is not None:
            values.update(_read_cursor(querier.cursor, self.orders, [kind.python_type for kind in self._types]))
        return values


def page_of(rows: Sequence[Row], querier: Querier, orders: Sequence[Order]) -> tuple[Sequence[Row], str | None]:
    """The rows of the page, and the cursor of the next one if there is more."""
    if len(rows) <= querier.limit:
        return rows, None
    page = rows[: querier.limit]
    last = [page[-1][order.field] for order in orders]
    marker = json.dumps([_signature(orders), *last], default=_to_text)
    return page, urlsafe_b64encode(marker.encode()).decode().rstrip("=")


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
    """The rows that come after the cursor's, whatever mix of directions: (a > x) or (a = x and b < y) or ..."""
    marks = [bindparam(f"k{place}", type_=column.type) for place, column in enumerate(columns)]
    steps = []
    for place, order in enumerate(orders):
        beyond = columns[place] > marks[place] if order.ascending else columns[place] < marks[place]
        steps.append(and_(*(columns[before] == marks[before] for before in range(place)), beyond))
    return or_(*steps)


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


def _to_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _from_text(mark: object, kind: type) -> object:
    if kind is UUID and isinstance(mark, str):
        return UUID(mark)
    if kind is datetime and isinstance(mark, str):
        return datetime.fromisoformat(mark)
    if not isinstance(mark, kind) or (kind is int and isinstance(mark, bool)):
        raise TypeError("not the type of this order")
    return mark
