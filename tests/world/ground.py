"""Where the servers of the tests have their folders: in memory, where the machine lends enough of it for that.

What is asked of the tests' own PostgreSQL is a new database for each test, hundreds of times. On a disk that is most of
the work; in memory nearly none, and every setting stays as it is in production, ``fsync`` too.
"""

import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - only the folder in which one of mode 0700 is made
_DISK = Path("/tmp")  # noqa: S108 - likewise; a path to it is short enough for a socket
_ENOUGH = 3 * 2**30
"""Bytes: some hundred megabytes for each of the servers that run side by side, and as much again for whoever else."""


def ground(prefix: str) -> Path:
    """A fresh folder into which any account may walk: an unprivileged PostgreSQL has to reach its part of it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_MEMORY if _lends() else _DISK))
    folder.chmod(0o755)
    return folder


def _lends() -> bool:
    if not os.access(_MEMORY, os.W_OK | os.X_OK):
        return False
    executes = not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC  # the server's programs may be copied there
    return executes and shutil.disk_usage(_MEMORY).free >= _ENOUGH
