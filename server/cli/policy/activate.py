"""``chamberlain policy activate``: make a stored version the one that decides."""

from typing import Annotated

import typer

from server.cli.output import Format


def command(
    version: Annotated[str, typer.Argument(help="A stored version: its digest, or the beginning of it.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the history.")],
    wait: Annotated[bool, typer.Option("--wait", help="Return once every worker decides by it.")] = False,
    format: Annotated[Format, typer.Option(help="For a person, or JSON.")] = Format.TABLE,
    endpoint: Annotated[str | None, typer.Option(help="Another server than the credentials name.")] = None,
) -> None:
    """Make a stored version of the policy the one that decides, on every worker of every server.

    This also ends its being refused. To undo a change, `policy rollback` is what you want: it refuses what it leaves.
    """
    from actions.entities.policy import PolicyVersion
    from server.cli.policy.asking import ask
    from server.cli.policy.stored import answered, resolved, tell_activated, wait_until_deciding

    with answered():
        digest = resolved(version, endpoint)
        told = ask("POST", f"/admin/policies/{digest}/activate", {"reason": reason}, PolicyVersion, endpoint)
        tell_activated(told, format, endpoint)
        if wait:
            wait_until_deciding(digest, endpoint)
