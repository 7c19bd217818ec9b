"""Which policy a question is about: the active one, a stored version, or files that came with the question."""

import asyncio
from collections.abc import Awaitable, Callable

from actions.authorization.elsewhere import NotCompiled, compile_elsewhere, compile_here, is_large
from actions.authorization.index import PolicyIndex
from actions.authorization.source import PolicySource
from actions.entities import whole_vocabulary
from actions.entities.policy import PolicyQuestion
from actions.errors import Fault, Invalid, NotFound, Unavailable
from server.services.turns import Turns

ReadStored = Callable[[str], Awaitable[PolicySource]]
"""The files of a stored version, by digest. Raises ``NotFound``."""
CheckStored = Callable[[str], Awaitable[None]]
"""Checks the stored version of a digest. Raises ``NotFound``, or ``ValueError`` with a line for each finding."""


SECONDS = 20.0
"""How long another process may work for one question."""


class ChosenPolicy:
    """Finds the policy that a question names. Asked in an offer's ``prepare``, before a unit of work is open.

    What is not in force is read and compiled one at a time, whoever asks and whatever: a worker has others to serve.
    ``aside`` are the turns of all questions that have processes of their own.
    """

    def __init__(self, active: Callable[[], PolicyIndex], stored: ReadStored, check: CheckStored) -> None:
        self._active = active
        self._stored = stored
        self.check = check
        self.aside = Turns(2)
        self._compiling = Turns(1)

    async def of(self, asked: PolicyQuestion, at: str = "") -> PolicyIndex:
        """Raises ``Invalid`` for a version that is not stored, and for files that could not go live. ``at`` is the
        pointer to the question, where it is a part of an input."""
        if asked.files is not None:
            return await self._compiled(_given(asked, at), f"{at}/files")
        return await self.version(asked.version, f"{at}/version")

    async def with_source(self, asked: PolicyQuestion) -> tuple[PolicyIndex, PolicySource]:
        """The same with its files, of one and the same version. What stands in from the folder, stored nowhere, has
        none."""
        index = await self.of(asked)
        if asked.files is not None:
            return index, _given(asked)
        try:
            return index, await self._stored(index.digest)
        except NotFound:
            return index, PolicySource({})

    async def unread(self, asked: PolicyQuestion) -> PolicySource:
        """The files alone, with whatever mistakes are in them. Raises ``Invalid`` for a version not stored."""
        if asked.files is not None:
            return _given(asked)
        return await self._version(asked.version or self._active().digest, "/version")

    async def version(self, digest: str | None, pointer: str) -> PolicyIndex:
        """A stored version, or the active one. ``pointer`` is where the question named it."""
        active = self._active()
        if digest is None or digest == active.digest:
            return active
        return await self._compiled(await self._version(digest, pointer), pointer)

    async def _compiled(self, source: PolicySource, pointer: str) -> PolicyIndex:
        async with self._compiling.turn():
            return await compiled(source, pointer)

    async def _version(self, digest: str, pointer: str) -> PolicySource:
        try:
            return await self._stored(digest)
        except NotFound:
            told = "There is no such policy version."
            raise Invalid(told, reason="unknown-version", errors=[Fault(pointer, "names no stored version")]) from None


def _given(asked: PolicyQuestion, at: str = "") -> PolicySource:
    """The files that came with a question. Raises ``Invalid`` when it names a version, too."""
    if asked.version is not None:
        raise Invalid(
            "A question is about a stored version or about files, not about both.",
            reason="two-policies",
            errors=[Fault(f"{at}/files", "excludes `version`")],
        )
    return PolicySource({name: text.encode() for name, text in (asked.files or {}).items()})


async def compiled(source: PolicySource, pointer: str) -> PolicyIndex:
    """The index of some files. Raises ``Invalid`` with their first mistakes, and ``Unavailable`` for what takes too
    long: what nobody put in force is never compiled in the worker instead."""
    vocabulary = whole_vocabulary()
    try:
        if is_large(source):
            return await compile_elsewhere(source, vocabulary, timeout_s=SECONDS)
        return await asyncio.to_thread(compile_here, source, vocabulary)
    except NotCompiled as error:
        raise Unavailable(f"The policy was not compiled: {error}.", reason="unfinished") from error
    except ValueError as error:
        faults = [Fault(pointer, line[:500]) for line in str(error).splitlines()]
        told = "The policy has errors, so it answers nothing."
        raise Invalid(told, reason="unusable-policy", errors=faults) from error
