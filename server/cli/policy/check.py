"""``chamberlain policy check``: what is wrong with a policy folder, and whether a server would take it."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.exits import exits
from server.cli.output import CannotRun, show_json
from server.cli.policy.options import EndpointOption, FolderArgument, ServerOption, VersionOption
from server.cli.policy.words import short

if TYPE_CHECKING:
    from actions.authorization.check_answer import PolicyCheck
    from server.cli.policy.door import Server


class Shape(StrEnum):
    TABLE = "table"
    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


def command(
    folder: FolderArgument = None,
    format: Annotated[
        Shape, typer.Option(help="table shows the lines on a terminal; elsewhere it is text: a line for each finding.")
    ] = Shape.TABLE,
    oracle: Annotated[bool, typer.Option("--oracle", help="Ask stock Casbin about every role and every cell.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings hinder it, too.")] = False,
    server: ServerOption = False,
    version: VersionOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """Check policy files as the server does before they go live.

    Each finding has its file, line and column, and a rule that docs/policy-lint.md describes. The exit code is 1 if the
    policy could not go live; warnings alone do not hinder it.
    """
    from server.cli.policy.door import server_for

    with exits():
        if oracle and (server or endpoint is not None):
            raise CannotRun("--oracle takes its time, which a server does not have: leave out --server")
        asked = server_for(folder, server, version, endpoint)
        answer = _ask(asked) if asked else _check(folder, oracle)
        where = _where(folder, asked is not None, version)
        _show(answer, where, folder, format)
        if answer.failure:
            raise CannotRun(answer.failure)
    raise typer.Exit(1 if not answer.may_go_live or (strict and answer.warnings) else 0)


def _check(folder: Path | None, exhaustive: bool) -> "PolicyCheck":
    """The answer in this process. Raises ``CannotRun``."""
    from actions.authorization.check import check
    from actions.authorization.check_answer import answer_of
    from actions.authorization.source import read_folder
    from actions.entities import whole_vocabulary
    from server.cli.policy.choice import chosen_folder

    source = read_folder(chosen_folder(folder))
    return answer_of(check(source, whole_vocabulary(), exhaustive=exhaustive), source)


def _ask(server: "Server") -> "PolicyCheck":
    """The server's answer. Raises ``CannotRun`` and ``Refused``."""
    from actions.authorization.check_answer import PolicyCheck

    return server.ask("check", {}, PolicyCheck)


def _where(folder: Path | None, server: bool, version: str | None) -> str:
    """What the findings are prefixed with."""
    if server and folder is None:
        return short(version) if version else "active"
    from server.cli.policy.choice import chosen_folder

    return str(chosen_folder(folder))


def _show(answer: "PolicyCheck", where: str, folder: Path | None, format: Shape) -> None:
    from server.cli.output import plain_console
    from server.cli.policy.check_view import show_lines, show_table

    if format is Shape.JSON:
        show_json(answer.model_dump(mode="json"))
    elif format is Shape.SARIF:
        from server.cli.policy.sarif import sarif

        show_json(sarif(answer, Path(where), Path.cwd()))
    elif format is Shape.TABLE and (console := plain_console()).is_terminal:
        show_table(console, where, answer)
    else:
        show_lines(where, answer)
