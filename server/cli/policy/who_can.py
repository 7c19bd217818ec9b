"""``chamberlain policy who-can``: which roles may do something; on the server, which people, there and now."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.exits import exits
from server.cli.output import CannotRun, Format, plain_console, show_json
from server.cli.policy.options import EndpointOption, FolderOption, FormatOption, ServerOption, VersionOption

if TYPE_CHECKING:
    from actions.authorization.analysis import WhoCan
    from server.cli.policy.door import Server


def command(
    action: Annotated[str, typer.Argument(help="For example domain_search_users, or domain:user:search.")],
    scope: Annotated[
        str | None, typer.Argument(help="With --server: admin, domain:NAME, project:ID or user:ID, and who may there.")
    ] = None,
    folder: FolderOption = None,
    server: ServerOption = False,
    version: VersionOption = None,
    endpoint: EndpointOption = None,
    limit: Annotated[int, typer.Option(min=1, help="The most people to list.")] = 100,
    format: FormatOption = Format.TABLE,
) -> None:
    """Tell who may do something, and by which rule.

    The exit code is 0 if somebody may and 1 if nobody may.
    """
    from server.cli.policy.door import server_for

    with exits():
        asked = server_for(folder, server, version, endpoint)
        answer = _people(action, scope, asked, limit) if asked else _roles(action, scope, folder)
        if format is Format.JSON:
            show_json(answer.model_dump(mode="json"))
        else:
            _show(answer)
    raise typer.Exit(0 if answer.anybody else 1)


def _roles(action: str, scope: str | None, folder: Path | None) -> "WhoCan":
    from actions.authorization.analysis import who_can
    from server.cli.policy.choice import asked_permission, index_of

    if scope is not None:
        raise CannotRun("a folder knows roles and no people; who may in one scope the server tells: add --server")
    return who_can(index_of(folder), asked_permission(action))


def _people(action: str, scope: str | None, server: "Server", limit: int) -> "WhoCan":
    """Every page of the answer, up to ``limit`` people, as one."""
    from actions.authorization.analysis import WhoCan

    question = {"action": action, "scope": scope}
    found: WhoCan | None = None
    while True:
        wanted = limit - len(found.people) if found else limit
        turn = {**question, "limit": min(wanted, 100), "cursor": found.next_cursor if found else None}
        page = server.ask("who_can", turn, WhoCan)
        found = page if found is None else page.model_copy(update={"people": [*found.people, *page.people]})
        if found.next_cursor is None or len(found.people) >= limit:
            return found


def _show(answer: "WhoCan") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from actions.authorization.answers import Verdict
    from server.cli.policy.marks import legend, line, mark, plain

    console = plain_console()
    edges = box.SIMPLE_HEAD if console.is_terminal else None
    roles = Table("", "role", "held in", "by", box=edges)
    for role in answer.roles:
        if role.verdict is not Verdict.NONE:
            held = "the server itself" if role.system else ", ".join(role.held_in) or "nowhere"
            quiet = "" if role.counts else "dim strike"
            roles.add_row(mark(role.verdict), plain(role.role, quiet), plain(held, "dim"), line(role.rule))
    console.print(Text.assemble(("Who can ", "bold"), (str(answer.cell), "bold cyan")))
    if roles.row_count:
        console.print(roles)
    else:
        console.print(plain("  No line of the policy speaks of it.", "dim"))
    if answer.scope is not None:
        people = Table("", "user", "name", "roles that count", "by", box=edges)
        for one in answer.people:
            named = plain(one.username or "", "bold")
            people.add_row(
                mark(one.verdict), plain(str(one.user_id), "dim"), named, plain(", ".join(one.roles)), line(one.rule)
            )
        console.print(Text.assemble(("\nIn ", "bold"), (answer.scope, "bold cyan")))
        console.print(people if answer.people else plain("  Nobody of whom a rule speaks.", "dim"))
        if answer.next_cursor:
            console.print(plain("  ... and more: see --limit.", "dim"))
    console.print(legend())
    if any(role.verdict is not Verdict.NONE and not role.counts for role in answer.roles):
        console.print(plain("A role that is struck out can be held nowhere where it would count.", "dim"))
