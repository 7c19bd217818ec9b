"""How a command ends: 2 with one line when it could not run, 1 when the answer was no."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from server.cli.output import CannotRun, complain
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
    """What a command cannot do ends in one line on standard error and with 2."""
    try:
        yield
    except CannotRun as error:
        complain(str(error))
        raise typer.Exit(2) from None


@contextmanager
def local_exits() -> Iterator[None]:
    """The same for what works on the machine itself, where the pipeline may also say no: that ends with 1."""
    from server.cli.local import Refused

    try:
        with exits():
            yield
    except Refused as error:
        complain(str(error))
        raise typer.Exit(1) from None
