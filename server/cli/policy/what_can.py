"""``chamberlain policy what-can``: all that roles may do; on the server, all that somebody may, and where."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.exits import exits
from server.cli.output import CannotRun, Format, plain_console, show_json
from server.cli.policy.options import EndpointOption, FolderOption, FormatOption, ServerOption, VersionOption

if TYPE_CHECKING:
    from actions.authorization.analysis import WhatCan
    from server.cli.policy.door import Server


def command(
    principal: Annotated[
        str, typer.Argument(help="Roles joined by +; with --server also user:ID, system:NAME or anonymous.")
    ],
    scope: Annotated[
        str | None,
        typer.Argument(help="A type of scope; with --server also one: admin, domain:NAME, project:ID or user:ID."),
    ] = None,
    folder: FolderOption = None,
    server: ServerOption = False,
    version: VersionOption = None,
    endpoint: EndpointOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Tell what somebody may do, and by which rules.

    The exit code is 0 if it is anything at all and 1 if it is nothing.
    """
    from server.cli.policy.door import server_for

    with exits():
        asked = server_for(folder, server, version, endpoint)
        answer = _held(principal, scope, asked) if asked else _supposed(principal, scope, folder)
        if format is Format.JSON:
            show_json(answer.model_dump(mode="json"))
        else:
            _show(answer)
    raise typer.Exit(0 if answer.anything else 1)


def _supposed(principal: str, scope: str | None, folder: Path | None) -> "WhatCan":
    from actions.authorization.analysis import what_roles_can
    from actions.vocabulary import ScopeType
    from server.cli.policy.choice import asked_roles, index_of

    if ":" in principal or (scope is not None and scope not in [*ScopeType]):
        raise CannotRun("a folder knows roles and types of scope; of people and places the server tells: add --server")
    index = index_of(folder)
    return what_roles_can(index, principal, asked_roles(principal, index), [scope] if scope else [*ScopeType])


def _held(principal: str, scope: str | None, server: "Server") -> "WhatCan":
    """Every page of the answer as one."""
    from actions.authorization.analysis import WhatCan
    from actions.vocabulary import ScopeType

    question: dict[str, Any] = {"principal": principal, "limit": 100}
    question["scope_type" if scope in [*ScopeType] and scope != ScopeType.ADMIN else "scope"] = scope
    found = server.ask("what_can", question, WhatCan)
    while found.next_cursor is not None:
        page = server.ask("what_can", {**question, "cursor": found.next_cursor}, WhatCan)
        found = page.model_copy(update={"reaches": [*found.reaches, *page.reaches]})
    return found


def _show(answer: "WhatCan") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from server.cli.policy.marks import legend, line, mark, plain

    console = plain_console()
    edges = box.SIMPLE_HEAD if console.is_terminal else None
    if not answer.in_force:
        console.print(plain(f"{answer.principal} cannot sign in now, and so does nothing.", "bold red"))
    for reach in answer.reaches:
        where = f"in {reach.scope}" if reach.scope else "wherever that counts"
        roles = ", ".join(reach.roles) or "no role"
        console.print(Text.assemble(("As ", "bold"), (roles, "bold cyan"), (f", {where}", "bold")))
        cells = Table("", "scope", "entity", "operation", "by", box=edges)
        before = ("", "")
        for one in reach.cells:
            scope, entity = one.cell.scope, one.cell.entity
            cells.add_row(
                mark(one.verdict),
                plain(scope if scope != before[0] else "", "bold"),
                plain(entity if (scope, entity) != before else ""),
                plain(one.cell.operation),
                line(one.rule),
            )
            before = (scope, entity)
        console.print(cells if reach.cells else plain("  Nothing.", "dim"))
    if not answer.reaches:
        console.print(plain("No role is held anywhere.", "dim"))
    console.print(legend())
