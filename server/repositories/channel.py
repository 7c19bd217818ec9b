"""The invalidation channel: what changed elsewhere, heard at once, and the proof that nothing was missed.

Triggers notify inside each transaction that changes a scope, a binding, a credential or the active policy, so no code
can forget to. This end listens on a connection of its own and asks a question on it several times a second: an answer
proves that the line is alive, and a version that moved without a word being heard says that something was lost.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog

from actions.errors import ChamberlainError
from server.repositories.database import Connection, Database, is_connection_loss

CHANNEL = "chamberlain_changed"
TRUST_SECONDS = 1.0
"""How long after the last sign of life a cached answer may still be used."""
_POLL_SECONDS = 0.25
_ANSWER_SECONDS = 0.5

Listener = Callable[[str], None]
"""Is told what changed (``bindings:<user id>``), or ``*`` when anything may have."""


class Channel:
    """``async with`` it for its lifetime; it reconnects by itself, and forgets everything when it does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Listener] = []
        self._connection: Connection | None = None
        self._heard_at = float("-inf")
        self._version: int | None = None
        self._words = self._told = 0  # words heard, in all and up to the last look at the version
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("chamberlain.channel")

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def age(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self._heard_at

    @property
    def trusted(self) -> bool:
        return time.monotonic() - self._heard_at < TRUST_SECONDS

    async def __aenter__(self) -> "Channel":
        self._task = asyncio.create_task(self._run(), name="invalidation-channel")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._hang_up()

    async def _run(self) -> None:
        while True:
            try:
                await self._poll()
            except Exception as error:
                known = isinstance(error, ChamberlainError) or is_connection_loss(error)
                self._log.warning("invalidation channel lost", error=type(error).__name__, exc_info=not known)
                self._hang_up()
            await asyncio.sleep(_POLL_SECONDS)

    async def _poll(self) -> None:
        if self._connection is None:
            self._connection = await self._database.connect("channel")
            await self._connection.add_listener(CHANNEL, self._hear)
            self._tell("*")
            self._version = None
        asked_at = time.monotonic()
        async with asyncio.timeout(_ANSWER_SECONDS):
            version = await self._connection.fetchval("SELECT last_value FROM directory_version")
        if self._version is not None and version != self._version and self._words == self._told:
            await asyncio.sleep(0.05)  # the number moves before the commit that the word comes with
            if self._words == self._told:
                self._tell("*")
        self._version, self._told = version, self._words
        self._heard_at = asked_at

    def _hear(self, connection: object, pid: int, channel: str, word: object) -> None:
        self._words += 1
        self._tell(str(word))

    def _tell(self, word: str) -> None:
        for listener in self._listeners:
            listener(word)

    def _hang_up(self) -> None:
        self._heard_at = float("-inf")
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
