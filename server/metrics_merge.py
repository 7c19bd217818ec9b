"""Many workers' metrics, added up to one true set: pure functions, no process, no clock, no socket.

A *snapshot* is everything one worker had counted at one moment. Its numbers are totals since that worker
started, never differences, so a later snapshot of the same worker replaces an earlier one, and a lost one costs
nothing. ``merge`` adds the snapshots of the living to what ``fold`` kept of the dead.

Two laws, both property-tested:

- nothing is counted twice, and nothing that was folded is ever lost;
- a merged counter never goes down, not even in its last bit. Adding floats in another order can change the
  last bit, and Prometheus reads the smallest decrease of a counter as a restart from zero. So the totals of the
  dead are kept in parts whose sum is exact, and all parts are rounded once, by ``math.fsum``.

This module knows nothing of prometheus_client, of workers or of HTTP.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal, NamedTuple, TypeAlias, get_args

import orjson

Kind: TypeAlias = Literal["counter", "histogram", "summary", "gauge"]
Rule: TypeAlias = Literal["sum", "max", "min", "mean"]
Pairs: TypeAlias = tuple[tuple[str, str], ...]

KINDS: tuple[Kind, ...] = get_args(Kind)
RULES: tuple[Rule, ...] = get_args(Rule)


class Exemplar(NamedTuple):
    """One observation that stands for many: its labels (a trace id), its value and its Unix time in seconds."""

    labels: Pairs
    value: float
    timestamp: float


class Row(NamedTuple):
    """The numbers of one label set: its label values, a number for each column, no exemplar or one for each column."""

    labels: tuple[str, ...]
    values: tuple[float, ...]
    exemplars: tuple[Exemplar | None, ...] = ()


class Sample(NamedTuple):
    """One line of an exposition."""

    name: str
    labels: dict[str, str]
    value: float
    exemplar: Exemplar | None


@dataclass(frozen=True, slots=True)
class Family:
    """One metric as a table: a row for each label set, a column for each line that a label set has.

    ``name`` is without ``_total``, as OpenMetrics names a counter. ``columns`` are a suffix and further labels
    each: one of ``("_total", ())`` for a counter, ``("", ())`` for a gauge, and for a histogram one
    ``("_bucket", (("le", bound),))`` per bound beside ``_count`` and ``_sum``. ``rule`` says how the numbers of
    several workers become one: always ``sum`` for what only grows, for a gauge whatever its declaration says.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    columns: tuple[tuple[str, Pairs], ...]
    rows: tuple[Row, ...]
    rule: Rule = "sum"

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.rule not in RULES:
            raise ValueError(f"metric {self.name}: cannot merge a {self.kind} by {self.rule}")
        if self.kind != "gauge" and self.rule != "sum":
            raise ValueError(f"metric {self.name}: a {self.kind} is always merged by sum, not by {self.rule}")

    def samples(self) -> Iterator[Sample]:
        columns = [(self.name + suffix, dict(extra)) for suffix, extra in self.columns]
        for row in self.rows:
            labels = dict(zip(self.labels, row.labels, strict=True))
            exemplars = row.exemplars or (None,) * len(columns)
            for (name, extra), value, exemplar in zip(columns, row.values, exemplars, strict=True):
                yield Sample(name, labels | extra, value, exemplar)


Snapshot: TypeAlias = Sequence[Family]


def merge(dead: Snapshot, living: Iterable[Snapshot]) -> list[Family]:
    """One snapshot for the whole server.

    ``dead`` is what ``fold`` made of the workers that are gone, ``living`` the last snapshot of each other.
    Counters, histograms and summaries add up; a gauge speaks of the living only and follows its rule.
    """
    return [
        replace(family, rows=tuple(_one(family.rule, same) for same in rows.values()))
        for family, rows in _gather([dead, *living])
    ]


