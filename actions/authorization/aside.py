"""Work on policies in a process of its own, which stands back behind those that serve requests.

Hundreds of milliseconds of work in a worker, in a thread or not, are as many in which it answers late. This module
knows what is said to such a process and how it ends, and not what the work is.
"""

import asyncio
import base64
import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from actions.authorization.source import PolicySource

COURTESY = 10
"""How far it stands back (``nice``): it gets what the others leave, and about a tenth of that if they leave nothing."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended, and what it wrote."""

    code: int | None
    answer: bytes
    complaint: bytes

    @property
    def last_words(self) -> str:
        """The last line of its complaint."""
        return self.complaint.decode("utf-8", "replace").strip().rpartition("\n")[2][:256]


async def run_aside(module: str, *arguments: str, request: bytes, timeout_s: float) -> Ended:
    """Run a module of ours on a request. Raises ``TimeoutError`` after ``timeout_s`` seconds, when it has been ended,
    and ``OSError`` when no process could be started."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdin=pipe, stdout=pipe, stderr=pipe
    )
    with contextlib.suppress(OSError):  # it has ended already, or this machine has it otherwise
        os.setpriority(os.PRIO_PROCESS, process.pid, COURTESY)
    try:
        async with asyncio.timeout(timeout_s):
            answer, complaint = await process.communicate(request)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode, answer, complaint)


def packed_files(source: PolicySource) -> dict[str, str]:
    """The files of a policy as JSON can say them, whatever bytes they are made of."""
    return {name: base64.b64encode(content).decode() for name, content in source.files.items()}


def unpacked_files(files: Mapping[str, str]) -> PolicySource:
    return PolicySource({name: base64.b64decode(content) for name, content in files.items()})
