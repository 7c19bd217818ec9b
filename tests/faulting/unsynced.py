"""A Chamberlain whose commits do not wait for the disk: what the proof by fault has to find out about it.

The server has no such switch. This program puts another value in the place of one of the server's before it starts
one; everything else is as it is served.

    python -m tests.faulting.unsynced           is as ``chamberlain serve``
    python -m tests.faulting.unsynced work ...  is one worker, started by the other
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import server.repositories.database
from server import worker
from server.cli import serve
from server.settings import load
from server.supervisor import Supervisor

COMMAND = (sys.executable, "-m", "tests.faulting.unsynced")


def work() -> None:
    server.repositories.database.COMMITS = {"synchronous_commit": "off"}
    worker.main()


class _Supervisor(Supervisor):
    """Starts workers of this program."""

    def __init__(self, command: Sequence[str], **rest: Any) -> None:
        super().__init__([*COMMAND, "work"], **rest)


def main() -> int:
    serve.Supervisor = _Supervisor  # type: ignore[attr-defined]
    return asyncio.run(serve.serve(load()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        del sys.argv[1]
        work()
    else:
        sys.exit(main())
