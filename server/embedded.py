"""The embedded PostgreSQL: a private server in the data folder, for whoever has no server of their own.

It is reached over a Unix socket in a folder of mode 0700 and nowhere else, and it believes the kernel about who calls
(``peer`` authentication with a map): there is no password, and no account but ours gets in. The server is a child of
this process in a session of its own. If this process is killed, the next start on the same folder stops what was left;
if the server dies, ``keep`` starts it again.

Must not know tables, migrations, or what the roles may touch: a migration grants that. Where the server lives and as
whom it runs is ``server.embedded_account``.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

from server.embedded_account import (
    ACCOUNT,
    MAJOR,
    SYSTEM_DIR,
    EmbeddedPostgresError,
    Place,
    locked,
    place_for_root,
    place_for_user,
)
from server.embedded_socket import PORT, find_socket_dir, make_socket_dir, remove_socket_dir

__all__ = [
    "APPLICATION",
    "DATABASE",
    "MIGRATOR",
    "DatabaseUrls",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "urls_of_running",
]

MIGRATOR = "chamberlain_migrator"
APPLICATION = "chamberlain_app"
DATABASE = "chamberlain"

_SUPERUSER = "postgres"
_LARGEST_LOG = 10 * 1024 * 1024  # bytes
_PATIENCE = 20.0  # seconds for a fast shutdown, before an immediate one
_POLL = 0.01  # seconds
_WATCH = 0.1  # seconds between two looks whether it lives
_PAUSE = 1.0  # seconds until a server that did not start is tried again

# Written into postgresql.conf when the cluster is made, where an operator may change them.
_PREFERENCES = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "wal_compression": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Given on the command line at every start, where no file can undo them. Statements, parameters and the details of an
# error hold people's data and secrets, so the log gets none of them; the client gets the whole error anyway.
_LAWS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_checkpoints": "off",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """One database, as its two roles see it. Neither URL holds a secret.

    ``asyncpg.connect`` takes a URL as it is. SQLAlchemy's form names the driver:
    ``url.replace("postgresql://", "postgresql+asyncpg://", 1)``.
    """

    migrator: str
    """Owns the database and may define tables."""
    application: str
    """May connect; what else it may do, the migrator grants table by table."""


class EmbeddedPostgres:
    """One embedded server. ``start`` and ``stop`` may be awaited on different event loops.

    As root, the server runs as the system account ``account`` and lives in ``system_dir``; otherwise it runs as the
    current user and lives in ``data_dir``.
    """

    def __init__(self, data_dir: Path, *, system_dir: Path = SYSTEM_DIR, account: str = ACCOUNT) -> None:
        self._data_dir = data_dir.resolve()
        self._system_dir = system_dir
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self._place: Place | None = None
        self._socket_dir: Path | None = None
        self._held = ExitStack()  # the locks and the socket's folder, given back by ``stop``

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it is not running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    async def start(self) -> DatabaseUrls:
        """Start the server, with cluster, roles and database if they are not there yet, and wait until it answers.

        Raises EmbeddedPostgresError. Whatever goes wrong, and when cancelled, nothing is left running or locked.
        """
        if self._process:
            raise EmbeddedPostgresError(f"the embedded PostgreSQL of {self._data_dir} was already started here")
        try:
            place = self._settle()
            await _stop_leftover(place.cluster)
            if not place.cluster.exists():
                await _create_cluster(place)
            _check_version(place.cluster)
            if place.home != self._data_dir:
                self._remember(place)
            self._place, self._socket_dir = place, make_socket_dir(place)
            self._held.callback(remove_socket_dir, place)
            await self._serve(place, self._socket_dir)
            await self._prepare()
        except (OSError, asyncpg.PostgresError) as error:
            await self.stop()
            raise EmbeddedPostgresError(f"the embedded PostgreSQL of {self._data_dir} cannot start: {error}") from error
        except BaseException:
            await self.stop()
            raise
        return self._urls(DATABASE)

    async def keep(self) -> None:
        """Once it was started, start the server again whenever it dies, until cancelled; then comes ``stop``.

        Nothing else is made anew, and nobody's changes are lost: PostgreSQL recovers what it had committed. While it
        cannot start, as on a full disk, it is tried again every second.
        """
        log = structlog.get_logger("chamberlain.postgres")
        while True:
            await asyncio.sleep(_WATCH)
            place, folder = self._place, self._socket_dir
            if place is None or folder is None or self._process is None or self._process.poll() is None:
                continue
            log.error("the embedded PostgreSQL ended", code=self._process.returncode)
            try:
                await _end_orphans(place.cluster)
                await self._serve(place, folder)
            except (OSError, EmbeddedPostgresError) as error:
                log.error("the embedded PostgreSQL does not start", reason=str(error).splitlines()[0])
                await asyncio.sleep(_PAUSE)
            else:
                log.info("the embedded PostgreSQL was started again", pid=self.pid)

    async def stop(self) -> None:
        """Shut the server down and wait for it; without a running server, do nothing.

        Open transactions are rolled back. If the caller is cancelled, the shutdown goes on to its end all the same.
        """
        await asyncio.to_thread(self._stop)

    async def create_database(self, name: str, template: str | None = None) -> DatabaseUrls:
        """Make one more database with the same two roles, a copy of the database ``template`` if given.

        Nobody may be connected to ``template`` meanwhile. Tables and grants inside it are copied too.
        """
        source = _identifier(template) if template else "template1"
        connection = await self._connect()
        try:
            await connection.execute(f"CREATE DATABASE {_identifier(name)} OWNER {MIGRATOR} TEMPLATE {source}")
            await _narrow(connection, name)
        finally:
            await connection.close()
        return self._urls(name)

    async def drop_database(self, name: str) -> None:
        """Remove a database if it exists, and cut every connection to it."""
        connection = await self._connect()
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")
        finally:
            await connection.close()

    def _settle(self) -> Place:
        """Lock the data folder and find the server's place. Blocks: nothing else happens before the database is up."""
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._held.enter_context(locked(self._data_dir))
        if os.geteuid() != 0:
            return place_for_user(self._data_dir)
        place = place_for_root(self._data_dir, self._system_dir, self._account)
        self._held.enter_context(locked(place.home))  # a copied data folder leads to the same cluster
        return place

    def _remember(self, place: Place) -> None:
        link = self._data_dir / "postgres"
        if not link.is_symlink():
            link.symlink_to(place.cluster)

    async def _serve(self, place: Place, socket_dir: Path) -> None:
        settings = _LAWS | {
            "unix_socket_directories": str(socket_dir),
            "hba_file": str(place.write("pg_hba.conf", _access_rules())),
            "ident_file": str(place.write("pg_ident.conf", _account_map(place.client))),
        }
        if place.log.exists() and place.log.stat().st_size > _LARGEST_LOG:
            place.log.replace(place.log.with_name("postgres.log.1"))
        with _Log(place.log) as log:
            options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            self._process = place.spawn(["postgres", "-D", place.cluster, *options], log.descriptor)
            # No time limit: after a power cut, recovery takes as long as it takes.
            while _status(place.cluster, self._process.pid) != "ready":
                if self._process.poll() is not None:
                    raise EmbeddedPostgresError(f"PostgreSQL did not start in {place.cluster}: {log.tail()}")
                await asyncio.sleep(_POLL)

    async def _prepare(self) -> None:
        """Make what is missing of roles and database: an earlier start may have been cut off anywhere."""
        connection = await self._connect()
        try:
            if not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", APPLICATION):
                async with connection.transaction():
                    await connection.execute(f"CREATE ROLE {MIGRATOR} LOGIN")
                    await connection.execute(f"CREATE ROLE {APPLICATION} LOGIN")
                    await connection.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
            if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {MIGRATOR}")
            await _narrow(connection, DATABASE)
        finally:
            await connection.close()

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._socket_dir is None:
            raise EmbeddedPostgresError(f"the embedded PostgreSQL of {self._data_dir} is not running")
        return await asyncpg.connect(host=str(self._socket_dir), port=PORT, user=_SUPERUSER, database="postgres")

    def _urls(self, name: str) -> DatabaseUrls:
        return _urls(self._socket_dir, name)

    def _stop(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.send_signal(signal.SIGCONT)  # one that somebody has stopped would not hear of it
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()
        self._process = self._place = self._socket_dir = None
        self._held.close()


async def urls_of_running(data_dir: Path) -> DatabaseUrls | None:
    """The addresses of the server that another process runs on this data folder; None if none answers there.

    Only looks. Raises EmbeddedPostgresError when a server is there, but not for the current user.
    """
    try:
        socket_dir = find_socket_dir(data_dir)
        if socket_dir is None:
            return None
        urls = _urls(socket_dir, DATABASE)
        await (await asyncpg.connect(urls.application)).close()
    except (FileNotFoundError, ConnectionRefusedError, asyncpg.CannotConnectNowError):
        return None
    except (OSError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL of {data_dir} cannot be reached by this user ({error}): "
            "be the user who runs the server"
        ) from error
    return urls


def _urls(socket_dir: Path | None, name: str) -> DatabaseUrls:
    where = f"@/{name}?host={socket_dir}&port={PORT}"  # a safe path: see make_socket_dir
    return DatabaseUrls(migrator=f"postgresql://{MIGRATOR}{where}", application=f"postgresql://{APPLICATION}{where}")


async def _narrow(connection: "asyncpg.Connection[asyncpg.Record]", name: str) -> None:
    """Only the two roles come in. The owner of a database owns its schema ``public`` and is alone to create in it."""
    await connection.execute(f"REVOKE ALL ON DATABASE {_identifier(name)} FROM PUBLIC")
    await connection.execute(f"GRANT CONNECT ON DATABASE {_identifier(name)} TO {APPLICATION}")


def _identifier(name: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise ValueError(f"{name!r} is no name for a database: at most 63 lower-case letters, digits and underscores")
    return name


def _access_rules() -> str:
    return f"local all {_SUPERUSER},{MIGRATOR},{APPLICATION} peer map=chamberlain\n"


def _account_map(client: str) -> str:
    quoted = client.replace('"', '""')
    return "".join(f'chamberlain "{quoted}" {role}\n' for role in (_SUPERUSER, MIGRATOR, APPLICATION))


async def _create_cluster(place: Place) -> None:
    """Run initdb beside the cluster's folder and rename its work when it is whole: a kill half-way is harmless."""
    # PostgreSQL's own collation sorts alike on every machine and after every upgrade of the C library.
    options = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    options += ["--auth-local=peer", "--auth-host=reject", f"--username={_SUPERUSER}", "--no-instructions"]
    options += [f"--set={name}={value}" for name, value in _PREFERENCES.items()]
    with _Log(place.log) as log, _unfinished(place) as fresh:
        process = place.spawn(["initdb", "-D", fresh, *options], log.descriptor)
        try:
            if await asyncio.to_thread(process.wait) != 0:
                raise EmbeddedPostgresError(f"initdb failed in {fresh}: {log.tail()}")
            os.rename(fresh, place.cluster)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with the bootstrap server it has started
                process.wait()


@contextmanager
def _unfinished(place: Place) -> Iterator[Path]:
    """A new folder for initdb; whatever still has its name at the end is removed, and so is what a kill left behind."""
    for stale in place.home.glob("postgres.new-*"):
        shutil.rmtree(stale, ignore_errors=True)
    # The name is never used twice: the initdb of a killed process may still be writing.
    fresh = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=place.home))
    place.give(fresh)
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_version(cluster: Path) -> None:
    try:
        found = (cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise EmbeddedPostgresError(f"{cluster} holds no PostgreSQL cluster: move it away to start anew") from None
    if found != str(MAJOR):
        raise EmbeddedPostgresError(
            f"{cluster} was made by PostgreSQL {found} and this installation has PostgreSQL {MAJOR}: "
            f"dump it with the release of Chamberlain that made it and restore it here, or convert it with pg_upgrade"
        )


def _status(cluster: Path, pid: int) -> str:
    """What the server ``pid`` last wrote about itself: ``starting``, ``ready``, ``stopping``; empty if nothing yet."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return ""
    return lines[7].strip() if len(lines) > 7 and lines[0] == str(pid) else ""


async def _stop_leftover(cluster: Path) -> None:
    """Stop the server that a killed process of ours left on this cluster. The caller holds the lock: nobody uses it."""
    pid = _leftover(cluster)
    if pid is None:
        return
    for shutdown in (signal.SIGINT, signal.SIGQUIT):
        os.kill(pid, shutdown)
        os.kill(pid, signal.SIGCONT)
        for _ in range(int(_PATIENCE / _POLL)):
            await asyncio.sleep(_POLL)
            if pid not in _working_in(cluster):
                return
    raise EmbeddedPostgresError(f"the PostgreSQL that was left on {cluster}, process {pid}, does not stop")


async def _end_orphans(cluster: Path) -> None:
    """End what a server that died left working: no other can start beside it, and one that is stopped never ends."""
    while orphans := _working_in(cluster):
        for pid in orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_POLL)


def _leftover(cluster: Path) -> int | None:
    """The id of a server that still runs on ``cluster``.

    After a reboot, or in a new container, the number in the pid file may belong to a stranger, and PostgreSQL would
    refuse to start beside it. With proof that nobody works in the cluster, the file is removed.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError, PermissionError, ValueError):
        return None  # PostgreSQL itself knows what to do with these
    if not Path("/proc/self/cwd").exists():
        return None  # no way to tell whose number it is, so PostgreSQL decides
    working = _working_in(cluster)
    if not working:
        pid_file.unlink()
    return pid if pid in working else None


def _working_in(cluster: Path) -> set[int]:
    """The ids of the PostgreSQL processes of this cluster: each works in the cluster's folder."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is another account's
            if (process / "cwd").samefile(cluster) and (process / "comm").read_text().strip() == "postgres":
                found.add(int(process.name))
    return found


class _Log:
    """The server's log, open for a child to write, and what was written since it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "_Log":
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.descriptor = os.open(self._path, flags, 0o600)
        self._begin = os.fstat(self.descriptor).st_size
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def tail(self) -> str:
        """The last lines of a child that has ended, and where to read more."""
        end = os.fstat(self.descriptor).st_size
        begin = max(self._begin, end - 4000)
        lines = os.pread(self.descriptor, end - begin, begin).decode(errors="replace").splitlines()
        return "\n".join([*lines[-12:], f"(the whole log: {self._path})"])
