"""``chamberlain policy history``: which version was made active when, by whom and why."""

from typing import Annotated

import typer

from server.cli.output import Format


def command(
    version: Annotated[str | None, typer.Option(help="Only of this version: its digest, or the beginning.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many, the newest first.")] = 20,
    offset: Annotated[int, typer.Option(min=0, max=10_000, help="How many of the newest to leave out.")] = 0,
    format: Annotated[Format, typer.Option(help="A table or JSON.")] = Format.TABLE,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Tell which version of the policy was made active when, by whom, how and why, the newest first."""
    from actions.entities.policy import PolicyHistory
    from server.cli.output import show_json, show_table
    from server.cli.policy.asking import ask
    from server.cli.policy.stored import SHORT, answered, resolved, shown_time

    with answered():
        digest = resolved(version, endpoint) if version is not None else None
        question = {"version": digest, "limit": limit, "offset": offset}
        told = ask("GET", "/admin/policies/history", question, PolicyHistory, endpoint)
        if format is Format.JSON:
            show_json(told.model_dump(mode="json"))
            return
        rows = [
            (
                shown_time(entry.at),
                entry.version[:SHORT],
                entry.kind.replace("_", " "),
                entry.left[:SHORT] if entry.left else "",
                entry.by,
                entry.reason,
            )
            for entry in told.items
        ]
        show_table(("when (UTC)", "version", "how", "instead of", "by", "why"), rows)
        if (more := told.total_count - told.offset - len(told.items)) > 0:
            typer.echo(f"{more} more, older; --offset leads to them")
