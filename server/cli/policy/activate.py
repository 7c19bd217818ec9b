"""``chamberlain policy activate``: make a stored version the one that decides."""

from server.cli.exits import exits
from server.cli.output import Format
from server.cli.policy.options import EndpointOption, FormatOption, ReasonOption, StoredArgument, WaitOption


def command(
    version: StoredArgument,
    reason: ReasonOption,
    wait: WaitOption = False,
    format: FormatOption = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Make a stored version of the policy the one that decides, on every worker of every server.

    This also ends its being refused. To undo a change, `policy rollback` is what you want: it refuses what it leaves.
    """
    from actions.entities.policy import PolicyVersion
    from server.cli.policy.asking import ask
    from server.cli.policy.stored import resolved, tell_activated, wait_until_deciding

    with exits():
        digest = resolved(version, endpoint)
        told = ask("POST", f"/admin/policies/{digest}/activate", {"reason": reason}, PolicyVersion, endpoint)
        tell_activated(told, format, endpoint)
        if wait:
            wait_until_deciding(digest, endpoint)