def fold(dead: Snapshot, last: Snapshot) -> list[Family]:
    """``dead`` with one more: call it once for each worker that dies, with its last snapshot.

    Gauges are dropped: a dead worker has no queue. A label set may have several rows in the result, parts whose
    exact sum is the total; ``merge`` puts them together.
    """
    return [
        replace(family, rows=tuple(part for same in rows.values() for part in _parts(same)))
        for family, rows in _gather([dead, last])
        if family.kind != "gauge"
    ]


def decode(raw: bytes) -> list[Family]:
    """A snapshot as workers send it, in JSON: a list of ``[name, kind, help, rule, labels, columns, rows]``.

    A column is ``[suffix, {label: value}]``; a row is ``[label values, numbers, exemplars]``; an exemplar is
    ``null`` or ``[{label: value}, number, Unix time]``. A row with a number that is not finite (JSON has only
    ``null`` for it) is left out. Raises ``ValueError`` when ``raw`` is anything else.
    """
    try:
        return [
            Family(
                name,
                kind,
                text,
                tuple(labels),
                tuple((suffix, tuple(extra.items())) for suffix, extra in columns),
                tuple(
                    Row(tuple(given), tuple(values), tuple(map(_exemplar, exemplars)))
                    for given, values, exemplars in rows
                    if None not in values
                ),
                rule,
            )
            for name, kind, text, rule, labels, columns, rows in orjson.loads(raw)
        ]
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not a metrics snapshot: {error}") from error


def _exemplar(given: tuple[dict[str, str], float, float] | None) -> Exemplar | None:
    return given and Exemplar(tuple(given[0].items()), given[1], given[2])


def _gather(snapshots: Iterable[Snapshot]) -> Iterable[tuple[Family, dict[tuple[str, ...], list[Row]]]]:
    """Each family once, with all rows of one label set side by side, in the order in which they first appeared."""
    found: dict[str, tuple[Family, dict[tuple[str, ...], list[Row]]]] = {}
    for snapshot in snapshots:
        for family in snapshot:
            first, rows = found.setdefault(family.name, (family, {}))
            if replace(first, rows=()) != replace(family, rows=()):
                raise ValueError(f"metric {family.name} is declared in two ways")
            for row in family.rows:
                rows.setdefault(row.labels, []).append(row)
    return found.values()


def _one(rule: Rule, same: Sequence[Row]) -> Row:
    """The rows of one label set as one."""
    if len(same) == 1:
        return same[0]
    columns = list(zip(*(row.values for row in same), strict=True))
    if rule == "max":
        values = tuple(map(max, columns))
    elif rule == "min":
        values = tuple(map(min, columns))
    else:
        share = len(same) if rule == "mean" else 1
        values = tuple(math.fsum(column) / share for column in columns)
    return Row(same[0].labels, values, _newest(same))


def _parts(same: Sequence[Row]) -> list[Row]:
    """The rows of one label set as the fewest rows with the same exact sum; the first has the exemplars."""
    exact = (_expansion(column) for column in zip(*(row.values for row in same), strict=True))
    first, *others = zip_longest(*exact, fillvalue=0.0)
    labels = same[0].labels
    return [Row(labels, first, _newest(same)), *(Row(labels, other) for other in others)]


def _expansion(numbers: Iterable[float]) -> list[float]:
    """Numbers that do not overlap, with the same exact sum (Shewchuk's growing expansion); at least one."""
    parts: list[float] = []
    for number in numbers:
        kept = []
        for part in parts:
            big, small = (number, part) if abs(number) >= abs(part) else (part, number)
            number = big + small
            if error := small - (number - big):
                kept.append(error)
        parts = [*kept, number]
    return parts


def _newest(same: Sequence[Row]) -> tuple[Exemplar | None, ...]:
    columns = zip(*(row.exemplars for row in same if row.exemplars), strict=True)
    return tuple(max(filter(None, column), key=lambda one: one.timestamp, default=None) for column in columns)
