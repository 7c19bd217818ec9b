"""What a start needs before its workers: the schema, a policy in force, keys to sign with, and a first superadmin.

``python -m server.setup``, run by the supervisor as a process of its own, so that the supervisor stays small. All of
it may run again: what is there already is left alone.
"""

import asyncio
import contextlib
import json
import os
import pwd
import secrets
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from actions.authorization.signing import read_signed
from actions.entities.installation import BOOTSTRAP, RECOVER, Credentials
from actions.entities.installation import SPECS as INSTALLATION_SPECS
from actions.errors import ChamberlainError, Conflict
from actions.vocabulary import Operation
from server.app import Application, application
from server.folder_memory import FolderMemory
from server.http.metrics import Metrics
from server.keyring import KeyRing, KeyRingError
from server.logging import configure
from server.policy import NoPolicy
from server.repositories.audit_keys import has_key_work
from server.repositories.installation import has_users
from server.repositories.migrations.migrate import SchemaError, migrate
from server.repositories.signing_keys import has_key_made_since
from server.settings import Settings, load, shown_address
from server.sweeper import RENEWING, RENEWING_AUDIT_KEY, SWEEPER

MIGRATOR_URL = "CHAMBERLAIN_SETUP_MIGRATOR_URL"
DATABASE_URL = "CHAMBERLAIN_SETUP_DATABASE_URL"
USERNAME = "root"


class SetupFailed(Exception):
    """The server cannot start on this; the message says why."""


def write_credentials(path: Path, endpoint: str, issued: Credentials, password: str) -> None:
    """Write ``credentials.json`` in one step, readable by its owner alone."""
    told = {
        "endpoint": endpoint,
        "access_key": issued.access_key,
        "secret_key": issued.secret_key,
        "username": issued.username,
        "password": password,
    }
    _replace(path, told)


def _replace(path: Path, told: dict[str, str]) -> None:
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(told, file, indent=2)
        file.write("\n")
    draft.replace(path)


async def prepare(settings: Settings, migrator_url: str, database_url: str) -> bool:
    """Bring everything into place; returns whether this was the first start. Raises ``SetupFailed``."""
    with _failures():
        KeyRing.load(settings.keys_path)
        _follow_port(settings)
        await migrate(migrator_url, make_url(database_url).username or "")
        async with application(settings, database_url, Metrics()) as app:
            await _policy_in_force(app)
            await _signing_keys(app)
            return await _bootstrap(app)


async def recover(settings: Settings, database_url: str, username: str) -> Credentials:
    """Give a user a new password and key pair and the superadmin role, as ``system:recovery``."""
    with _failures():
        async with application(settings, database_url, Metrics()) as app:
            await _policy_in_force(app)
            return await _issue(app, RECOVER, "system:recovery", username)


async def _policy_in_force(app: Application) -> None:
    """Load the active version. Where there is none, or none that this program can use, have the folder published.

    What cannot be published, because it is faulty or was left behind, is no reason to stay down when there was an
    active version before: something stands in for it, here and in every worker.
    """
    folder = app.settings.policy_dir
    reason, replacing = "the first policy of this installation", False
    try:
        if await app.policy.load():
            return
    except ValueError as error:
        print(f"the active policy version cannot be used: {error}", file=sys.stderr)  # noqa: T201
        reason, replacing = "this program cannot use the version that was active", True
    source = await asyncio.to_thread(read_signed, folder)
    try:
        await app.policy.check_folder(source)
        await app.policy.use(source)
        await app.publish(source, reason, FolderMemory(app.settings.data_dir).recall())
    except (ValueError, Conflict) as error:
        if replacing:
            return await app.policy.stand_in(folder)
        if isinstance(error, Conflict):
            raise
        findings = "; ".join(str(error).splitlines())
        raise SetupFailed(f"the policy folder {folder} cannot be used: {findings}") from error


async def _signing_keys(app: Application) -> None:
    """Have keys made where there are none. What is merely old is renewed by the housekeeper."""
    if await has_key_work(app.database):
        try:
            await app.internally(RENEWING_AUDIT_KEY, SWEEPER, {})
        except Conflict as error:  # what is recorded waits for its proof; /readyz says so
            print(f"the audit log cannot be signed: {error.detail}", file=sys.stderr)  # noqa: T201
    if not await has_key_made_since(app.database, datetime.fromtimestamp(0, UTC)):
        await app.internally(RENEWING, SWEEPER, {})


async def _bootstrap(app: Application) -> bool:
    """Make the first superadmin if there is nobody yet. What an earlier first start left half done is finished.

    A mark stands in the data folder from before the superadmin is made until its credentials are written. Whoever
    finds one beside a superadmin knows that nobody ever saw the credentials, and issues new ones.
    """
    mark = app.settings.data_dir / "first-start"
    cut_off = mark.exists()
    if not cut_off and await has_users(app.database):
        return False
    _make_durable(mark)
    try:
        await _issue(app, BOOTSTRAP, "system:bootstrap", USERNAME)
    except Conflict:
        if not cut_off:  # another server on the same database was quicker
            mark.unlink()
            return False
        await _issue(app, RECOVER, "system:recovery", USERNAME)
    mark.unlink()
    return True


def _make_durable(mark: Path) -> None:
    mark.touch(mode=0o600)
    folder = os.open(mark.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _follow_port(settings: Settings) -> None:
    """Where ``credentials.json`` names this server at another port, name the present one."""
    path = settings.credentials_path
    here = f"http://{shown_address(settings.http_host, settings.http_port)}"
    try:
        told = json.loads(path.read_text())
        host, _, port = told["endpoint"].rpartition(":")
        moved = host == here.rpartition(":")[0] and told["endpoint"] != here and port.isdecimal()
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return  # none there yet, or one that somebody wrote otherwise
    if moved:
        _replace(path, {**told, "endpoint": here})


def account() -> str:
    """The operating system's account that this process runs as: who it was, in the records of what is done locally."""
    try:
        return f"os:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # an account without a name, as in some containers
        return f"os:{os.getuid()}"


async def _issue(app: Application, operation: Operation, principal: str, username: str) -> Credentials:
    """Run an action that issues credentials, and keep them in ``credentials.json``."""
    spec = next(spec for spec in INSTALLATION_SPECS if spec.operation == operation)
    password = secrets.token_urlsafe(18)
    issued: Credentials = await app.internally(spec, principal, {"username": username, "password": password}, account())
    settings = app.settings
    endpoint = f"http://{shown_address(settings.http_host, settings.http_port)}"
    await asyncio.to_thread(write_credentials, settings.credentials_path, endpoint, issued, password)
    return issued


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """What may well go wrong, said in one line. Anything else is a fault of the program and keeps its traceback."""
    try:
        yield
    except (KeyRingError, SchemaError, NoPolicy) as error:
        raise SetupFailed(str(error)) from error
    except ChamberlainError as error:
        raise SetupFailed(error.detail) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        raise SetupFailed(f"the database cannot be used: {cause}") from error
    except OSError as error:
        what = error.filename or "the database cannot be reached"
        raise SetupFailed(f"{what}: {error.strerror}") from error


def main() -> int:
    urls = os.environ.pop(MIGRATOR_URL), os.environ.pop(DATABASE_URL)
    settings = load()
    configure("warning")
    try:
        first = asyncio.run(prepare(settings, *urls))
    except SetupFailed as error:
        print(json.dumps({"failed": str(error)}))  # noqa: T201
        return 1
    print(json.dumps({"first": first}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
