"""How a command ends: 2 with one line when it could not run, 1 when the answer was no."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from server.cli.output import CannotRun, Refused, complain, show_json
from server.settings import Settings, SettingsError, load


def command_group(help: str) -> typer.Typer:
    return typer.Typer(help=help, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def settings_or_exit() -> Settings:
    """The settings; a wrong one ends the command with 2 and its name."""
    try:
        return load()
    except SettingsError as error:
        complain(str(error))
        raise typer.Exit(2) from None


@contextmanager
def exits() -> Iterator[None]:
    """How every command ends that does not end well: told on standard error, with 2 if it could not do its work or was
    not understood, with 1 if the answer was no."""
    try:
        yield
    except CannotRun as error:
        complain(str(error))
        raise typer.Exit(2) from None
    except Refused as refused:
        if isinstance(refused.told, str):
            complain(refused.told)
        else:
            show_json(refused.told, err=True)
        raise typer.Exit(refused.code) from None
