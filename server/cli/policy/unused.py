"""``chamberlain policy unused``: the rules that decided nothing for some days, and the roles that nobody needed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.exits import exits
from server.cli.output import Format, show_json, show_table
from server.cli.policy.logs import (
    LogOption,
    ask_for,
    one_door,
    reach_told,
    read_log,
    refuse_nothing,
)
from server.cli.policy.options import EndpointOption, FormatOption, ServerOption
from server.cli.policy.words import counted, minute, short

if TYPE_CHECKING:
    from actions.authorization.usage import IdleRole, IdleRule, Unused

_WORDS = {
    "unused": "decided nothing",
    "shadowed": "cannot decide: shadowed by",
    "silent_deny": "a deny that refused nobody, which is no reason to remove it",
    "relied_on": "not seen, but the server relies on it",
}


def command(
    days: Annotated[int, typer.Option(min=1, max=3650, help="How many days back to look.")] = 90,
    folder: Annotated[
        Path | None, typer.Option(help="The policy's folder; unset: the active version, or that of the settings.")
    ] = None,
    log: LogOption = None,
    server: ServerOption = False,
    format: FormatOption = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Tell which rules and roles nobody needed for some days, as far as the audit log reaches.

    Without --log and --server it reads the server's database directly, on the server's own machine, which is recorded
    as done by system:operator. The exit code is 1 if there is a rule or a role to consider taking away.
    """
    with exits():
        one_door(log, server)
        found = _unused(days, folder, log, server, endpoint)
        refuse_nothing(found.reach)
        if format is Format.JSON:
            show_json(found.model_dump(mode="json"))
        else:
            _tell(found)
    raise typer.Exit(int(found.found))


def _unused(days: int, folder: Path | None, log: str | None, server: bool, endpoint: str | None) -> "Unused":
    from actions.authorization.recorded import Tally
    from actions.authorization.usage import Unused, unused
    from actions.entities import permissions_by_action
    from actions.entities.policy_usage import UNUSED
    from server.cli.policy.asking import files_of
    from server.cli.policy.choice import index_of

    if log is None:
        index_of(folder) if folder else None
        question = {"days": days, "files": files_of(folder) if folder else None}
        return ask_for(UNUSED, question, Unused, server=server, endpoint=endpoint)
    index, tally = index_of(folder), Tally()
    reach = read_log(log, tally, datetime.now(UTC) - timedelta(days=days))
    return unused(index, tally, reach, permissions_by_action(), versions={}, bindings=None)


def _tell(found: "Unused") -> None:
    for line in reach_told(found.reach):
        typer.echo(line)
    if found.redecided:
        told = counted(found.redecided, "decision")
        typer.echo(f"{told} of versions whose text is not at hand: told by the rule that decides them now")
    rules = found.used + len(found.rules)
    typer.echo(f"Policy {short(found.policy)}: {found.used} of {counted(rules, 'rule')} decided something")
    if found.rules:
        show_table(("rule", "text", "", "in force since"), [_rule(idle) for idle in found.rules])
    if found.roles:
        show_table(("role", "held by", "counted", "last (UTC)"), [_role(idle) for idle in found.roles])
        typer.echo("Without these roles nothing that was allowed would have been refused.")


def _rule(idle: "IdleRule") -> tuple[str, ...]:
    said = _WORDS[idle.standing] + (f" {idle.by.place}" if idle.by else "")
    return (
        idle.rule.place,
        " ".join(idle.rule.text.split()),
        said,
        minute(idle.in_force_since) if idle.in_force_since else "not seen",
    )


def _role(idle: "IdleRole") -> tuple[str, ...]:
    held = "not known" if idle.bindings is None else counted(idle.bindings, "binding")
    return idle.role, held, counted(idle.counted, "time"), minute(idle.last)
