"""Work on policies in a process of its own, which stands back behind those that serve requests.

Hundreds of milliseconds of work in a worker, in a thread or not, are as many in which it answers late. This module
knows what is said to such a process and how it ends, and not what the work is.
"""

import asyncio
import base64
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from actions.authorization.source import PolicySource

COURTESY = 5
"""How far it stands back (``nice``): it gets what the others leave, and a quarter of that if they leave nothing: on a
busy machine, too, an edit must come into force."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended, and what it wrote."""

    code: int
    answer: bytes
    complaint: bytes

    @property
    def last_words(self) -> str:
        """The last line of its complaint."""
        return self.complaint.decode("utf-8", "replace").strip().rpartition("\n")[2][:256]


async def run_aside(module: str, *arguments: str, request: bytes, timeout_s: float) -> Ended:
    """Run a module of ours on a request. Raises ``TimeoutError`` after ``timeout_s`` seconds, when it has been ended,
    and ``OSError`` when no process could be started."""
    running = await asyncio.to_thread(_started, [sys.executable, "-m", module, *arguments], request)
    # Whoever waits may give up before the thread has begun; the thread has to come to its end all the same, since it is
    # what takes leave of the process and closes its files.
    ending = asyncio.create_task(asyncio.to_thread(_ended, running))
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(ending)
    finally:
        if running.process.poll() is None:  # it took too long, or whoever waited for it does so no longer
            running.process.kill()
        await asyncio.wait([ending])


@dataclass(frozen=True, slots=True)
class _Running:
    process: "subprocess.Popen[bytes]"
    answer: IO[bytes]
    complaint: IO[bytes]


def _started(command: Sequence[str], request: bytes) -> _Running:
    """In a thread, by ``subprocess``: where the event loop is uvloop's, a process of its own making copies all page
    tables of a large worker first, and everything waits for that.

    What is said goes through files. A thread that feeds and empties pipes wakes for each few kilobytes, and each time
    those who are served wait for it, for long if the machine is busy.
    """
    with tempfile.TemporaryFile() as asked, contextlib.ExitStack() as kept:
        asked.write(request)
        asked.seek(0)
        answer, complaint = (kept.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        process = subprocess.Popen(command, stdin=asked, stdout=answer, stderr=complaint)
        kept.pop_all()
    with contextlib.suppress(OSError):  # it has ended already, or this machine has it otherwise
        os.setpriority(os.PRIO_PROCESS, process.pid, COURTESY)
    return _Running(process, answer, complaint)


def _ended(running: _Running) -> Ended:
    with running.answer as answer, running.complaint as complaint:
        code = running.process.wait()
        return Ended(code, _whole(answer), _whole(complaint))


def _whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def packed_files(source: PolicySource) -> dict[str, str]:
    """The files of a policy as JSON can say them, whatever bytes they are made of."""
    return {name: base64.b64encode(content).decode() for name, content in source.files.items()}


def unpacked_files(files: Mapping[str, str]) -> PolicySource:
    return PolicySource({name: base64.b64decode(content) for name, content in files.items()})
