"""Fixtures: ``stage`` is the run's PostgreSQL with its template, ``world`` one test's own database and application."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.world.stage import Stage
from tests.world.world import World, new_world


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    stage = Stage()
    try:
        asyncio.run(stage.start())
        yield stage
    finally:
        asyncio.run(stage.stop())


@pytest.fixture
async def world(stage: Stage) -> AsyncIterator[World]:
    async with new_world(stage) as world:
        yield world
