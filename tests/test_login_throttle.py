"""How often one may fail to log in, and that nobody can be shut out from where they usually are."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.errors import TooManyRequests
from server.login_throttle import OF_AN_ADDRESS, OF_STRANGERS, LoginThrottle
from tests.original_client import code
from tests.signing_in import ask, claim, log_in, refresh
from tests.world.counted import registry
from tests.world.stage import Stage
from tests.world.world import World, new_world

BURST = 5


@dataclass
class Hands:
    """A clock that is set by hand."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def throttle(hands: Hands) -> LoginThrottle:
    return LoginThrottle(3.0, BURST, hands)


def fails(throttle: LoginThrottle, name: str, address: str, *, familiar: bool = False) -> int:
    """One failure, if it is let through: 0; else the seconds that one is told to wait."""
    try:
        throttle.password("research", name, address, familiar=familiar).failed()
    except TooManyRequests as refused:
        return refused.retry_after or -1
    return 0


def address(number: int) -> str:
    return f"198.51.{number // 250}.{number % 250 + 1}"


def test_one_address_fails_so_often_at_one_account_and_then_waits(throttle: LoginThrottle, hands: Hands) -> None:
    assert [fails(throttle, "mia", address(1)) for _ in range(BURST + 2)] == [0] * BURST + [20, 20]
    assert fails(throttle, "dana", address(1)) == 0, "another account"
    assert fails(throttle, "mia", address(2)) == 0, "another address"
    hands.now += 19.9
    assert fails(throttle, "mia", address(1)) == 1
    hands.now += 0.1
    assert fails(throttle, "mia", address(1)) == 0, "the wait that was told was true"


def test_what_is_right_costs_nothing(throttle: LoginThrottle) -> None:
    for _ in range(100):
        throttle.password("research", "mia", address(1), familiar=False)
        throttle.refresh(address(1))
    assert fails(throttle, "mia", address(1)) == 0


def test_one_address_fails_only_so_often_at_all_accounts_together(throttle: LoginThrottle) -> None:
    admitted = [fails(throttle, f"user-{number}", address(1)) for number in range(100)]
    assert admitted.count(0) == BURST * OF_AN_ADDRESS
    with pytest.raises(TooManyRequests):
        throttle.refresh(address(1))
    assert fails(throttle, "user-99", address(2)) == 0


def test_a_network_of_ipv6_is_one_address(throttle: LoginThrottle) -> None:
    assert [fails(throttle, "mia", f"2001:db8::{number:x}") for number in range(1, BURST + 2)] == [0] * BURST + [20]


def test_strangers_together_fill_an_account_s_bucket_and_whoever_usually_comes_from_there_still_gets_in(
    throttle: LoginThrottle,
) -> None:
    admitted = [fails(throttle, "mia", address(number)) for number in range(10 * BURST * OF_STRANGERS)]
    assert admitted.count(0) == BURST * OF_STRANGERS
    assert fails(throttle, "mia", address(9999)) > 0
    home = "192.0.2.7"
    assert [fails(throttle, "mia", home, familiar=True) for _ in range(BURST + 1)] == [0] * BURST + [20]
    assert fails(throttle, "dana", address(9999)) == 0


def test_a_neighbour_who_fails_everywhere_keeps_nobody_out_from_where_they_usually_are(throttle: LoginThrottle) -> None:
    for number in range(100):
        fails(throttle, f"user-{number}", address(1))
    assert fails(throttle, "mia", address(1)) > 0
    assert fails(throttle, "mia", address(1), familiar=True) == 0


@settings(deadline=None, database=None, max_examples=50)
@given(st.lists(st.floats(0, 120), max_size=200))
def test_one_address_alone_never_fills_the_bucket_of_an_account_s_strangers(pauses: list[float]) -> None:
    hands = Hands()
    throttle = LoginThrottle(3.0, BURST, hands)
    for pause in pauses:
        hands.now += pause
        fails(throttle, "mia", address(1))
        assert another_gets_in(throttle)


