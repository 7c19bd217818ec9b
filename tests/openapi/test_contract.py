"""The server keeps to its document: what it says is accepted is, what it excludes is not, and no answer is another.

``make fuzz`` runs this; FUZZ_EXAMPLES is the number of requests that are made up for each operation.
"""

import asyncio
import os

import pytest

from actions.entities import ALL_SPECS
from server.app import VERSION
from server.http.openapi import document
from tests.openapi.contract import Document, Report, protect, run, searches, share, without_filters
from tests.openapi.serving import listening
from tests.world.stage import Stage
from tests.world.world import new_world

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""0: a short look, for who runs this file by hand."""
ANSWERING = tuple(spec for spec in ALL_SPECS if spec.stream is None)
"""A stream has no end that a client could wait for; ``tests/test_events.py`` holds it to what is said of it."""
LENIENT = {"authentication_failures_per_minute": 1e6, "authentication_failures_burst": 1_000_000}
"""Each operation is asked without credentials, too, and the last of them has to be told so like the first."""
PARTS = 6 if EXAMPLES else 64
"""The edges of every schema are many, so a short look takes the operations of one part alone."""


def _labels(said: Document) -> set[str]:
    return {f"{method.upper()} {path}" for path, methods in said["paths"].items() for method in methods}


async def _held(stage: Stage, name: str, said: Document, examples: int, phases: tuple[str, ...]) -> Report:
    async with new_world(stage, **LENIENT) as world, listening(world.asgi) as endpoint:
        await protect(world, world.id(name))
        report = await asyncio.to_thread(run, said, endpoint, world.personas[name], examples=examples, phases=phases)
        await world.as_(name).get("/auth")  # to the end it was this persona who asked
    assert not report.failures, "\n\n".join(report.failures)
    assert report.operations == _labels(said)
    assert not [status for status in report.answers if not 200 <= status < 500]
    return report


async def test_the_server_keeps_to_its_document(stage: Stage) -> None:
    report = await _held(
        stage, "root", without_filters(document(ANSWERING, VERSION)), EXAMPLES or 1, ("fuzzing", "stateful")
    )
    for status in (200, 401, 404, 422):
        assert report.answers[status], f"nothing was answered {status}: {report.answers}"


@pytest.mark.parametrize("part", range(PARTS) if EXAMPLES else [0])
async def test_it_keeps_to_it_at_the_edges(stage: Stage, part: int) -> None:
    said = share(without_filters(document(ANSWERING, VERSION)), part, PARTS)
    await _held(stage, "root", said, 1, ("coverage",))


async def test_a_search_takes_every_filter_that_the_document_allows_and_no_other(stage: Stage) -> None:
    report = await _held(stage, "root", searches(document(ANSWERING, VERSION)), 4 * EXAMPLES or 2, ("fuzzing",))
    assert report.answers[200]


@pytest.mark.parametrize("name", ["mia", "nobody"] if EXAMPLES else ["nobody"])
async def test_it_keeps_to_it_before_those_who_may_little(stage: Stage, name: str) -> None:
    said = without_filters(document(ANSWERING, VERSION))
    report = await _held(stage, name, said if EXAMPLES else share(said, 0, 4), EXAMPLES or 1, ("fuzzing",))
    assert report.answers[404]
