"""``chamberlain audit tail``: the latest records of the log, for whoever works on the machine."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from server.cli.local import run, tail
from server.cli.output import Format, show_json, show_table
from server.settings import Settings

_COLUMNS = ("time (UTC)", "principal", "action", "scope", "target", "result", "rule")


def show_tail(settings: Settings, count: int, form: Format) -> None:
    records = run(settings, lambda: tail(settings, count)).records
    if form is Format.JSON:
        for record in records:
            show_json(record, indent=None)
    else:
        show_table(_COLUMNS, [_row(record) for record in records])


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
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
    return at, principal, record["action"], where, _short(target.get("id")), result, rule


def _short(key: str | None) -> str:
    """The end of an id, which tells ids of one moment apart; the whole one is in the JSON."""
    return "" if key is None else key if len(key) <= 13 else f"\N{HORIZONTAL ELLIPSIS}{key[-12:]}"
