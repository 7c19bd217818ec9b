"""One worker as its parent sees it: how it is started, signalled, listened to and seen off.

Decides nothing: when to start, drain or kill is the supervisor's business.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Self, TypeAlias

from server.worker_link import Assignment, WorkerChannel

State: TypeAlias = Literal["starting", "ready", "draining"]

_REMEMBERED: Final = 8192  # bytes of a starting worker's error output
_MEMORY: Final = {"MALLOC_MMAP_THRESHOLD_": str(4 * 1024 * 1024)}
"""What is allocated in pieces of at least so many bytes is given back to the system when it is freed. Left to itself,
glibc learns from the first hash of a password to keep the 19 MiB that one takes, for good."""
_LAST_WORDS: Final = 1.0  # seconds for what a dead worker left in its pipes; a grandchild may hold them open


class Worker:
    """A worker process, its link, and the last line it wrote before it was ready."""

    def __init__(
        self, process: asyncio.subprocess.Process, channel: WorkerChannel, errors: asyncio.StreamReader
    ) -> None:
        loop = asyncio.get_running_loop()
        self.channel = channel
        self.last_line = ""
        self._born = loop.time()
        self._process = process
        self._draining = False
        self._listening = loop.create_task(channel.listen())
        self._relaying = loop.create_task(self._relay(errors))

    @classmethod
    async def spawn(
        cls,
        command: Sequence[str],
        *,
        place: int,
        housekeeper: bool,
        reserved: socket.socket,
        environment: Mapping[str, str],
        on_ready: Callable[[], None],
    ) -> Self:
        """Start ``command`` with its assignment, in a session of its own. Raises ``OSError`` when that cannot be done.

        Only the reservation of the address, the link and the error output are inherited.
        """
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        log = os.dup(2)
        assignment = Assignment(place, reserved.fileno(), theirs.fileno(), log, housekeeper)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                *assignment.arguments(),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=write_end,
                pass_fds=(assignment.listen_fd, assignment.link_fd, assignment.log_fd),
                start_new_session=True,
                env={**_MEMORY, **os.environ, **environment},
            )
        except BaseException:
            ours.close()
            os.close(read_end)
            raise
        finally:
            theirs.close()
            os.close(write_end)
            os.close(log)
        errors = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(errors), os.fdopen(read_end, "rb")
        )
        return cls(process, await WorkerChannel.over(ours, on_ready), errors)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since its birth."""
        return asyncio.get_running_loop().time() - self._born

    @property
    def state(self) -> State:
        return "draining" if self._draining else "ready" if self.channel.ready else "starting"

    def drain(self) -> None:
        """Tell it over the link that it will have to leave. It goes on accepting connections until ``terminate``."""
        self._draining = True
        self.channel.drain()

    def terminate(self) -> None:
        """SIGTERM: accept nothing more, finish what was begun, leave."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, for it and for every process that it started in its session."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def gone(self, patience: float) -> int:
        """Wait until it is dead and all it said is heard. Returns the exit code, the negative number for a signal.

        A worker that lives on without its link can neither be counted nor told anything; it has ``patience``
        seconds to leave by itself.
        """
        exiting = asyncio.ensure_future(self._process.wait())
        await asyncio.wait({exiting, self._listening}, return_when=asyncio.FIRST_COMPLETED)
        if not exiting.done():
            await asyncio.wait({exiting}, timeout=patience)
        self.kill()
        code = await exiting
        _, unfinished = await asyncio.wait({self._listening, self._relaying}, timeout=_LAST_WORDS)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(self._listening, self._relaying, return_exceptions=True)
        return code

    def resident_bytes(self) -> int | None:
        """Its memory, in bytes; None where there is no ``/proc`` to ask."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as statm:
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return None

    async def _relay(self, errors: asyncio.StreamReader) -> None:
        """Pass on what it writes to its error output while it starts, and remember the last line."""
        tail = b""
        while chunk := await errors.read(65536):
            sys.stderr.buffer.write(chunk)
            sys.stderr.flush()
            tail = (tail + chunk)[-_REMEMBERED:]
            written = (line.strip() for line in reversed(tail.decode(errors="replace").splitlines()))
            self.last_line = next(filter(None, written), "")
