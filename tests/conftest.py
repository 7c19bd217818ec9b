"""Fixtures: ``stage`` is the run's PostgreSQL with its template, ``world`` one test's own database and application,
``server`` a served installation that the tests of the commands share."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from tests.commands import Installation, installed, serving
from tests.world.stage import Stage
from tests.world.world import World, new_world


@pytest.fixture(autouse=True)
def _logging_of_its_own() -> Iterator[None]:
    """A command that works on the database sets up the logging of its process, which here is everybody's."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    stage = Stage()
    try:
        asyncio.run(stage.start())
        yield stage
    finally:
        asyncio.run(stage.stop())


@pytest.fixture(scope="session")
def server() -> Iterator[Installation]:
    """Whoever changes its policy puts it back; whatever else a test makes there, it gives a name of its own."""
    with installed() as installation, serving(installation):
        yield installation


@pytest.fixture
async def world(stage: Stage) -> AsyncIterator[World]:
    async with new_world(stage) as world:
        yield world
