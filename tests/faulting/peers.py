"""Who is at the other end of a Unix socket: asked of the kernel, since PostgreSQL does not know."""

import os
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_SOCK_DIAG, _BY_FAMILY, _DUMP, _DONE, _SHOW_PEER, _PEER = 4, 20, 0x301, 3, 4, 2


def peers() -> dict[int, int]:
    """Each connected Unix socket's inode, and its peer's."""
    found: dict[int, int] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        asked = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_PEER, 0xFFFFFFFF, 0xFFFFFFFF)
        kernel.send(struct.pack("=IHHII", 16 + len(asked), _BY_FAMILY, _DUMP, 1, 0) + asked)
        while True:
            told = kernel.recv(1 << 20)
            while told:
                length, kind = struct.unpack_from("=IH", told)
                if kind == _DONE:
                    return found
                (inode,) = struct.unpack_from("=I", told, 20)
                place = 32
                while place + 8 <= length:
                    size, name = struct.unpack_from("=HH", told, place)
                    if name == _PEER:
                        (found[inode],) = struct.unpack_from("=I", told, place + 4)
                    place += (size + 3) & ~3
                told = told[(length + 3) & ~3 :]


def sockets(pid: int) -> set[int]:
    """The inodes of a process's sockets."""
    found = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if (told := os.readlink(descriptor)).startswith("socket:["):
                    found.add(int(told[8:-1]))
    return found


def facing(pid: int, among: Iterable[int]) -> int | None:
    """Which of these processes a process is connected to."""
    known = peers()
    far = {known[inode] for inode in sockets(pid) if inode in known}
    return next((other for other in among if sockets(other) & far), None)