def another_gets_in(throttle: LoginThrottle) -> bool:
    """Whether some other stranger would be let through now."""
    try:
        throttle.password("research", "mia", address(2), familiar=False)
    except TooManyRequests:
        return False
    return True


def test_a_crowd_that_was_under_way_at_once_waits_the_longer(throttle: LoginThrottle) -> None:
    crowd = [throttle.password("research", "mia", address(1), familiar=False) for _ in range(16)]
    for one in crowd:
        one.failed()
    assert fails(throttle, "mia", address(1)) == math.ceil((16 - BURST + 1) * 20)


def test_memory_is_bounded_and_knows_no_name(throttle: LoginThrottle) -> None:
    for number in range(60_000):
        throttle.password("research", f"hunter{number}", address(number), familiar=False).failed()
    held = [throttle._pairs, throttle._addresses, throttle._strangers]
    assert [len(buckets) for buckets in held] == [50_000, 10_000, 10_000]
    assert "hunter" not in str([buckets._due for buckets in held])


# -- in the server --


async def test_failures_are_slowed_before_any_password_is_checked_and_known_and_unknown_alike(stage: Stage) -> None:
    async with new_world(stage, login_failures_per_minute=1.0, login_failures_burst=2) as world:
        shown = []
        for name in ("mia", "ghost"):
            answers = [await ask(world, claim(name, password="not it"), address=name_address(name)) for _ in range(4)]
            shown.append([(answer.status_code, code(answer)) for answer in answers])
            assert 59 <= int(answers[-1].headers["retry-after"]) <= 60
        assert shown[0] == shown[1]
        assert [status for status, _ in shown[0]] == [401, 401, 429, 429]
        assert shown[0][-1][1] == "login-authorize-too-many-logins"
        right = await ask(world, claim(), address=name_address("mia"))
        assert right.status_code == 429, "a password that is not looked at lets nobody in"
        sampled = registry(world.app.metrics).get_sample_value
        assert sampled("chamberlain_rate_limited_total", {"policy": "too-many-logins"}) == 5


def name_address(name: str) -> str:
    return {"mia": "198.51.100.1", "ghost": "198.51.100.2"}[name]


async def test_nobody_is_locked_out_from_where_they_usually_are(stage: Stage) -> None:
    async with new_world(stage, login_failures_per_minute=0.01, login_failures_burst=1) as world:
        home = "192.0.2.7"
        await log_in(world, address=home)
        for number in range(OF_STRANGERS):
            assert (await ask(world, claim(password="guess"), address=address(number))).status_code == 401
        assert (await ask(world, claim(), address=address(500))).status_code == 429, "no stranger gets through any more"
        await log_in(world, address=home)
        assert (await ask(world, claim("dana"), address=address(500))).status_code == 200


async def test_where_somebody_logged_in_is_remembered_by_all_workers_and_belongs_to_one_account(world: World) -> None:
    """It stands with the logins, ended or not; purging them forgets it."""
    tokens = await log_in(world, address="192.0.2.7")
    await world.root.delete(f"/admin/logins/{tokens['login_id']}")
    seen = "SELECT client_network FROM login WHERE user_id = $1"
    assert len(await world.sql(seen, world.id("mia"))) == 1
    assert await world.sql(seen, world.id("dana")) == []


async def test_refresh_tokens_that_are_guessed_are_slowed(stage: Stage) -> None:
    async with new_world(stage, login_failures_per_minute=0.01, login_failures_burst=1) as world:
        tokens = await log_in(world, address="192.0.2.7")
        guess = {"refresh_token": "guess"}
        answers = [await ask(world, guess, path="/auth/refresh") for _ in range(OF_AN_ADDRESS + 1)]
        assert [answer.status_code for answer in answers] == [401] * OF_AN_ADDRESS + [429]
        assert (await refresh(world, tokens, address="192.0.2.7")).status_code == 200
