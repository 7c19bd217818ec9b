"""Fixtures: ``aged`` is a world whose log has been kept since 2020."""

import pytest

from tests.retention.support import age
from tests.world.world import World


@pytest.fixture
async def aged(world: World) -> World:
    await age(world)
    return world
