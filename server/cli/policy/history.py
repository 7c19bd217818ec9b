"""``chamberlain policy history``: which version was made active when, by whom and why."""

from typing import Annotated

import typer

from server.cli.exits import exits
from server.cli.output import Format
from server.cli.policy.options import EndpointOption, FormatOption


def command(
    version: Annotated[str | None, typer.Option(help="Only of this version: its digest, or the beginning.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many, the newest first.")] = 20,
    offset: Annotated[int, typer.Option(min=0, max=10_000, help="How many of the newest to leave out.")] = 0,
    format: FormatOption = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Tell which version of the policy was made active when, by whom, how and why, the newest first."""
    from actions.entities.policy import PolicyHistory
    from server.cli.output import show_json, show_table
    from server.cli.policy.asking import ask
    from server.cli.policy.stored import resolved
    from server.cli.policy.words import second, short

    with exits():
        digest = resolved(version, endpoint) if version is not None else None
        question = {"version": digest, "limit": limit, "offset": offset}
        told = ask("GET", "/admin/policies/history", question, PolicyHistory, endpoint)
        if format is Format.JSON:
            show_json(told.model_dump(mode="json"))
            return
        rows = [
            (
                second(entry.at),
                short(entry.version),
                entry.kind.replace("_", " "),
                short(entry.left) if entry.left else "",
                entry.by,
                entry.reason,
            )
            for entry in told.items
        ]
        show_table(("when (UTC)", "version", "how", "instead of", "by", "why"), rows)
        if (more := told.total_count - told.offset - len(told.items)) > 0:
            typer.echo(f"{more} more, older; --offset leads to them")
