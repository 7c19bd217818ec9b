"""What a filter means, written down a second time: over plain rows, in Python, and as plainly as can be.

And, drawn from a filter's model, every filter that a caller could write: any operator on any field, nested.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args
from uuid import UUID

from hypothesis import strategies as st

from actions.query import BooleanFilter, DateTimeFilter, Filter, IntFilter, Operators, StringFilter, UUIDFilter

Row = Mapping[str, Any]
LETTERS = "aAbB%_\\'\"éÉßẞİıΣς😀 \n"
"""Wildcards, quotes, and letters whose cases are not one to one."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT")
_JOINTS = ("AND", "OR", "NOT")


def matches(filter: Mapping[str, Any], row: Row) -> bool:
    return all(_part(name, value, row) for name, value in filter.items())


def shows_deleted(filter: Mapping[str, Any], words: frozenset[str]) -> bool:
    """Whether a condition speaks of what is deleted."""
    return any(name in words for name, _ in _conditions(filter))


def _part(name: str, value: Any, row: Row) -> bool:
    match name:
        case "AND":
            return all(matches(member, row) for member in value)
        case "OR":
            return any(matches(member, row) for member in value)
        case "NOT":
            return all(not matches(member, row) for member in value)
        case _:
            return all(_holds(operator, as_value(row[name]), operand) for operator, operand in value.items())


def _conditions(filter: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in filter.items():
        if name in _JOINTS:
            for member in value:
                yield from _conditions(member)
        else:
            yield from ((name, operator) for operator in value)


def _holds(operator: str, value: Any, operand: Any) -> bool:
    if operator.startswith("i_"):
        operator, value = operator[2:], value if value is None else _fold(value)
        operand = [_fold(one) for one in operand] if isinstance(operand, list) else _fold(operand)
    if operator.startswith("not_"):
        return not _holds(operator[4:], value, operand)
    if value is None:
        return False
    if isinstance(value, datetime):
        operand = moment(operand)
    match operator:
        case "equals":
            return bool(value == operand)
        case "in":
            return value in operand
        case "contains":
            return operand in value
        case "starts_with":
            return bool(value.startswith(operand))
        case "ends_with":
            return bool(value.endswith(operand))
        case "before" | "less_than":
            return bool(value < operand)
        case "after" | "greater_than":
            return bool(value > operand)
        case "less_than_or_equal":
            return bool(value <= operand)
        case "greater_than_or_equal":
            return bool(value >= operand)
        case _:
            raise AssertionError(operator)


def _fold(text: str) -> str:
    """Letter for letter, each by itself, as PostgreSQL does: a capital sigma at a word's end is no exception."""
    return "".join("i" if letter == "İ" else letter.lower() for letter in text)


def as_value(shown: Any) -> Any:
    """A time is shown as text; no other text of a row looks like one."""
    return moment(shown) if isinstance(shown, str) and _TIME.match(shown) else shown


def moment(text: str) -> datetime:
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


# -- every filter that could be written --------------------------------------------------------------------------------


def filters(model: type[Filter], rows: list[Row]) -> st.SearchStrategy[dict[str, Any]]:
    """Filters of a model, with operands that lie close to what the rows hold."""
    fields = {
        name: _operators(next(kind for kind in get_args(info.annotation) if kind is not type(None)), name, rows)
        for name, info in model.model_fields.items()
        if name not in _JOINTS
    }
    flat = st.lists(st.sampled_from(sorted(fields)), max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: fields[name] for name in names})
    )
    return st.recursive(
        flat,
        lambda inner: st.tuples(flat, st.sampled_from(_JOINTS), st.lists(inner, max_size=2)).map(
            lambda parts: {**parts[0], parts[1]: parts[2]}
        ),
        max_leaves=4,
    )


def _operators(kind: type[Operators], name: str, rows: list[Row]) -> st.SearchStrategy[dict[str, Any]]:
    one = _operand(kind, [row[name] for row in rows if row.get(name) is not None])
    operands = {
        info.alias or operator: st.lists(one, max_size=3) if operator.rstrip("_").endswith("in") else one
        for operator, info in kind.model_fields.items()
    }
    return st.lists(st.sampled_from(sorted(operands)), min_size=1, max_size=2, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({operator: operands[operator] for operator in chosen})
    )


def _operand(kind: type[Operators], held: list[Any]) -> st.SearchStrategy[Any]:
    if issubclass(kind, StringFilter):
        pieces = st.sampled_from(held or [""]).flatmap(
            lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(
                lambda ends: text[min(ends) : max(ends)]
            )
        )
        return st.one_of(pieces, pieces.map(str.swapcase), st.text(LETTERS, max_size=2), st.sampled_from(held or [""]))
    if issubclass(kind, BooleanFilter):
        return st.booleans()
    if issubclass(kind, UUIDFilter):
        return st.one_of(st.sampled_from(held or [str(UUID(int=0))]), st.uuids().map(str))
    if issubclass(kind, IntFilter):
        near = [number + step for number in held for step in (-1, 0, 1)]
        return st.sampled_from([*(n for n in near if n < 2**63), 0, -1, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63)])
    if issubclass(kind, DateTimeFilter):
        near_times = [moment(text) + timedelta(microseconds=step) for text in held for step in (-1, 0, 1)]
        zones = [None, UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-3, minutes=-30))]
        return st.tuples(st.sampled_from(near_times or [datetime(2026, 1, 1, tzinfo=UTC)]), st.sampled_from(zones)).map(
            lambda pair: (pair[0].astimezone(pair[1]) if pair[1] else pair[0].replace(tzinfo=None)).isoformat()
        )
    (words,) = get_args(kind.model_fields["equals"].annotation)[:1]
    return st.sampled_from([word.value for word in words])
