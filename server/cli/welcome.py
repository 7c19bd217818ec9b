"""What ``chamberlain serve`` says when it is ready: where it serves, the first credentials, and what to try next.

The commands work as they are printed: from the same folder, in another terminal that knows none of this one's settings.
"""

import json
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import typer

from server.cli.output import show_credentials
from server.settings import Settings


def welcome(settings: Settings, http: str, metrics: str, *, first: bool) -> None:
    """``http`` and ``metrics`` are ``host:port`` as a client would write them."""
    typer.echo(f"{typer.style('Chamberlain', bold=True)} serves http://{http}, metrics at http://{metrics}/metrics")
    path = settings.credentials_path
    if first:
        typer.echo(f"\nThe first superadmin, shown this once and kept in {path}:")
        show_credentials(path)
    typer.echo("\nTry, in another terminal:")
    for command in next_commands(settings, f"http://{http}"):
        typer.echo(f"  {command}")
    if settings.database_url is not None:
        typer.echo("The last one needs CHAMBERLAIN_DATABASE_URL, too, as it is here.")


def next_commands(settings: Settings, endpoint: str) -> list[str]:
    """Three commands to try, with whatever a terminal without settings needs to find this server."""
    local = {}
    if settings.data_dir != Settings.model_fields["data_dir"].get_default(call_default_factory=True):
        local["CHAMBERLAIN_DATA_DIR"] = str(settings.data_dir.absolute())
    remote = dict(local)
    if _endpoint_in(settings.credentials_path) != endpoint:
        remote["CHAMBERLAIN_ENDPOINT"] = endpoint
    if settings.key_file is not None:
        local["CHAMBERLAIN_KEY_FILE"] = str(settings.key_file.absolute())
    return [
        _line(remote, "api", "GET", "/auth/whoami"),
        _line(remote, "api", "GET", "/admin/users", "--filter", '{"username": {"equals": "root"}}'),
        _line(local, "audit", "tail"),
    ]


def _endpoint_in(credentials: Path) -> object:
    with suppress(OSError, ValueError, TypeError, KeyError):  # the command itself will say what is wrong with the file
        return json.loads(credentials.read_text())["endpoint"]
    return None


def _line(environment: dict[str, str], *arguments: str) -> str:
    settings = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join([*settings, shlex.join([_program(), *arguments])])


def _program() -> str:
    """This program as a shell in the same folder finds it: by its bare name if that leads here, else by its path."""
    called = Path(sys.argv[0]).absolute()
    found = shutil.which("chamberlain")
    if not called.is_file() or (found and called.samefile(found)):
        return "chamberlain"
    if called.parent == Path.cwd():
        return f"./{called.name}"
    return str(called.relative_to(Path.cwd()) if Path.cwd() in called.parents else called)
