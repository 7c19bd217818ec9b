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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actions.authorization.source import PolicySource

COURTESY = 10
"""How far it stands back (``nice``): it gets what the others leave, and about a tenth of that if they leave nothing."""


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
    process = await asyncio.to_thread(_started, [sys.executable, "-m", module, *arguments])
    try:
        return await asyncio.to_thread(_ended, process, request, timeout_s)
    finally:
        if process.poll() is None:  # whoever waited for it does so no longer
            process.kill()


def _started(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """In a thread, by ``subprocess``: where the event loop is uvloop's, a process of its own making copies all page
    tables of a large worker first, and everything waits for that."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    with contextlib.suppress(OSError):  # it has ended already, or this machine has it otherwise
        os.setpriority(os.PRIO_PROCESS, process.pid, COURTESY)
    return process


def _ended(process: "subprocess.Popen[bytes]", request: bytes, timeout_s: float) -> Ended:
    with process:
        try:
            answer, complaint = process.communicate(request, timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise TimeoutError from None
    return Ended(process.returncode, answer, complaint)


def packed_files(source: PolicySource) -> dict[str, str]:
    """The files of a policy as JSON can say them, whatever bytes they are made of."""
    return {name: base64.b64encode(content).decode() for name, content in source.files.items()}


def unpacked_files(files: Mapping[str, str]) -> PolicySource:
    return PolicySource({name: base64.b64decode(content) for name, content in files.items()})
