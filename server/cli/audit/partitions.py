"""``chamberlain audit partitions``: the parts of the log, and where those are kept that were dropped."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.exits import exits, settings_or_exit
from server.cli.output import Format, show_json, show_table

if TYPE_CHECKING:
    from actions.entities.audit_partition import AuditPartition, AuditPartitions

_COLUMNS = ("partition", "since", "until", "records", "indexes", "size", "state")


def command(
    format: Annotated[Format, typer.Option(help="A table, or JSON.")] = Format.TABLE,
) -> None:
    """List the parts of the log, a month each, and where those are kept that were dropped. LOCAL ONLY."""
    settings = settings_or_exit()
    with exits():
        from actions.entities.audit_partition import LIST
        from server.cli.audit.owner import internally
        from server.cli.local import run

        _show(run(settings, lambda: internally(settings, LIST, {})), format)


def _show(listed: "AuditPartitions", form: Format) -> None:
    if form is Format.JSON:
        show_json(listed.model_dump(mode="json"))
    else:
        show_table(_COLUMNS, [_row(one) for one in listed.partitions])


def _row(one: "AuditPartition") -> tuple[str, ...]:
    between = "" if one.first_index is None else f"{one.first_index:,} to {(one.end_index or 1) - 1:,}"
    if one.location is not None:
        state = f"dropped, kept in {one.location}"
    else:
        waiting = one.records - one.numbered
        state = f"{waiting:,} not numbered yet" if waiting else ""
    return one.name, _day(one.since), _day(one.until), f"{one.records:,}", between, _size(one.bytes), state


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d}"


def _size(amount: int) -> str:
    return f"{amount / 1_000_000:,.1f} MB" if amount else ""
