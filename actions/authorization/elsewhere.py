"""Compiling a policy in a process of its own, so that those who are served meanwhile do not wait for it.

``python -m actions.authorization.elsewhere`` reads a request on standard input and answers with a packed policy. It is
for large policies: a small one is compiled sooner than a process starts. This module knows no database and decides
nothing.
"""

import asyncio
import json
import sys

from actions.authorization.aside import packed_files, run_aside, unpacked_files
from actions.authorization.cases import case_findings
from actions.authorization.index import PolicyIndex, compile, in_order
from actions.authorization.packed import pack, unpack
from actions.authorization.source import PolicySource, parse
from actions.vocabulary import Vocabulary, read_cells, spelled

LARGE = 32 * 1024
"""Bytes of policy files from which on compiling them is left to another process. Below it takes some ten milliseconds
at most, a part of what starting a process takes."""
_ERRORS_AT_MOST = 20
_FAULTY = 3
"""How the process ends when the policy has errors; a crash ends with 1."""


class NotCompiled(Exception):
    """The other process did not do it; the message says why. It says nothing of the policy."""


def is_large(source: PolicySource) -> bool:
    return sum(map(len, source.files.values())) >= LARGE


def compile_here(source: PolicySource, vocabulary: Vocabulary) -> PolicyIndex:
    """``compile`` in this process, from the files. Raises ``ValueError`` with a line for each of the first errors."""
    parsed = parse(source, vocabulary)
    if parsed.errors:
        raise ValueError("\n".join(map(str, parsed.errors[:_ERRORS_AT_MOST])))
    return compile(parsed, vocabulary, source.digest)


async def compile_elsewhere(
    source: PolicySource, vocabulary: Vocabulary, *, timeout_s: float, with_cases: bool = False
) -> PolicyIndex:
    """``compile_here`` in another process, and the policy's own cases too if they are to be asked. Raises
    ``ValueError`` as it does, else ``NotCompiled``."""
    cells = spelled(in_order(vocabulary))
    told = {"files": packed_files(source), "vocabulary": cells, "with_cases": with_cases}
    request = json.dumps(told).encode()
    try:
        ended = await run_aside("actions.authorization.elsewhere", request=request, timeout_s=timeout_s)
    except TimeoutError:
        raise NotCompiled(f"it took longer than {timeout_s:g} s") from None
    except OSError as error:
        raise NotCompiled(f"no process could be started: {error.strerror}") from error
    if ended.code == _FAULTY:
        raise ValueError(ended.answer.decode("utf-8", "replace"))
    if ended.code != 0:
        raise NotCompiled(f"the process ended with {ended.code}: {ended.last_words}")
    try:
        index = await asyncio.to_thread(unpack, ended.answer, vocabulary)
    except (ValueError, KeyError, TypeError) as error:
        raise NotCompiled(f"the process gave no compiled policy: {error}") from error
    if index.digest != source.digest:
        raise NotCompiled("the process answered for another policy")
    return index


def main() -> int:
    """0: a packed policy is on standard output. ``_FAULTY``: the policy has errors, and the first ones are there."""
    request = json.load(sys.stdin)
    source = unpacked_files(request["files"])
    vocabulary: Vocabulary = read_cells(request["vocabulary"])
    try:
        index = compile_here(source, vocabulary)
    except ValueError as error:
        sys.stdout.buffer.write(str(error).encode())
        return _FAULTY
    if request["with_cases"] and (failing := case_findings(source, index)):
        sys.stdout.write(str(failing[0]))
        return _FAULTY
    sys.stdout.buffer.write(pack(index))
    return 0


if __name__ == "__main__":
    sys.exit(main())
