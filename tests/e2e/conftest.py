"""Houses for the tests. A module shares one server where its tests leave it as they found it."""

from collections.abc import Iterator

import pytest

from tests.e2e.house import House
from tests.world.ground import ground


@pytest.fixture
def house() -> Iterator[House]:
    house = House(ground("chamberlain-e2e-"))
    yield house
    house.leave()


@pytest.fixture(scope="module")
def shared_house() -> Iterator[House]:
    house = House(ground("chamberlain-e2e-"))
    yield house
    house.leave()
