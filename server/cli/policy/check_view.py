"""A check's answer for people: on a terminal each finding with its line and a mark under the place, elsewhere a line
for each, as editors like to read them."""

from collections.abc import Iterator
from itertools import groupby

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from actions.authorization.check_answer import PolicyCheck, PolicyFinding
from actions.authorization.linting.rule import PAGE
from actions.authorization.rules import Severity
from server.cli.output import unsteered
from server.cli.policy.words import counted, more, short

_COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow"}
_INDENT = 6
_NARROWEST = 20


def show_lines(where: str, answer: PolicyCheck) -> None:
    """One line for each finding, ``file:line:column: severity: message [rule]``, with a hint under it; then the sum."""
    for finding in answer.findings:
        typer.echo(unsteered(f"{where}/{finding}"))
        typer.echo(unsteered(f"    {finding.hint}"))
    for line in _rest(where, answer):
        typer.echo(line)


def show_table(console: Console, where: str, answer: PolicyCheck) -> None:
    """The findings file by file, as wide as the terminal."""
    for file, findings in groupby(answer.findings, key=lambda finding: finding.file):
        console.print(Text(unsteered(f"{where}/{file}"), style="bold underline"))
        for finding in findings:
            _show(console, finding)
        console.print()
    if answer.findings:
        console.print(Text(f"What each rule is about stands in {PAGE}, under its name.", style="dim"))
    for line in _rest(where, answer):
        console.print(Text(line, style="" if answer.may_go_live else "bold"), soft_wrap=True)


def _show(console: Console, finding: PolicyFinding) -> None:
    head = Text.assemble(
        (f"{finding.line}:{finding.column}", "dim"),
        " ",
        (str(finding.severity), _COLOURS[finding.severity]),
        " ",
        unsteered(finding.message),
        " ",
        (f"[{finding.rule_id}]", "cyan"),
    )
    console.print(Padding(head, (0, 0, 0, 2)))
    shown = excerpt(unsteered(finding.text), finding.column, console.width - _INDENT)
    if shown is not None:
        text, before = shown
        console.print(Text(" " * _INDENT + text), no_wrap=True, overflow="crop")
        console.print(Text(" " * (_INDENT + before) + "^", style=_COLOURS[finding.severity]), no_wrap=True)
    console.print(Padding(Text(unsteered(finding.hint), style="dim"), (0, 0, 0, _INDENT)))


def excerpt(text: str, column: int, width: int) -> tuple[str, int] | None:
    """As much of a line as fits into ``width`` cells with the column in it, and how many cells stand before that."""
    if not text.strip() or column > len(text) + 1:
        return None
    width = max(width, _NARROWEST)
    start = 0
    while cell_len(text[start : column - 1]) > width * 2 // 3:
        start += 1
    end = len(text)
    while cell_len(text[start:end]) > width:
        end -= 1
    return text[start:end], cell_len(text[start : column - 1])


def _rest(where: str, answer: PolicyCheck) -> Iterator[str]:
    left = answer.errors + answer.warnings - len(answer.findings) - len(answer.differences)
    yield from (f"{where}: {line}" for line in more(left))
    for difference in answer.differences:
        yield f"{where}: error: stock Casbin answers otherwise: {difference}"
    told = [counted(answer.errors, "error"), counted(answer.warnings, "warning")]
    if answer.compared:
        told.append(f"{answer.compared} answers compared with stock Casbin")
    verdict = "may go live" if answer.may_go_live else "may not go live"
    yield f"{where}: version {short(answer.digest)} {verdict}: {', '.join(told)}"
