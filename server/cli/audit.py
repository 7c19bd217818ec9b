"""``chamberlain audit tail``: the latest records of the log, for whoever works on the machine; and how the commands
show a record in a line."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from actions.entities.audit_record import Tailed
from server.cli.local import follow, run, tail
from server.cli.output import Format, show_json, show_line, show_table
from server.settings import Settings

COLUMNS = ("time (UTC)", "principal", "action", "scope", "target", "result", "rule", "id")
WIDTHS = (14, 18, 30, 20, 13, 9, 18, 36)
"""Of the columns, as far as they are known before the records are."""


def show_tail(settings: Settings, count: int, form: Format) -> None:
    records = run(settings, lambda: tail(settings, count)).records
    if form is Format.JSON:
        for record in records:
            show_json(record, indent=None)
    else:
        show_table(COLUMNS, [row(record) for record in records])


def follow_tail(settings: Settings, count: int, form: Format) -> None:
    """The same, and every further record, until Ctrl-C. A row whose columns are wider than usual is wider."""

    def show(tailed: Tailed) -> None:
        for record in tailed.records:
            if form is Format.JSON:
                show_json(record, indent=None)
            else:
                show_line(row(record), WIDTHS)

    if form is Format.TABLE:
        show_line(COLUMNS, WIDTHS)
    with suppress(KeyboardInterrupt):
        run(settings, lambda: follow(settings, count, show))


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
