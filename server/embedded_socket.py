"""The folder of the embedded PostgreSQL's socket: where it is, making it, taking it away, and finding it again.

Must not know what listens there.
"""

import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from server.embedded_account import Place

PORT = 5432  # only a part of the socket's name: nothing listens on the network
_NAME = f".s.PGSQL.{PORT}"
_LONGEST = 103  # bytes; the kernels' limits, less the final NUL, are 107 on Linux and 103 on macOS


def make_socket_dir(place: Place) -> Path:
    """A folder of mode 0700 with a path that is short and safe in a URL: ``home/socket``, or a link to one in /tmp.

    /tmp is short and open to every account wherever this runs. XDG_RUNTIME_DIR would not do: it goes at log-out.
    """
    remove_socket_dir(place)  # of a server that was killed
    link = place.home / "socket"
    name = os.fsencode(link / _NAME)
    if len(name) <= _LONGEST and re.fullmatch(rb"[\w./-]+", name):
        folder = link
        folder.mkdir(mode=0o700)
    else:
        folder = Path(tempfile.mkdtemp(prefix="chamberlain-", dir="/tmp"))
        link.symlink_to(folder)
    place.give(folder)
    return folder


def remove_socket_dir(place: Place) -> None:
    link = place.home / "socket"
    folder = _followed(link)
    with suppress(FileNotFoundError):
        if _belongs_to(folder, place.server.uid if place.server else os.geteuid()):
            for name in (_NAME, f"{_NAME}.lock"):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
    if link.is_symlink():
        link.unlink()


def find_socket_dir(data_dir: Path) -> Path | None:
    """The folder that a server of this data folder made, if there is one. Raises ``OSError`` when it may not look."""
    cluster = _followed(data_dir.resolve() / "postgres")
    folder = _followed(cluster.parent / "socket")
    try:
        return folder if _belongs_to(folder, cluster.stat().st_uid) else None
    except FileNotFoundError:
        return None


def _followed(link: Path) -> Path:
    return Path(os.readlink(link)) if link.is_symlink() else link


def _belongs_to(folder: Path, uid: int) -> bool:
    """Long after a reboot, a name in /tmp may be somebody else's."""
    info = folder.lstat()
    return stat.S_ISDIR(info.st_mode) and info.st_uid == uid
