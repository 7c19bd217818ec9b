"""``chamberlain policy check``: what a server would say of a policy folder before it goes live, in this process."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.exits import exits, settings_or_exit
from server.cli.output import CannotRun, show_json

if TYPE_CHECKING:
    from actions.authorization.check import CheckResult


def command(
    folder: Annotated[Path | None, typer.Argument(help="The policy folder; unset: the one in the settings.")] = None,
    format: Annotated[str, typer.Option(help="text or json.")] = "text",
    oracle: Annotated[bool, typer.Option("--oracle", help="Ask stock Casbin about every role and every cell.")] = False,
) -> None:
    """Check policy files as the server does before they go live.

    Each finding has its file, line and column. The exit code is 1 if the folder could not go live; warnings alone do
    not hinder it.
    """
    chosen = folder or settings_or_exit().policy_dir
    if format not in ("text", "json"):
        raise typer.BadParameter("is text or json", param_hint="--format")
    with exits():
        code = check_folder(chosen, as_json=format == "json", exhaustive=oracle)
    raise typer.Exit(code)


def check_folder(folder: Path, *, as_json: bool, exhaustive: bool) -> int:
    """0: it may go live, warnings or not. 1: it may not. Raises ``CannotRun``."""
    from actions.authorization.check import check
    from actions.authorization.source import read_folder
    from actions.entities import whole_vocabulary

    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise CannotRun(f"{folder} cannot be read as a folder: {error.strerror}") from None
    result = check(read_folder(folder), whole_vocabulary(), exhaustive=exhaustive)
    if as_json:
        show_json(asdict(result))
    else:
        _tell(folder, result)
    return result.exit_code


def _tell(folder: Path, result: "CheckResult") -> None:
    from actions.authorization.rules import Severity

    for finding in result.findings:
        typer.echo(f"{folder / finding.file}{str(finding).removeprefix(finding.file)}")
        typer.echo(f"    {finding.hint}")
    for difference in result.differences:
        typer.echo(f"{folder}: error: stock Casbin answers otherwise: {difference}")
    errors = len(result.errors) + len(result.differences)
    warnings = sum(finding.severity is Severity.WARNING for finding in result.findings)
    told = [_count(errors, "error"), _count(warnings, "warning")]
    if result.compared:
        told.append(f"{result.compared} answers compared with stock Casbin")
    verdict = "may go live" if result.ok else "may not go live"
    typer.echo(f"{folder}: version {result.digest[:12]} {verdict}: {', '.join(told)}")
    if result.failure:
        raise CannotRun(result.failure)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + "s" * (number != 1)
