"""A record as one flat row: the columns that tables of an export have, for whoever reads the log with other tools.

The columns are told by the leaf, never by what stands beside it in the database; the leaf itself is the last one. What
has no column of its own is in ``more``, so nothing is left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

Told = Mapping[str, Any]
_HAVE_COLUMNS = frozenset(
    {
        *("action", "asked", "at", "changes", "decision", "duration_us", "entity", "error", "id", "operation", "phase"),
        *("principal", "request", "result", "scope", "target", "uses"),
    }
)
_PROOF = frozenset({"salt", "sealed", "v"})


class Type(StrEnum):
    """What a column holds. A list of names is one column; JSON is a text."""

    NUMBER = "number"
    TIME = "time"
    TEXT = "text"
    TRUTH = "truth"
    NAMES = "names"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: Type
    sentence: str
    of: Callable[[Told], object]


def _at(*way: str) -> Callable[[Told], object]:
    """What stands at the end of a way into the leaf, or None."""

    def of(told: Told) -> object:
        found: object = told
        for step in way:
            found = found.get(step) if isinstance(found, dict) else None
        return found

    return of


def _lying_in(side: str, kind: str) -> Callable[[Told], object]:
    lineage = _at(side, "lineage")

    def of(told: Told) -> object:
        found = lineage(told)
        places = found if isinstance(found, list) else []
        return next((place.get("id") for place in places if place.get("type") == kind), None)

    return of


def _more(told: Told) -> object:
    return {name: value for name, value in told.items() if name not in _HAVE_COLUMNS | _PROOF} or None


_PLACES = tuple(
    Column(f"{side}_{kind}", Type.TEXT, f"The {kind} that {what} lies in, or is: its id.", _lying_in(side, kind))
    for side, what in (("scope", "the scope"), ("target", "the target"))
    for kind in ("domain", "project", "user")
)
COLUMNS: tuple[Column, ...] = (
    Column("at", Type.TIME, "When the record was made, in UTC.", _at("at")),
    Column("id", Type.TEXT, "The action's id.", _at("id")),
    Column("phase", Type.TEXT, "Which part of the action it tells.", _at("phase")),
    Column("action", Type.TEXT, "What was asked for.", _at("action")),
    Column("entity", Type.TEXT, "The type of thing.", _at("entity")),
    Column("operation", Type.TEXT, "What was to be done with it.", _at("operation")),
    Column("result", Type.TEXT, "How it ended.", _at("result")),
    Column("principal_kind", Type.TEXT, "`user`, `system` or `anonymous`.", _at("principal", "kind")),
    Column("principal", Type.TEXT, "Who asked.", _at("principal", "name")),
    Column("credential", Type.TEXT, "The public id of what it proved itself with.", _at("principal", "credential")),
    Column("request_id", Type.TEXT, "The request's id.", _at("request", "id")),
    Column("surface", Type.TEXT, "What it came by.", _at("request", "surface")),
    Column("scope_type", Type.TEXT, "The type of scope in which it took place.", _at("scope", "type")),
    Column("target", Type.TEXT, "What it was asked of: its id.", _at("target", "id")),
    *_PLACES,
    Column("allowed", Type.TRUTH, "What the policy said.", _at("decision", "allowed")),
    Column("rule", Type.TEXT, "`file:line` of the rule that decided.", _at("decision", "rule")),
    Column("policy", Type.TEXT, "The digest of the policy's version.", _at("decision", "policy")),
    Column("roles", Type.NAMES, "The roles that counted.", _at("decision", "roles")),
    Column(
        "error_status", Type.NUMBER, "Of what did not succeed: the status that the caller saw.", _at("error", "status")
    ),
    Column("error_reason", Type.TEXT, "And why.", _at("error", "reason")),
    Column("error_cause", Type.TEXT, "The true cause of a refusal.", _at("error", "cause")),
    Column("duration_us", Type.NUMBER, "Microseconds from the request to the record.", _at("duration_us")),
    Column("uses", Type.JSON, "What the input named, and whether it might be used.", _at("uses")),
    Column("asked", Type.JSON, "What was asked, beyond scope and target.", _at("asked")),
    Column("changes", Type.JSON, "The fields that changed, old and new.", _at("changes")),
    Column("more", Type.JSON, "What only some records have, as it was written.", _more),
)
"""Beside these each row has ``index`` and ``leaf_hash`` before them, and ``leaf`` after them."""

NUMBERED = ("index", "leaf_hash")
WHOLE = "leaf"


def value(column: Column, told: Told) -> Any:
    """A cell: of the column's type, or None where the leaf has nothing of that type there."""
    found = column.of(told)
    match column.type:
        case Type.NUMBER:
            return found if isinstance(found, int) and not isinstance(found, bool) else None
        case Type.TRUTH:
            return found if isinstance(found, bool) else None
        case Type.TIME:
            return _time(found)
        case Type.NAMES:
            return [str(name) for name in found] if isinstance(found, list) else None
        case Type.JSON:
            return None if found is None else orjson.dumps(found).decode()
        case Type.TEXT:
            return None if found is None else str(found)


def _time(found: object) -> datetime | None:
    try:
        return datetime.fromisoformat(found) if isinstance(found, str) else None
    except ValueError:
        return None
