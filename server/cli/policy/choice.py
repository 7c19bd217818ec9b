"""What a command is about: the policy of a folder, an action, roles."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actions.authorization.answers import CountingRole
from actions.authorization.asked import NotUnderstood, permission_of, roles_of
from actions.authorization.explain import stated
from actions.authorization.index import PolicyIndex, compile
from actions.authorization.source import PolicySource, parse, read_folder
from actions.entities import permissions_by_action, whole_vocabulary
from actions.vocabulary import Permission
from server.cli.exits import settings_or_exit
from server.cli.output import CannotRun


def chosen_folder(folder: Path | None) -> Path:
    """The folder that was named, or the one in the settings. Raises ``CannotRun`` if it cannot be read."""
    chosen = folder or settings_or_exit().policy_dir
    try:
        next(chosen.iterdir(), None)
    except OSError as error:
        raise CannotRun(f"{chosen} cannot be read as a folder: {error.strerror}") from None
    return chosen


def index_of(folder: Path | None) -> PolicyIndex:
    """The policy of a folder, ready to be asked. Raises ``CannotRun``, naming the first mistake, if it has some."""
    chosen = chosen_folder(folder)
    return compiled(read_folder(chosen), str(chosen))


def compiled(source: PolicySource, named: str) -> PolicyIndex:
    vocabulary = whole_vocabulary()
    parsed = parse(source, vocabulary)
    if parsed.errors:
        more = f", and {len(parsed.errors) - 1} more" if len(parsed.errors) > 1 else ""
        raise CannotRun(f"{named} has errors: {parsed.errors[0]}{more}. `chamberlain policy check` tells them all")
    return compile(parsed, vocabulary, source.digest)


def asked_permission(text: str) -> Permission:
    """An action by its name or its words. Raises ``CannotRun``."""
    with _understood():
        return permission_of(text, permissions_by_action())


def asked_roles(text: str, index: PolicyIndex) -> frozenset[str]:
    """Roles, joined by ``+``. Raises ``CannotRun``."""
    with _understood():
        return roles_of(text, index.roles)


def asked_held(principal: str, index: PolicyIndex) -> list[CountingRole]:
    """The roles that a principal's name says by itself. Raises ``CannotRun``."""
    with _understood():
        return stated(principal, index)


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except NotUnderstood as error:
        raise CannotRun(str(error)) from None
