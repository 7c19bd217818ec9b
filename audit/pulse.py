"""The pulse of the log: whether it answers, and who waits for it.

The log's writer asks it all the time, with its batches or, between them, with a question of its own, and says here
what it found. While the log hangs nothing may be begun; and who has begun already is told, wherever it waits, because
a database that says nothing lets nobody else know.

A log that refuses (a privilege, a full disk, a database that is away) does not hang: whoever writes is told at once,
and tries again when it likes. Must not know what is done while it is watched.
"""

import asyncio
from types import TracebackType

import structlog

from audit.log import LogUnavailable


class Pulse:
    """One in each process; it beats until somebody says that it does not."""

    def __init__(self) -> None:
        self.hanging = False
        """Nothing can be written: nothing is to be begun."""
        self.silent = False
        """And the database says nothing at all, so nobody can be asked what became of a change either."""
        self._watched: set[Watched] = set()
        self._log = structlog.get_logger("chamberlain.audit")

    @property
    def watching(self) -> int:
        """How many blocks are watched now: all that is under way and will want to write."""
        return len(self._watched)

    def answers(self) -> None:
        if self.hanging:
            self._log.info("audit log answers again")
        self.hanging = self.silent = False

    def hangs(self, *, silent: bool) -> None:
        """Everything that is watched is interrupted, once."""
        if not self.hanging:
            self._log.warning("audit log hangs", silent=silent, interrupted=len(self._watched))
        self.hanging, self.silent = True, silent
        for watched in tuple(self._watched):
            watched._interrupt()

    def watched(self) -> "Watched":
        """``with`` it: raises ``LogUnavailable`` when the log hangs as the block begins, or comes to while it lasts."""
        return Watched(self)


class Watched:
    """A block of one task that lasts only while the log answers. What has failed or ended by then stays as it is."""

    __slots__ = ("_interrupted", "_pulse", "_task")

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._interrupted = False

    def __enter__(self) -> None:
        if self._pulse.hanging:
            raise LogUnavailable("the log hangs")
        task = asyncio.current_task()
        assert task is not None  # whoever awaits runs in one  # noqa: S101
        self._task = task
        self._pulse._watched.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pulse._watched.discard(self)
        if self._interrupted:
            others = self._task.uncancel()
            if not others and isinstance(error, asyncio.CancelledError):
                raise LogUnavailable("the log hangs") from error

    def _interrupt(self) -> None:
        if not self._interrupted:
            self._interrupted = True
            self._task.cancel("the log hangs")
