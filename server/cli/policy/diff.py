"""``chamberlain policy diff``: what changes from one policy to another, which lines make it so, and whom it touches."""

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.exits import exits, settings_or_exit
from server.cli.policy.options import EndpointOption, FolderOption, ServerOption

if TYPE_CHECKING:
    from actions.authorization.difference_answer import PolicyDifference
    from server.cli.policy.revisions import Named


class DiffFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


class FailOn(StrEnum):
    GAIN = "gain"
    LOSS = "loss"
    ANY = "any"


_WORD = "a folder, a git revision, a stored version's digest, or 'active'"


def command(
    old: Annotated[str, typer.Argument(help=f"The policy to begin with: {_WORD}.")],
    new: Annotated[
        str | None, typer.Argument(help="The policy to compare it with, named alike; unset: the folder of --folder.")
    ] = None,
    folder: FolderOption = None,
    server: ServerOption = False,
    endpoint: EndpointOption = None,
    fail_on: Annotated[
        FailOn | None, typer.Option(help="End with 1 only if somebody gains, or loses, or at any difference.")
    ] = None,
    format: Annotated[DiffFormat, typer.Option(help="table, json, or markdown for a comment.")] = DiffFormat.TABLE,
) -> None:
    """Tell what each role may do under one policy and not under the other, by the line that makes it so.

    A name is taken for a folder if there is one; then for a version that the server keeps, if it is 'active' or a
    digest of 64 digits, or with --server the beginning of one, 8 digits or more; and then for a git revision, in which
    the policy stands at the place of --folder, or where the revision says: HEAD:policies. The exit code is 0 without a
    difference, or with none that --fail-on names, and 1 otherwise.
    """
    from server.cli.policy.revisions import named, of_folder
    from server.cli.policy.stored import beginning_with

    place = folder or settings_or_exit().policy_dir
    asks = server or endpoint is not None
    with exits():
        lookup = partial(beginning_with, endpoint=endpoint) if asks else None
        before = named(old, place, lookup)
        after = of_folder(place) if new is None else named(new, place, lookup)
        found = _compared(before, after, asks=asks, endpoint=endpoint)
        _show(found, before.name, after.name, format)
    raise typer.Exit(_fails(found, fail_on))


def _compared(old: "Named", new: "Named", *, asks: bool, endpoint: str | None) -> "PolicyDifference":
    """By the server if it is to be asked, or if only it has one of them. What is at hand is compiled in any case: its
    mistakes are told here, with their places. Raises ``CannotRun`` and ``Refused``."""
    from actions.authorization.difference import difference
    from actions.authorization.difference_answer import PolicyDifference
    from server.cli.policy.asking import ask
    from server.cli.policy.choice import compiled

    indexes = [compiled(one.source, one.name) for one in (old, new) if one.source is not None]
    if not asks and len(indexes) == 2:
        return difference(*indexes)
    question = {"old": _question(old), "new": _question(new)}
    return ask("POST", "/admin/policies/diff", question, PolicyDifference, endpoint)


def _question(asked: "Named") -> dict[str, Any]:
    if asked.source is not None:
        return {"files": {name: content.decode() for name, content in asked.source.files.items()}}
    return {} if asked.version is None else {"version": asked.version}


def _show(found: "PolicyDifference", old: str, new: str, format: DiffFormat) -> None:
    from server.cli.output import show_json
    from server.cli.policy import diff_table
    from server.cli.policy.diff_markdown import markdown

    match format:
        case DiffFormat.TABLE:
            diff_table.show(found, old, new)
        case DiffFormat.JSON:
            show_json(found.model_dump(mode="json"))
        case DiffFormat.MARKDOWN:
            typer.echo(markdown(found, old, new), nl=False)


def _fails(found: "PolicyDifference", on: FailOn | None) -> int:
    match on:
        case FailOn.GAIN:
            return int(found.widens)
        case FailOn.LOSS:
            return int(found.narrows)
        case _:
            return int(not found.is_empty)
