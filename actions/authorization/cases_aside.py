"""Asking the cases of a policy in a process of its own, so that those who are served meanwhile do not wait for it.

``python -m actions.authorization.cases_aside`` reads the files and the compiled policy on standard input and answers
with what came of the cases. What their worth is measured by grows with the policy, and anybody may send one.
"""

import asyncio
import json
import sys

from pydantic import ValidationError

from actions.authorization.aside import packed_files, run_aside, unpacked_files
from actions.authorization.cases import CaseResults, run_cases
from actions.authorization.index import PolicyIndex, in_order
from actions.authorization.packed import pack, unpack
from actions.authorization.source import PolicySource
from actions.vocabulary import read_cells, spelled


class NotAsked(Exception):
    """The other process did not come to its end; the message says why."""


async def cases_aside(
    source: PolicySource, index: PolicyIndex, *, with_coverage: bool, with_mutation: bool, timeout_s: float
) -> CaseResults:
    """``run_cases`` in another process, which is ended after ``timeout_s`` seconds. Raises ``NotAsked``."""
    measures = {"with_coverage": with_coverage, "with_mutation": with_mutation}
    request = await asyncio.to_thread(_request, source, index, measures)
    try:
        ended = await run_aside("actions.authorization.cases_aside", request=request, timeout_s=timeout_s)
    except TimeoutError:
        raise NotAsked(f"it took longer than {timeout_s:g} s") from None
    except OSError as error:
        raise NotAsked(f"no process could be started: {error.strerror}") from error
    if ended.code != 0:
        raise NotAsked(f"the process ended with {ended.code}: {ended.last_words}")
    try:
        results = await asyncio.to_thread(CaseResults.model_validate_json, ended.answer)
    except ValidationError as error:
        raise NotAsked("the process gave no results") from error
    if results.digest != index.digest:
        raise NotAsked("the process answered for another policy")
    return results


def _request(source: PolicySource, index: PolicyIndex, measures: dict[str, bool]) -> bytes:
    """A line of JSON, and the packed policy."""
    cells = spelled(in_order(index.vocabulary))
    head = {"files": packed_files(source), "vocabulary": cells, "measures": measures}
    return json.dumps(head).encode() + b"\n" + pack(index)


def main() -> int:
    """The process. Whatever goes wrong is a traceback on standard error, and 1."""
    head, _, packed = sys.stdin.buffer.read().partition(b"\n")
    request = json.loads(head)
    index = unpack(packed, read_cells(request["vocabulary"]))
    results = run_cases(unpacked_files(request["files"]), index, **request["measures"])
    sys.stdout.buffer.write(results.model_dump_json().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
