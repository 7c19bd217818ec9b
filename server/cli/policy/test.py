"""``chamberlain policy test``: do the rules say what the cases in ``tests/`` want, and what are the cases worth?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.exits import exits
from server.cli.output import CannotRun, Format, plain_console, show_json, unsteered
from server.cli.policy.options import EndpointOption, FolderArgument, FormatOption, ServerOption, VersionOption
from server.cli.policy.words import more, short

if TYPE_CHECKING:
    from rich.console import Console

    from actions.authorization.cases import CaseFailure, CaseResults
    from server.cli.policy.door import Server

_PERCENT = {"min": 0, "max": 100}
_WORDS = {"allow": "allowed", "refuse": "not allowed", "deny": "denied by a rule", "none": "not allowed"}


def command(
    folder: FolderArgument = None,
    coverage: Annotated[bool, typer.Option("--coverage", help="Tell which lines no case reaches.")] = False,
    threshold: Annotated[float, typer.Option(**_PERCENT, help="Percent of the lines that have to be reached.")] = 100,
    mutation: Annotated[
        bool, typer.Option("--mutation", help="Change each line in each way; tell which changes no case notices.")
    ] = False,
    mutation_threshold: Annotated[
        float, typer.Option(**_PERCENT, help="Percent of the changes that have to be noticed.")
    ] = 95,
    server: ServerOption = False,
    version: VersionOption = None,
    endpoint: EndpointOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Ask a policy the cases in its tests/*.yaml.

    The exit code is 1 if a case fails, or if too little is reached or noticed. It is 2 if there are no cases.

    With --server and no FOLDER, the version in force is tested.
    """
    from server.cli.policy.door import server_for

    with exits():
        asked = server_for(folder, server, version, endpoint)
        if asked:
            results = _asked(asked, coverage=coverage, mutation=mutation)
        else:
            results = _run(folder, coverage=coverage, mutation=mutation)
        if format is Format.JSON:
            show_json(results.model_dump(mode="json"))
        else:
            _tell(results, mutation=mutation)
        if results.mistakes:
            raise CannotRun("the cases cannot be read, so none of them was asked")
        if not results.tables:
            raise CannotRun("there are no cases: a policy keeps them in tests/*.yaml")
    enough = (results.coverage is None or results.coverage.meets(threshold)) and (
        results.mutation is None or results.mutation.meets(mutation_threshold)
    )
    raise typer.Exit(0 if results.hold and enough else 1)


def _run(folder: Path | None, *, coverage: bool, mutation: bool) -> "CaseResults":
    from actions.authorization.cases import run_cases
    from actions.authorization.source import read_folder
    from server.cli.policy.choice import chosen_folder, compiled

    chosen = chosen_folder(folder)
    source = read_folder(chosen)
    return run_cases(source, compiled(source, str(chosen)), with_coverage=coverage, with_mutation=mutation)


def _asked(server: "Server", *, coverage: bool, mutation: bool) -> "CaseResults":
    from actions.authorization.cases import CaseResults

    return server.ask("test", {"coverage": coverage, "mutation": mutation}, CaseResults)


def _tell(results: "CaseResults", *, mutation: bool) -> None:
    console = plain_console()
    for mistake in results.mistakes:
        _line(console, f"{mistake.file}:{mistake.line}:{mistake.column}: {mistake.message}", "bold red")
        _line(console, f"    {mistake.hint}")
    for failure in results.failures:
        _tell_failure(console, failure)
    for line in more(results.failed - len(results.failures)):
        _line(console, line)
    if results.coverage is not None:
        for rule in results.coverage.unreached:
            _line(console, f"{rule.place}: no case reaches: {rule.text}", "yellow")
    if results.mutation is not None:
        for mutant in results.mutation.survivors:
            _line(console, f"{mutant.line.place}: no case fails with {mutant.change}: {mutant.line.text}", "yellow")
        for line in more(results.mutation.survived - len(results.mutation.survivors)):
            _line(console, line)
    if results.tables and not results.mistakes:
        _tell_sums(console, results, mutation=mutation)


def _tell_failure(console: "Console", failure: "CaseFailure") -> None:
    decided = f"{failure.rule.place}: {failure.rule.text}" if failure.rule else "no rule speaks of it"
    _line(console, f"{failure.file}:{failure.line}:{failure.column}: {failure.principal}, {failure.cell}", "bold red")
    _line(console, f"    law       {failure.law}")
    if failure.roles != [failure.principal]:
        _line(console, f"    roles     {', '.join(failure.roles) or 'none'}")
    _line(console, f"    expected  {_WORDS[failure.expected]}")
    _line(console, f"    got       {_WORDS[failure.got]}; {decided}")


def _tell_sums(console: "Console", results: "CaseResults", *, mutation: bool) -> None:
    verdict = f"{results.failed} failed" if results.failed else "all hold"
    told = f"version {short(results.digest)}: {results.tables} tables, {results.asked} answers, {verdict}"
    _line(console, told, "green" if results.hold else "red")
    if results.coverage is not None:
        reached = f"{results.coverage.reached} of {results.coverage.lines} lines are reached"
        _line(console, f"coverage: {results.coverage.percent:g}%, {reached}")
    if results.mutation is not None:
        noticed = f"{results.mutation.noticed} of {results.mutation.mutants} changes are noticed"
        _line(console, f"mutation: {results.mutation.percent:g}%, {noticed}")
    elif mutation:
        _line(console, "mutation: not measured while a case fails")


def _line(console: "Console", text: str, style: str = "") -> None:
    console.print(unsteered(text), style=style, markup=False, soft_wrap=True)
