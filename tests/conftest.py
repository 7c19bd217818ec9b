"""Fixtures: ``stage`` is the run's PostgreSQL with its template, ``world`` one test's own database and application,
``server`` a served installation that the tests of the commands share. Whatever asks for a whole server is ``e2e``."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from tests.commands import Installation, installed, serving
from tests.world.stage import Stage
from tests.world.world import World, new_world

WHOLE_SERVERS = {"server", "house", "shared_house"}
"""The fixtures behind which a program runs that was started as an operator starts it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before any are chosen by their marks: nobody has to remember this one."""
    for item in items:
        if isinstance(item, pytest.Function) and not WHOLE_SERVERS.isdisjoint(item.fixturenames):
            item.add_marker("e2e")


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
