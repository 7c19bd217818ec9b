"""``chamberlain policy shadow``: ask a candidate about all that the running server decides, and obey it in nothing.

There is no offline form: what would be otherwise for those who really ask is known to the server alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.exits import command_group, exits
from server.cli.output import Format, plain_console, show_json, show_table, unsteered
from server.cli.policy.options import EndpointOption, FormatOption, ReasonOption
from server.cli.policy.words import second, short

if TYPE_CHECKING:
    from actions.entities.policy_shadow import PolicyShadow, ShadowReport

shadow = command_group("Ask a candidate beside the active policy, in the running server. Its answers are only counted.")


@shadow.command()
def start(
    candidate: Annotated[
        str, typer.Argument(help="A policy folder, or a stored version: its digest, or the beginning of it.")
    ],
    reason: ReasonOption,
    format: FormatOption = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Shadow a version of the policy, on every worker of every server. It takes the place of any other shadow.

    A folder is stored as a version first, as `policy upload` does it, with the same reason.
    """
    from actions.entities.policy_shadow import PolicyShadow
    from server.cli.policy.asking import ask

    with exits():
        digest = _version(candidate, reason, endpoint)
        told = ask("POST", f"/admin/policies/{digest}/shadow", {"reason": reason}, PolicyShadow, endpoint)
        if format is Format.JSON:
            show_json(told.model_dump(mode="json"))
        else:
            _tell(told)
            plain_console().print("Where it differs: chamberlain policy shadow report")


@shadow.command()
def stop(reason: ReasonOption, format: FormatOption = Format.TABLE, endpoint: EndpointOption = None) -> None:
    """End the shadow. What it saw is kept for `report`."""
    from actions.entities.policy_shadow import PolicyShadow
    from server.cli.policy.asking import ask

    with exits():
        told = ask("POST", "/admin/policies/unshadow", {"reason": reason}, PolicyShadow, endpoint)
        if format is Format.JSON:
            show_json(told.model_dump(mode="json"))
        else:
            _tell(told)


@shadow.command()
def report(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most differences to show.")] = 100,
    format: FormatOption = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Show where the candidate would have decided otherwise, the most frequent first. The exit code is 1 if anywhere.

    It tells of the shadow that goes on, else of the latest. Workers tell what they saw every five seconds.
    """
    from actions.entities.policy_shadow import ShadowReport
    from server.cli.policy.asking import ask

    with exits():
        told = ask("GET", "/admin/policies/shadow_report", {"limit": limit}, ShadowReport, endpoint)
        if format is Format.JSON:
            show_json(told.model_dump(mode="json"))
        else:
            _tell_report(told)
        differs = told.shadow is not None and told.shadow.gained + told.shadow.lost > 0
    raise typer.Exit(int(differs))


def _version(candidate: str, reason: str, endpoint: str | None) -> str:
    """The digest that is meant: a folder goes before a stored version. Raises ``CannotRun`` and ``Refused``."""
    from server.cli.policy.stored import resolved, uploaded

    folder = Path(candidate)
    return uploaded(folder, reason, endpoint).id if folder.is_dir() else resolved(candidate, endpoint)


def _tell(told: "PolicyShadow") -> None:
    console = plain_console()
    since = f"since {second(told.started_at)} UTC by {told.started_by}"
    console.print(unsteered(f"shadow of {short(told.candidate)}, {since}: {told.reason}"), markup=False, soft_wrap=True)
    if told.ended_at is not None:
        ended = f"ended {second(told.ended_at)} UTC by {told.ended_by}"
        console.print(unsteered(f"{ended}: {told.ended_reason}"), markup=False, soft_wrap=True)


def _tell_report(told: "ShadowReport") -> None:
    console = plain_console()
    if told.shadow is None:
        console.print("No policy version has ever been shadowed.")
        return
    _tell(told.shadow)
    shadow = told.shadow
    failed = f", {shadow.failed} could not be compared" if shadow.failed else ""
    console.print(
        f"{shadow.compared} decisions compared: {shadow.lost} would be lost, {shadow.gained} gained{failed}",
        markup=False,
    )
    if told.differences:
        names = ("times", "would be", "roles", "action", "decided by", "candidate's rule", "last at", "last by")
        rows = [
            (
                str(each.count),
                "gained" if each.gain else "lost",
                " + ".join(each.roles),
                str(each.cell),
                each.active_rule or "no rule",
                each.candidate_rule or "no rule",
                second(each.last_at),
                each.last_principal or "",
            )
            for each in told.differences
        ]
        show_table(names, rows)
    if told.kinds > len(told.differences):
        console.print(f"{told.kinds - len(told.differences)} more kinds of differences: --limit shows more")
