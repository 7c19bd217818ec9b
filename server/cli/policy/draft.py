"""``chamberlain policy draft``: the smallest policy folder that allows what the log shows was used."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.exits import exits
from server.cli.output import CannotRun, Format, show_json
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
from server.cli.policy.words import counted, short

if TYPE_CHECKING:
    from actions.authorization.draft import PolicyDraft


def command(
    out: Annotated[Path, typer.Option(help="The folder to write; it must be empty or not exist.")],
    folder: Annotated[
        Path | None,
        typer.Option(help="The policy it is made from; unset: the active version, or that of the settings."),
    ] = None,
    log: LogOption = None,
    server: ServerOption = False,
    since: SinceOption = None,
    until: UntilOption = None,
    format: FormatOption = Format.TABLE,
    endpoint: EndpointOption = None,
) -> None:
    """Draft the smallest policy that allows what the audit log shows was used, and nothing that is refused today.

    Read every line of it: what happens more seldom than the log reaches back is not in it. Without --log and --server
    it reads the server's database directly, on the server's own machine, which is recorded as done by system:operator.
    """
    with exits():
        one_door(log, server)
        _refuse_full(out)
        drafted = _drafted(folder, log, server, since, until, endpoint)
        refuse_nothing(drafted.reach)
        _write(out, drafted.files)
        if format is Format.JSON:
            show_json(drafted.model_dump(mode="json"))
        else:
            _tell(out, drafted)


def _drafted(
    folder: Path | None, log: str | None, server: bool, since: str | None, until: str | None, endpoint: str | None
) -> "PolicyDraft":
    from actions.authorization.draft import PolicyDraft, draft
    from actions.authorization.recorded import Tally
    from actions.authorization.source import read_folder
    from actions.entities import permissions_by_action
    from actions.entities.policy_usage import DRAFT
    from server.cli.policy.asking import files_of
    from server.cli.policy.choice import chosen_folder, compiled, index_of

    begin, end = time_span(since, until)
    if log is not None:
        chosen = chosen_folder(folder)
        source, tally = read_folder(chosen), Tally()
        index = compiled(source, str(chosen))
        reach = read_log(log, tally, begin, end)
        return draft(index, source, tally, reach, permissions_by_action())
    if folder:
        index_of(folder)
    question = {
        "files": files_of(folder) if folder else None,
        "since": begin.isoformat() if begin else None,
        "until": end.isoformat() if end else None,
    }
    return ask_for(DRAFT, question, PolicyDraft, server=server, endpoint=endpoint)


def _refuse_full(out: Path) -> None:
    """A draft never overwrites anything. Raises ``CannotRun``."""
    try:
        if out.exists() and (not out.is_dir() or next(out.iterdir(), None) is not None):
            raise CannotRun(f"--out: {out} is there already and not an empty folder")
    except OSError as error:
        raise CannotRun(f"--out: {out} cannot be read: {error.strerror}") from None


def _write(out: Path, files: Mapping[str, str]) -> None:
    from actions.authorization.source import POLICY_FILES

    if stray := files.keys() - set(POLICY_FILES):
        raise CannotRun(f"the answer has a file that is no policy file: {sorted(stray)[0]!r}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with (out / name).open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
    except OSError as error:
        raise CannotRun(f"--out: {out} cannot be written: {error.strerror}") from None


def _tell(out: Path, drafted: "PolicyDraft") -> None:
    for line in reach_told(drafted.reach):
        typer.echo(line)
    if drafted.left_out:
        told = counted(drafted.left_out, "decision")
        typer.echo(f"{told} left out: allowed once, and refused by {short(drafted.policy)} or unknown to this program")
    typer.echo(
        f"{out}: version {short(drafted.digest)}, from {short(drafted.policy)}: {counted(drafted.allows, 'cell')} "
        f"allowed to a role where there were {drafted.allowed_before:,}, {counted(drafted.denies, 'deny line')} kept"
    )
