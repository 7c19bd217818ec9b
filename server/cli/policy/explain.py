"""``chamberlain policy explain``: why something is allowed or denied, as a page for whoever has to act on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.exits import exits
from server.cli.output import CannotRun, Format, show_json
from server.cli.policy.options import EndpointOption, FolderOption, FormatOption, ServerOption, VersionOption

if TYPE_CHECKING:
    from actions.authorization.explain import Explanation
    from server.cli.policy.door import Server


def command(
    principal: Annotated[
        str,
        typer.Argument(
            help="Roles that are supposed to count, like domain_admin+auditor; anonymous; system:sweeper; and with "
            "--server user:ID."
        ),
    ],
    action: Annotated[str, typer.Argument(help="domain_search_users, or domain:user:search.")],
    scope: Annotated[
        str | None, typer.Argument(help="Where: admin, domain:NAME, project:ID, user:ID. Of a user it has to be said.")
    ] = None,
    folder: FolderOption = None,
    server: ServerOption = False,
    version: VersionOption = None,
    endpoint: EndpointOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Explain why somebody is allowed or denied an action, and what would have to be otherwise.

    The exit code is 0 if it is allowed and 1 if it is not. With --server the policy that decides there is asked, or
    with --folder a candidate against the users who are there.
    """
    from server.cli.policy.door import server_for

    with exits():
        asked = server_for(folder, server, version, endpoint)
        explanation = _asked(principal, action, scope, asked) if asked else _explained(principal, action, scope, folder)
        if format is Format.JSON:
            show_json(explanation.model_dump(mode="json"))
        else:
            from server.cli.policy.explained import show

            show(explanation, _files_shown_as(folder, asked is not None))
    refused = any(note.refuses for note in explanation.notes)
    raise typer.Exit(0 if explanation.allowed and not refused else 1)


def _explained(principal: str, action: str, scope: str | None, folder: Path | None) -> "Explanation":
    """The answer of a folder. Raises ``CannotRun``."""
    from actions.authorization.explain import explain
    from actions.entities import ALL_SPECS
    from server.cli.policy.choice import asked_held, asked_permission, index_of

    if principal.startswith("user:"):
        raise CannotRun("which roles a user holds is known to the server alone: add --server, or name roles instead")
    permission = asked_permission(action)
    if scope is not None and scope.partition(":")[0] != permission.scope:
        raise CannotRun(f"the action takes place in a scope of the type {permission.scope}, and not in {scope!r}")
    index = index_of(folder)
    held = asked_held(principal, index)
    specs = [spec for spec in ALL_SPECS if action in (spec.name, str(spec.permission))]
    return explain(index, held, permission, principal=principal, scope=scope, specs=specs)


def _asked(principal: str, action: str, scope: str | None, server: "Server") -> "Explanation":
    """The answer of the running server. Raises ``CannotRun`` and ``Refused``."""
    from actions.authorization.explain import Explanation

    return server.ask("explain", {"principal": principal, "action": action, "scope": scope}, Explanation)


def _files_shown_as(folder: Path | None, server: bool) -> str:
    """What goes before the name of a policy file: the folder where it lies on this machine."""
    from server.cli.policy.choice import chosen_folder

    return "" if server and folder is None else f"{chosen_folder(folder)}/"
