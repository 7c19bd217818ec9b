"""``chamberlain``: the command line. Each command imports what it needs when it runs, so that help is quick."""

import asyncio
import sys

import typer

from server.settings import Settings, SettingsError, load

app = typer.Typer(
    name="chamberlain",
    help="A manager API server in which nothing happens that a policy did not allow and the audit log did not record.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def about() -> None:
    """Keeps ``chamberlain`` a group of commands, however few there are."""


def settings_or_exit() -> Settings:
    """The settings; a wrong one ends the command with 2 and its name."""
    try:
        return load()
    except SettingsError as error:
        typer.echo(f"chamberlain: {error}", err=True)
        raise typer.Exit(2) from None


@app.command()
def serve() -> None:
    """Start the server: PostgreSQL if none is given, the workers, REST and metrics. Ctrl-C stops it all."""
    from server.cli.serve import serve as run

    sys.exit(asyncio.run(run(settings_or_exit())))


def main() -> None:
    app()
