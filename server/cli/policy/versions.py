"""``chamberlain policy versions``: which versions of the policy the server keeps, and which of them decides."""

from typing import Annotated

import typer

from server.cli.exits import exits
from server.cli.output import Format
from server.cli.policy.options import EndpointOption, FormatOption


def command(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many, the newest first.")] = 20,
    format: FormatOption = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """List the stored versions of the policy, the newest first: which decides, which are refused, by whom and why."""
    from actions.entities.policy import PolicyVersion
    from actions.query import Page
    from server.cli.output import show_json, show_table
    from server.cli.policy.asking import ask
    from server.cli.policy.words import second, short

    with exits():
        question = {"order": "created_at:desc", "limit": limit}
        page = ask("GET", "/admin/policies", question, Page[PolicyVersion], endpoint)
        if format is Format.JSON:
            show_json(page.model_dump(mode="json"))
            return
        rows = []
        for version in page.items:
            mark = "active" if version.active else "refused" if version.refused else ""
            at = version.activated_at or version.created_at
            by = version.activated_by or version.uploaded_by or ""
            why = version.reason if version.activated_at else f"(uploaded, never active) {version.upload_reason or ''}"
            signed = version.signed_by or ""
            rows.append((short(version.id), mark, second(at), by, signed, (why or "").rstrip()))
        show_table(("version", "", "when (UTC)", "by", "signed by", "why"), rows)
        if page.total_count > len(page.items):
            typer.echo(f"{page.total_count - len(page.items)} more, older; --limit shows them")
