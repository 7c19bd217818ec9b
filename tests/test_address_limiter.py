"""How often an address may try, and from which addresses a user may call."""

from __future__ import annotations

import math
import tracemalloc
from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.addresses import address_allowed, check_pattern
from server.http.address_limiter import AddressLimiter

EVE = "203.0.113.7"


def test_a_burst_is_admitted_and_then_no_more() -> None:
    limiter = AddressLimiter(rate_per_minute=60, burst=3)
    assert [limiter.charge(EVE, 100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 1.0, 1.0]


def test_the_wait_it_tells_is_true() -> None:
    limiter = AddressLimiter(rate_per_minute=7, burst=2)
    now = 12_345.678
    for _ in range(2):
        assert limiter.charge(EVE, now) == 0.0
    wait = limiter.charge(EVE, now)
    assert wait == pytest.approx(60 / 7)
    assert limiter.charge(EVE, now + wait * 0.99) > 0.0
    assert limiter.charge(EVE, now + wait) == 0.0


def test_a_refused_try_costs_nothing() -> None:
    limiter = AddressLimiter(rate_per_minute=60, burst=1)
    assert limiter.charge(EVE, 0.0) == 0.0
    for _ in range(100):
        assert limiter.charge(EVE, 0.5) == pytest.approx(0.5)
    assert limiter.charge(EVE, 1.0) == 0.0


def test_peeking_counts_nothing() -> None:
    limiter = AddressLimiter(rate_per_minute=60, burst=1)
    assert [limiter.peek(EVE, 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert len(limiter) == 0
    limiter.charge(EVE, 0.0)
    assert limiter.peek(EVE, 0.25) == pytest.approx(0.75)
    assert limiter.peek(EVE, 1.0) == 0.0


def test_rest_restores_no_more_than_the_burst() -> None:
    limiter = AddressLimiter(rate_per_minute=60, burst=2)
    limiter.charge(EVE, 0.0)
    assert [limiter.charge(EVE, 1e6) == 0.0 for _ in range(4)] == [True, True, False, False]


def test_one_address_does_not_pay_for_another() -> None:
    limiter = AddressLimiter(rate_per_minute=1, burst=1)
    assert limiter.charge(EVE, 0.0) == 0.0
    assert limiter.charge(EVE, 0.0) > 0.0
    assert limiter.charge("203.0.113.8", 0.0) == 0.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("203.0.113.7", "::ffff:203.0.113.7"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("testclient", "/run/socket"),
    ],
)
def test_addresses_of_one_hand_share_a_bucket(one: str, other: str) -> None:
    limiter = AddressLimiter(rate_per_minute=1, burst=1)
    assert limiter.charge(one, 0.0) == 0.0
    assert limiter.charge(other, 0.0) > 0.0


@pytest.mark.parametrize(
    ("one", "other"), [("2001:db8:1:2::1", "2001:db8:1:3::1"), ("0.0.0.1", "0:0:0:1::1"), ("::ffff:1.2.3.4", "::1")]
)
def test_addresses_of_different_hands_do_not(one: str, other: str) -> None:
    limiter = AddressLimiter(rate_per_minute=1, burst=1)
    assert limiter.charge(one, 0.0) == limiter.charge(other, 0.0) == 0.0


def test_a_flood_of_addresses_does_not_grow_it() -> None:
    limiter = AddressLimiter(rate_per_minute=10, burst=5)
    for number in range(10_000):
        limiter.charge(str(IPv4Address(number)), 0.0)
    tracemalloc.start()
    try:
        for number in range(10_000, 60_000):
            limiter.charge(str(IPv4Address(number)), 0.0)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(limiter) == 10_000
    assert grown < 4_000_000  # what 10,000 fresh entries take, not 50,000


def test_who_keeps_knocking_is_not_forgotten_in_a_flood() -> None:
    limiter = AddressLimiter(rate_per_minute=1, burst=1, capacity=10)
    assert limiter.charge(EVE, 0.0) == 0.0
    for number in range(100):
        limiter.charge(str(IPv4Address(number)), 0.0)
        assert limiter.charge(EVE, 0.0) > 0.0


@pytest.mark.parametrize(("rate", "burst", "capacity"), [(0, 1, 1), (-1, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_limiter_that_admits_nothing_cannot_be_made(rate: float, burst: int, capacity: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        AddressLimiter(rate, burst, capacity)


@settings(deadline=None)
@given(
    rate=st.floats(0.5, 6000),
    burst=st.integers(1, 20),
    start=st.floats(0, 1e7),
    steps=st.lists(st.floats(0, 30), min_size=1, max_size=60),
)
def test_no_pattern_of_tries_gets_more_than_rate_and_burst(
    rate: float, burst: int, start: float, steps: list[float]
) -> None:
    limiter = AddressLimiter(rate, burst)
    now, admitted = start, 0
    for step in steps:
        now += step
        admitted += limiter.charge(EVE, now) == 0.0
        assert admitted <= burst + math.ceil((now - start) * rate / 60 + 1e-3)


@settings(deadline=None)
@given(rate=st.floats(0.5, 6000), burst=st.integers(1, 5), start=st.floats(0, 1e7), rounds=st.integers(1, 20))
def test_who_waits_as_told_is_always_admitted(rate: float, burst: int, start: float, rounds: int) -> None:
    limiter = AddressLimiter(rate, burst)
    now = start
    for _ in range(rounds):
        while wait := limiter.charge(EVE, now):
            now += wait
            assert limiter.charge(EVE, now) == 0.0
            break


# -- the addresses a user may call from


@pytest.mark.parametrize(
    ("address", "patterns", "allowed"),
    [
        (EVE, [], True),
        ("no address", [], True),
        (EVE, [EVE], True),
        (EVE, ["203.0.113.8"], False),
        (EVE, ["10.0.0.0/8", "203.0.113.0/24"], True),
        (EVE, ["203.0.*.*"], True),
        (EVE, ["203.1.*.*"], False),
        (EVE, ["*.*.*.*"], True),
        (EVE, ["2001:db8::/32"], False),
        ("2001:db8::5", ["2001:db8::/32"], True),
        ("2001:db9::5", ["2001:db8::/32"], False),
        ("2001:db8::5", ["0.0.0.0/0"], False),
        ("::ffff:203.0.113.7", ["203.0.113.0/24"], True),
        ("fe80::1%eth0", ["fe80::/10"], True),
        ("no address", ["0.0.0.0/0"], False),
        ("", ["0.0.0.0/0"], False),
        (EVE, ["nonsense"], False),
        (EVE, ["nonsense", EVE], True),
    ],
)
def test_a_list_admits_what_it_names(address: str, patterns: list[str], allowed: bool) -> None:
    assert address_allowed(address, patterns) is allowed


@pytest.mark.parametrize(
    ("written", "spelt"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("10.1.0.0/16", "10.1.0.0/16"),
        ("10.1.0.0/255.255.0.0", "10.1.0.0/16"),
        ("10.1.*.*", "10.1.0.0/16"),
        ("10.*.*.*", "10.0.0.0/8"),
        ("*.*.*.*", "0.0.0.0/0"),
        ("2001:DB8:0::/48", "2001:db8::/48"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_pattern_has_one_spelling(written: str, spelt: str) -> None:
    assert check_pattern(written) == spelt
    assert check_pattern(spelt) == spelt


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("", "no address"),
        ("10.1", "no address"),
        ("10.1.2.300", "no address"),
        ("010.1.2.3", "no address"),
        ("10.1.0.0/33", "no address"),
        ("example.org", "no address"),
        ("10.1.2.3/16", "write 10.1.0.0/16"),
        ("10.*.1.*", "wildcard"),
        ("10.1*.*.*", "wildcard"),
        ("10.*", "wildcard"),
        ("10.1.*.*/16", "wildcard"),
        ("2001:db8:*", "wildcard"),
        ("fe80::1%eth0", "zone"),
        ("::ffff:10.0.0.1", "as IPv4"),
        ("::ffff:10.0.0.0/104", "as IPv4"),
    ],
)
def test_a_wrong_pattern_is_told_what_is_wrong(written: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_pattern(written)


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_raises_anything_but_a_value_error(address: str, pattern: str) -> None:
    assert address_allowed(address, [pattern]) in (True, False)
    try:
        spelt = check_pattern(pattern)
    except ValueError:
        return
    assert check_pattern(spelt) == spelt
    assert address_allowed(str(ip_network(spelt).network_address), [spelt])
