import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.errors import UserError
from cdc_flower.simulations.fleet import Fleet, Network, send

SPEEDS = {"device_flops_per_s": 1e9, "cloud_flops_per_s": 1e11}
seconds = st.floats(0, 1e6)
sizes = st.integers(0, 10**9)
rates = st.floats(1, 1e10)


def one(start_s: float, free_s: float, wire_bytes: int, rate_bps: float, rtt_s: float) -> tuple[float, float]:
    columns = (np.array([start_s]), np.array([free_s]), np.array([wire_bytes]), np.array([rate_bps]), np.array([rtt_s]))
    arrival_s, free = send(*columns)
    return float(arrival_s[0]), float(free[0])


def test_a_link_of_8_bps_moves_one_byte_a_second() -> None:
    assert one(0, 0, 1, 8, 0) == (1, 1)
    assert one(10, 0, 5, 8, 0) == (15, 15)


def test_half_of_the_round_trip_time_is_added_once_and_does_not_keep_the_link_busy() -> None:
    assert one(0, 0, 2, 8, 0.5) == (2.25, 2)


def test_a_busy_link_sends_first_what_came_first() -> None:
    assert one(3, 7, 2, 8, 0) == (9, 9)


def test_an_unlimited_link_takes_no_time() -> None:
    assert one(3, 0, 10**9, math.inf, 0) == (3, 3)


def test_a_message_of_no_bytes_is_not_sent() -> None:
    assert one(3, 7, 0, 8, 1) == (3, 7)


@given(seconds, seconds, sizes.filter(bool), rates, st.floats(0, 10))
def test_the_time_is_bytes_over_rate_and_half_a_round_trip(start, free, wire_bytes, rate, rtt) -> None:
    arrival_s, free_s = one(start, free, wire_bytes, rate, rtt)
    assert free_s == pytest.approx(max(start, free) + wire_bytes * 8 / rate)
    assert arrival_s == pytest.approx(free_s + rtt / 2)
    assert arrival_s >= start


@given(seconds, seconds, sizes, sizes, rates)
def test_two_messages_on_a_busy_link_take_as_long_as_one_of_their_sizes(start, free, first, second, rate) -> None:
    _, free_s = one(start, free, first, rate, 0)
    _, after_both_s = one(start, free_s, second, rate, 0)
    assert after_both_s == pytest.approx(one(start, free, first + second, rate, 0)[1])


@given(seconds, seconds, st.integers(1, 10**9), st.integers(1, 10**9), rates)
def test_more_bytes_never_arrive_earlier(start, free, size, more, rate) -> None:
    assert one(start, free, size + more, rate, 0)[0] >= one(start, free, size, rate, 0)[0]


def test_a_devices_link_does_not_depend_on_how_many_others_there_are() -> None:
    network = Network("n", 1e6, 2e6, 0.1, spread=0.5)
    small, large = (Fleet.build(n, network, seed=3, **SPEEDS) for n in (5, 1000))
    np.testing.assert_array_equal(small.rate_up_bps, large.rate_up_bps[:5])
    np.testing.assert_array_equal(small.rate_down_bps, large.rate_down_bps[:5])
    assert len(np.unique(large.rate_up_bps)) == 1000


def test_rates_spread_as_configured_and_up_independent_of_down() -> None:
    links = Fleet.build(20000, Network("n", 1e6, 2e6, 0.1, spread=0.5), seed=0, **SPEEDS)
    up, down = np.log(links.rate_up_bps / 1e6), np.log(links.rate_down_bps / 2e6)
    for values in (up, down):
        assert abs(values.mean()) < 0.02
        assert values.std() == pytest.approx(0.5, rel=0.03)
    assert abs(np.corrcoef(up, down)[0, 1]) < 0.03


def test_without_spread_all_links_are_the_profile() -> None:
    links = Fleet.build(3, Network("n", 1e6, math.inf, 0.1), seed=0, **SPEEDS)
    assert links.rate_up_bps.tolist() == [1e6] * 3
    assert links.rate_down_bps.tolist() == [math.inf] * 3
    assert links.rtt_s.tolist() == [0.1] * 3


def test_another_seed_gives_other_links() -> None:
    network = Network("n", 1e6, 2e6, 0.1, spread=0.5)
    one_seed, other = (Fleet.build(3, network, seed=seed, **SPEEDS) for seed in (0, 1))
    assert (one_seed.rate_up_bps != other.rate_up_bps).all()


def test_selected_devices_keep_their_links() -> None:
    links = Fleet.build(5, Network("n", 1e6, 2e6, 0.1, spread=0.5), seed=0, **SPEEDS)
    some = links.select(np.array([4, 1]))
    assert len(some) == 2
    np.testing.assert_array_equal(some.rate_up_bps, links.rate_up_bps[[4, 1]])
    assert some.cloud_flops_per_s == links.cloud_flops_per_s


@pytest.mark.parametrize("key", ["rate_up_bps", "rate_down_bps"])
@pytest.mark.parametrize("value", [0, -1.5, math.nan])
def test_a_rate_that_is_not_positive_is_refused_with_its_key_and_value(key: str, value: float) -> None:
    settings = {"rate_up_bps": 1.0, "rate_down_bps": 1.0, "rtt_s": 0.0, key: value}
    with pytest.raises(UserError, match=f"network.{key} must be > 0, got {value}"):
        Network("n", **settings)


@pytest.mark.parametrize("key", ["rtt_s", "spread"])
@pytest.mark.parametrize("value", [-1, math.inf, math.nan])
def test_a_negative_or_infinite_time_or_spread_is_refused(key: str, value: float) -> None:
    settings = {"rtt_s": 0.0, "spread": 0.0, key: value}
    with pytest.raises(UserError, match=f"network.{key} must be >= 0 and finite, got {value}"):
        Network("n", 1.0, 1.0, **settings)


@pytest.mark.parametrize("key", ["device_flops_per_s", "cloud_flops_per_s"])
def test_a_speed_that_is_not_positive_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"fleet.{key} must be > 0, got -2"):
        Fleet.build(1, Network("n", 1.0, 1.0, 0.0), seed=0, **{**SPEEDS, key: -2})
