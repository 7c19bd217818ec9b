"""``chamberlain policy replay``: who would gain or lose what, of all that was decided, were a folder the policy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.exits import exits
from server.cli.output import Format, show_json, show_table
from server.cli.policy.logs import (
    LogOption,
    SinceOption,
    UntilOption,
    ask_for,
    one_door,
    reach_told,
    read_log,
    refuse_nothing,
    time_span,
)
from server.cli.policy.options import EndpointOption, FormatOption, ServerOption
from server.cli.policy.words import counted, minute, more, short

if TYPE_CHECKING:
    from actions.authorization.replay import Replay, ReplayChange

_COLUMNS = ("turn", "times", "last (UTC)", "principal", "action", "scope", "with the roles", "then", "now")


def command(
    folder: Annotated[
        Path | None, typer.Argument(help="The candidate's folder; unset: the one in the settings.")
    ] = None,
    log: LogOption = None,
    server: ServerOption = False,
    since: SinceOption = None,
    until: UntilOption = None,
    changes: Annotated[int, typer.Option(min=1, max=1000, help="How many changes to list.")] = 200,
    format: FormatOption = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Decide again what the audit log tells of, under the policy of a folder.

    Without --log and --server it reads the server's database directly, on the server's own machine, which is recorded
    as done by system:operator. The exit code is 1 if anything would be decided otherwise.
    """
    with exits():
        one_door(log, server)
        found = _replayed(folder, log, server, since, until, changes, endpoint)
        refuse_nothing(found.reach)
        if format is Format.JSON:
            show_json(found.model_dump(mode="json"))
        else:
            _tell(found)
    raise typer.Exit(int(found.differs))


def _replayed(
    folder: Path | None,
    log: str | None,
    server: bool,
    since: str | None,
    until: str | None,
    changes: int,
    endpoint: str | None,
) -> "Replay":
    from actions.authorization.replay import Replay, Replayer
    from actions.entities import permissions_by_action
    from actions.entities.policy_usage import REPLAY
    from server.cli.policy.asking import files_of
    from server.cli.policy.choice import index_of

    begin, end = time_span(since, until)
    index = index_of(folder)
    if log is not None:
        replayer = Replayer(index, permissions_by_action())
        return replayer.answer(read_log(log, replayer, begin, end), at_most=changes)
    question = {
        "files": files_of(folder),
        "since": begin.isoformat() if begin else None,
        "until": end.isoformat() if end else None,
        "changes": changes,
    }
    return ask_for(REPLAY, question, Replay, server=server, endpoint=endpoint)


def _tell(found: "Replay") -> None:
    for line in reach_told(found.reach):
        typer.echo(line)
    for unknown in found.unknown:
        times = counted(unknown.times, "time")
        typer.echo(f"{unknown.action}: {times}, last {minute(unknown.last)}: this program has no such action any more")
    if not found.differs:
        typer.echo(f"Under {short(found.policy)} every one of them is decided as it was.")
        return
    typer.echo(f"Under {short(found.policy)}: {found.lost:,} lost, {found.gained:,} gained, {found.same:,} as before")
    show_table(_COLUMNS, [_row(change) for change in found.changes])
    for line in more(found.more, "--changes lists more of them"):
        typer.echo(line)


def _row(change: "ReplayChange") -> tuple[str, ...]:
    return (
        change.turn,
        f"{change.times:,}",
        minute(change.last),
        change.principal,
        change.action + (f" ({change.uses})" if change.uses else ""),
        change.scope,
        " ".join(change.roles),
        change.then.rule or "no rule",
        change.now.place if change.now else "no rule",
    )
