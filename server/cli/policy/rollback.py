"""``chamberlain policy rollback``: back to a version that was active before."""

from typing import Annotated

import typer

from server.cli.exits import exits
from server.cli.output import Format
from server.cli.policy.options import EndpointOption, FormatOption, ReasonOption, WaitOption


def command(
    reason: ReasonOption,
    to: Annotated[str | None, typer.Option(help="Where to: a digest, or its beginning; unset: the one before.")] = None,
    wait: WaitOption = False,
    format: FormatOption = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Go back to the version of the policy that was active before, and refuse the one that is left.

    No policy folder brings the refused one back; `policy activate` does. Versions that are refused already are passed
    over.
    """
    from actions.entities.policy import PolicyVersion
    from server.cli.policy.asking import ask
    from server.cli.policy.stored import resolved, tell_activated, wait_until_deciding

    with exits():
        digest = resolved(to, endpoint) if to is not None else None
        question = {"reason": reason, "to": digest}
        told = ask("POST", "/admin/policies/rollback", question, PolicyVersion, endpoint)
        tell_activated(told, format, endpoint)
        if wait:
            wait_until_deciding(told.id, endpoint)
