"""``chamberlain policy matrix``: every role by everything that may be done, one mark a cell; on the server, the people
of a scope."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.exits import exits
from server.cli.output import CannotRun, Format, plain_console, show_json
from server.cli.policy.options import EndpointOption, FolderOption, FormatOption, ServerOption, VersionOption

if TYPE_CHECKING:
    from actions.authorization.analysis import Matrix
    from server.cli.policy.door import Server

_WIDEST = 40
"""Columns that a person can follow with the eye; more are for programs."""


def command(
    role: Annotated[list[str] | None, typer.Option(help="Only this role; can be given several times.")] = None,
    entity: Annotated[str | None, typer.Option(help="Only what is done to this, for example user.")] = None,
    scope: Annotated[
        str | None,
        typer.Option(help="Only scopes of this type; with --server, domain:NAME and the like: the people there."),
    ] = None,
    folder: FolderOption = None,
    server: ServerOption = False,
    version: VersionOption = None,
    endpoint: EndpointOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="The most people to list.")] = 20,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show who may do what at a glance: a row for each thing that can be done, a column for each role."""
    from server.cli.policy.door import server_for

    with exits():
        asked = server_for(folder, server, version, endpoint)
        roles = role or []
        answer = _asked(roles, entity, scope, asked, limit) if asked else _made(roles, entity, scope, folder)
        if format is Format.JSON:
            show_json(answer.model_dump(mode="json"))
        else:
            _show(answer)


def _made(roles: list[str], entity: str | None, scope: str | None, folder: Path | None) -> "Matrix":
    from actions.authorization.analysis import matrix
    from actions.vocabulary import ScopeType
    from server.cli.policy.choice import asked_roles, index_of

    if scope is not None and scope not in [*ScopeType]:
        raise CannotRun(f"'{scope}' is no type of scope; of the people in one scope the server tells: add --server")
    index = index_of(folder)
    if entity is not None and entity not in {cell.entity for cell in index.vocabulary}:
        raise CannotRun(f"there is no entity '{entity}'; `chamberlain actions` lists them")
    named = [one for text in roles for one in sorted(asked_roles(text, index))]
    columns = {one: frozenset((one,)) for one in named or index.roles}
    return matrix(index, columns, scope_types=[scope] if scope else [*ScopeType], entity=entity)


def _asked(roles: list[str], entity: str | None, scope: str | None, server: "Server", limit: int) -> "Matrix":
    from actions.authorization.analysis import Matrix
    from actions.vocabulary import ScopeType

    question: dict[str, Any] = {"entity": entity, "roles": roles, "limit": limit}
    question["scope_type" if scope in [*ScopeType] else "scope"] = scope
    return server.ask("matrix", question, Matrix)


def _show(answer: "Matrix") -> None:
    from rich.text import Text

    from actions.authorization.answers import Verdict
    from server.cli.policy.marks import MARKS, legend, mark, plain, stairs

    if len(answer.columns) > _WIDEST:
        raise CannotRun(f"{len(answer.columns)} columns are too many to look at: name some by --role, or use json")
    console = plain_console()
    entities = max((len(row.cell.entity) for row in answer.rows), default=0)
    operations = max((len(row.cell.operation) for row in answer.rows), default=0)
    indent = entities + operations + 6
    if answer.scope:
        console.print(Text.assemble(("The people of ", "bold"), (answer.scope, "bold cyan")))
    for head in stairs([column.username or column.name for column in answer.columns], indent):
        console.print(head, no_wrap=True, soft_wrap=True)
    before = ("", "")
    for row in answer.rows:
        scope, entity = row.cell.scope, row.cell.entity
        if scope != before[0]:
            console.print(Text(scope, "bold cyan"))
        shown = entity if (scope, entity) != before else ""
        label = f"  {shown:<{entities}}  {row.cell.operation:<{operations}}  "
        console.print(
            Text.assemble(plain(label), Text(" ").join(mark(verdict) for verdict in row.verdicts)),
            no_wrap=True,
            soft_wrap=True,
        )
        before = (scope, entity)
    counted = Counter(verdict for row in answer.rows for verdict in row.verdicts)
    totals = Text("   ").join(Text(f"{counted[one]} {MARKS[one][0]}", MARKS[one][1]) for one in Verdict)
    console.print(Text.assemble("\n", legend(), "      ", totals))
    if answer.next_cursor:
        console.print(plain("There are more people than are shown: see --limit.", "dim"))
