"""Finding the embedded server that another process runs: by its socket, and only by its own."""

import os
import socket
from pathlib import Path

from server.embedded import urls_of_running
from server.embedded_socket import PORT, find_socket_dir


def installed(data_dir: Path) -> Path:
    """The folders of a server; returns the socket's."""
    (data_dir / "postgres").mkdir()
    folder = data_dir / "socket"
    folder.mkdir(mode=0o700)
    return folder


async def test_there_is_no_server_where_none_was_started(tmp_path: Path) -> None:
    assert find_socket_dir(tmp_path) is None
    assert await urls_of_running(tmp_path) is None
    assert await urls_of_running(tmp_path / "missing") is None


async def test_the_socket_of_a_server_that_was_killed_is_no_server(tmp_path: Path) -> None:
    folder = installed(tmp_path)
    assert find_socket_dir(tmp_path) == folder
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / f".s.PGSQL.{PORT}"))
    assert await urls_of_running(tmp_path) is None


def test_a_link_that_leads_to_somebody_elses_folder_is_not_followed(tmp_path: Path) -> None:
    installed(tmp_path).rmdir()
    foreign = Path("/")
    if os.geteuid() == 0:
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        os.chown(foreign, 65534, 65534)
    (tmp_path / "socket").symlink_to(foreign)
    assert find_socket_dir(tmp_path) is None
