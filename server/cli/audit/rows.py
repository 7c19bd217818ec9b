"""A record of the log in a line: how every command that lists records shows one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

COLUMNS = ("time (UTC)", "principal", "action", "scope", "target", "result", "rule", "id")
WIDTHS = (14, 18, 30, 20, 13, 9, 18, 36)
"""Of the columns, as far as they are known before the records are."""


def shown_index(record: Mapping[str, Any]) -> str:
    return "" if record["index"] is None else str(record["index"])


def row(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Not every record has every part: a migration's or a sweeper's is short."""
    at = datetime.fromisoformat(record["at"]).strftime("%m-%d %H:%M:%S")
    scope, target = record.get("scope") or {}, record.get("target") or {}
    lineage = scope.get("lineage") or [{}]
    where = " ".join(filter(None, [scope.get("type", ""), _short(lineage[0].get("id") or scope.get("asked_for"))]))
    phase = record.get("phase", "done")
    result = record["result"] + (f" ({phase})" if phase != "done" else "")
    rule = (record.get("decision") or {}).get("rule") or ""
    kind, _, who = record["principal"]["name"].partition(":")
    principal = " ".join(filter(None, [kind, _short(who)])) if kind == "user" else record["principal"]["name"]
    return at, principal, record["action"], where, _short(target.get("id")), result, rule, record["id"]


def _short(key: str | None) -> str:
    """The end of an id, which tells ids of one moment apart; the whole one is in the JSON."""
    return "" if key is None else key if len(key) <= 13 else f"\N{HORIZONTAL ELLIPSIS}{key[-12:]}"
