"""What a start needs before its workers: the schema, a policy in force, and a first superadmin.

``python -m server.setup``, run by the supervisor as a process of its own, so that the supervisor stays small. All of
it may run again: what is there already is left alone.
"""

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

from actions.authorization.source import read_folder
from actions.entities.installation import BOOTSTRAP, RECOVER, Credentials
from actions.entities.installation import SPECS as INSTALLATION_SPECS
from actions.errors import Conflict
from actions.vocabulary import Operation
from server.app import Application, application
from server.http.metrics import Metrics
from server.keyring import KeyRing, KeyRingError
from server.logging import configure
from server.policy import checked
from server.repositories.migrations.migrate import SchemaError, migrate
from server.settings import Settings, load

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
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(told, file, indent=2)
        file.write("\n")
    draft.replace(path)


async def prepare(settings: Settings, migrator_url: str, database_url: str) -> bool:
    """Bring everything into place; returns whether this was the first start. Raises ``SetupFailed``."""
    with _failures():
        KeyRing.load(settings.keys_path)
        await migrate(migrator_url, make_url(database_url).username or "")
        async with application(settings, database_url, Metrics()) as app:
            await _policy_in_force(app)
            return await _bootstrap(app)


async def recover(settings: Settings, database_url: str, username: str) -> Credentials:
    """Give a user a new password and key pair and the superadmin role, as ``system:recovery``."""
    with _failures():
        async with application(settings, database_url, Metrics()) as app:
            await _policy_in_force(app)
            return await _issue(app, RECOVER, "system:recovery", username)


async def _policy_in_force(app: Application) -> None:
    """Load the active version; at the very first start, decide by the folder, and have it published."""
    try:
        if await app.policy.load():
            return
    except ValueError as error:
        # The stored version is not one that this program's vocabulary can speak; the folder may be.
        print(f"the active policy version cannot be used, taking the folder: {error}", file=sys.stderr)  # noqa: T201
    folder = app.settings.policy_dir
    source = await asyncio.to_thread(read_folder, folder)
    try:
        await checked(source, None)
    except ValueError as error:
        raise SetupFailed(f"the policy folder {folder} cannot be used:\n{error}") from error
    await app.policy.use(source)
    await app.publish(source, "the first policy of this installation")


async def _bootstrap(app: Application) -> bool:
    try:
        await _issue(app, BOOTSTRAP, "system:bootstrap", USERNAME)
    except Conflict:
        return False
    return True


async def _issue(app: Application, operation: Operation, principal: str, username: str) -> Credentials:
    """Run an action that issues credentials, and keep them in ``credentials.json``."""
    spec = next(spec for spec in INSTALLATION_SPECS if spec.operation == operation)
    password = secrets.token_urlsafe(18)
    issued: Credentials = await app.internally(spec, principal, {"username": username, "password": password})
    settings = app.settings
    endpoint = f"http://{settings.http_host}:{settings.http_port}"
    await asyncio.to_thread(write_credentials, settings.credentials_path, endpoint, issued, password)
    return issued


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (KeyRingError, SchemaError) as error:
        raise SetupFailed(str(error)) from error


def main() -> int:
    urls = os.environ.pop(MIGRATOR_URL), os.environ.pop(DATABASE_URL)
    settings = load()
    configure("warning")
    try:
        first = asyncio.run(prepare(settings, *urls))
    except SetupFailed as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(json.dumps({"first": first}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
