"""What the commands that work on the machine itself stand on: the server's own database, and the whole pipeline.

Being here is the proof: whoever reaches the database's socket and the key ring may act as a system principal. The
policy still decides what that principal may do, and what it does is recorded.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

from actions.entities.audit_record import SPECS as AUDIT_SPECS
from actions.entities.audit_record import TAIL, Tailed
from actions.entities.installation import Credentials
from actions.errors import BadRequest, ChamberlainError, Denied, Invalid, Unavailable
from actions.standard import Spec
from server.app import Application, application
from server.cli.output import CannotRun, Refused
from server.cli.serve import database
from server.embedded import urls_of_running
from server.embedded_account import EmbeddedPostgresError
from server.http.metrics import Metrics
from server.keyring import KeyRingError
from server.logging import configure
from server.policy import NoPolicy
from server.settings import Settings
from server.setup import SetupFailed, account, recover
from server.supervisor import StartFailed

T = TypeVar("T")
OPERATOR = "system:operator"
_TAIL = next(spec for spec in AUDIT_SPECS if spec.operation == TAIL)


async def tail(settings: Settings, count: int) -> Tailed:
    """The latest records of the log. That they were read is recorded too, as ``system:operator``."""
    async with _database(settings, start=False) as url, application(settings, url, Metrics()) as app:
        await app.policy.start(settings.policy_dir)
        tailed: Tailed = await app.internally(_TAIL, OPERATOR, {"count": count}, account())
        return tailed


async def follow(settings: Settings, count: int, show: Callable[[Tailed], None]) -> None:
    """The same, and then every further record once it is numbered, until cancelled. It is recorded when it begins and
    ends. Where no server numbers the log, this process does. Being cancelled is how one leaves it."""

    def never_enough(part: Tailed) -> bool:
        show(part)
        return False

    await stream(settings, _TAIL, {"count": count}, never_enough)


async def stream(settings: Settings, spec: Spec, given: Mapping[str, object], is_enough: Callable[[Any], bool]) -> None:
    """An action part by part, as ``system:operator``, until a part is enough."""
    async with _database(settings, start=False) as url, application(settings, url, Metrics()) as app:
        await app.policy.start(settings.policy_dir)
        async with AsyncExitStack() as stack:
            for work in (app.policy.follow(app.channel), app.sequencer.run()):
                stack.callback(asyncio.create_task(work).cancel)
            interrupted: asyncio.CancelledError | None = None
            async with app.following(spec, OPERATOR, given, account()) as parts:
                try:
                    async for part in parts:
                        if is_enough(part):
                            return
                except asyncio.CancelledError as error:
                    interrupted = error  # the reader leaves: whether it had all that it asked for, the stream knows
            if interrupted is not None:
                raise interrupted


@asynccontextmanager
async def as_owner(settings: Settings) -> AsyncIterator[Application]:
    """The whole pipeline, with a hand on the database as the role that owns its tables."""
    async with AsyncExitStack() as stack:
        owner, url = await stack.enter_async_context(_databases(settings, start=False))
        app = await stack.enter_async_context(application(settings, url, Metrics(), owner))
        await app.policy.start(settings.policy_dir)
        keeping_up = asyncio.create_task(app.policy.follow(app.channel))
        stack.callback(keeping_up.cancel)
        yield app


@asynccontextmanager
async def as_operator(settings: Settings) -> AsyncIterator[Application]:
    """The whole pipeline, whether the server runs or not; the embedded database is started if need be."""
    async with _database(settings, start=True) as url, application(settings, url, Metrics()) as app:
        await app.policy.start(settings.policy_dir)
        keeping_up = asyncio.create_task(app.policy.follow(app.channel))
        try:
            yield app
        finally:
            keeping_up.cancel()


async def regain(settings: Settings, username: str) -> Credentials:
    """A way back in for a user, whether the server runs or not; the embedded database is started if need be."""
    async with _database(settings, start=True) as url:
        return await recover(_with_known_port(settings), url, username)


def run(settings: Settings, work: Callable[[], Awaitable[T]]) -> T:
    """Run local work to its end. Raises ``CannotRun`` or ``Refused``, for every cause that a person can remedy."""
    if not _is_there(settings):
        raise CannotRun(
            f"there is no installation here: {settings.keys_path} is missing. This works on the server's own machine, "
            "with the server's settings, once it has been started"
        )
    configure("error")
    try:
        return asyncio.run(_awaited(work))
    except (ChamberlainError, SetupFailed) as error:
        cause = error.__cause__ if isinstance(error, SetupFailed) else error
        if isinstance(cause, Denied):
            raise Refused(f"the policy does not allow it: {cause.cause}") from None
        if isinstance(cause, BadRequest | Invalid):
            raise CannotRun(_with_places(cause)) from None
        if isinstance(cause, ChamberlainError) and not isinstance(cause, Unavailable):
            raise Refused(cause.detail) from None
        raise CannotRun(str(error)) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CannotRun(f"the database cannot be used: {error}. Start the server, to bring it up to date") from None
    except (EmbeddedPostgresError, StartFailed, KeyRingError, NoPolicy, OSError) as error:
        raise CannotRun(str(error)) from None


def _with_places(refusal: BadRequest | Invalid) -> str:
    """What was wrong, and where, as far as the one does not tell the other."""
    faults = [fault for fault in refusal.errors if fault.message not in refusal.detail]
    return " ".join([refusal.detail, *(f"{fault.pointer.removeprefix('/')}: {fault.message}." for fault in faults)])


def _with_known_port(settings: Settings) -> Settings:
    """With port 0, only a running server knows its port; it has noted it in ``credentials.json``."""
    if settings.http_port == 0:
        with suppress(OSError, ValueError, TypeError, KeyError):
            port = urlsplit(json.loads(settings.credentials_path.read_text())["endpoint"]).port
            return settings.model_copy(update={"http_port": port or 0})
    return settings


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def _is_there(settings: Settings) -> bool:
    try:
        return settings.keys_path.exists()
    except OSError as error:
        raise CannotRun(f"{settings.keys_path} cannot be read: {error.strerror}") from None


@asynccontextmanager
async def _database(settings: Settings, *, start: bool) -> AsyncIterator[str]:
    """The database's address for the application's role."""
    async with _databases(settings, start=start) as (_, url):
        yield url


@asynccontextmanager
async def _databases(settings: Settings, *, start: bool) -> AsyncIterator[tuple[str, str]]:
    """The database's addresses, as its owner and as the application: a server of the user's own, the embedded one that
    runs, or, if ``start``, the embedded one, running for as long as this is open."""
    running = None if settings.database_url else await urls_of_running(settings.data_dir)
    if running is not None:
        yield running.migrator, running.application
    elif settings.database_url or start:
        async with database(settings) as urls:
            yield urls
    else:
        raise CannotRun(f"no server runs on {settings.data_dir}. Start it with `chamberlain serve`")
