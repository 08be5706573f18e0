import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.fleet import Conditions, Fleet, Network, Speeds
from cdc_flower.simulations.network.channel import Channel, Fifo
from cdc_flower.simulations.network.trace import Trace, TracePair

SPEEDS = Speeds(device_flops_per_s=1e9, cloud_flops_per_s=1e11)
seconds = st.floats(0, 1e6)
sizes = st.integers(0, 10**9)
rates = st.floats(1, 1e10)


def one(
    start_s: float, free_s: float, wire_bytes: int, rate_bps: float, rtt_s: float
) -> tuple[float, float]:
    fifo = Fifo(Channel(np.array([rate_bps]), np.array([rtt_s]), np.array([0])), free_s)
    arrival_s, _, _ = fifo.send(
        np.array([0]), np.array([start_s]), np.array([wire_bytes]), np.array([np.inf])
    )
    return float(arrival_s[0]), float(fifo.free_s[0])


def test_a_link_of_8_bps_moves_one_byte_a_second() -> None:
    assert one(0, 0, 1, 8, 0) == (1, 1)
    assert one(10, 0, 5, 8, 0) == (15, 15)


def test_half_of_the_round_trip_time_is_added_once_and_does_not_keep_the_link_busy() -> None:
    assert one(0, 0, 2, 8, 0.5) == (2.25, 2)


def test_a_busy_link_sends_first_what_came_first() -> None:
    assert one(3, 7, 2, 8, 0) == (9, 9)


def test_an_unlimited_link_takes_no_time() -> None:
    assert one(3, 0, 10**9, math.inf, 0) == (3, 3)


@given(seconds, seconds, sizes.filter(bool), rates, st.floats(0, 10))
def test_the_time_is_bytes_over_rate_and_half_a_round_trip(
    start, free, wire_bytes, rate, rtt
) -> None:
    arrival_s, free_s = one(start, free, wire_bytes, rate, rtt)
    assert free_s == pytest.approx(max(start, free) + wire_bytes * 8 / rate)
    assert arrival_s == pytest.approx(free_s + rtt / 2)
    assert arrival_s >= start


@given(seconds, seconds, sizes.filter(bool), sizes.filter(bool), rates)
def test_two_messages_on_a_busy_link_take_as_long_as_one_of_their_sizes(
    start, free, first, second, rate
) -> None:
    _, free_s = one(start, free, first, rate, 0)
    _, after_both_s = one(start, free_s, second, rate, 0)
    assert after_both_s == pytest.approx(one(start, free, first + second, rate, 0)[1])


@given(seconds, seconds, st.integers(1, 10**9), st.integers(1, 10**9), rates)
def test_more_bytes_never_arrive_earlier(start, free, size, more, rate) -> None:
    assert one(start, free, size + more, rate, 0)[0] >= one(start, free, size, rate, 0)[0]


def test_a_devices_link_does_not_depend_on_how_many_others_there_are() -> None:
    network = Network("n", 1e6, 2e6, 0.1, spread=0.5)
    small, large = (Fleet.build(n, network, seed=3, speeds=SPEEDS) for n in (5, 1000))
    # Powers of five and of a thousand numbers may be taken by other instructions.
    np.testing.assert_allclose(small.rate_up_bps, large.rate_up_bps[:5], rtol=1e-12)
    np.testing.assert_allclose(small.rate_down_bps, large.rate_down_bps[:5], rtol=1e-12)
    assert len(np.unique(large.rate_up_bps)) == 1000


def test_rates_spread_as_configured_and_up_independent_of_down() -> None:
    links = Fleet.build(20000, Network("n", 1e6, 2e6, 0.1, spread=0.5), seed=0, speeds=SPEEDS)
    up, down = np.log(links.rate_up_bps / 1e6), np.log(links.rate_down_bps / 2e6)
    for values in (up, down):
        assert abs(values.mean()) < 0.02
        assert values.std() == pytest.approx(0.5, rel=0.03)
    assert abs(np.corrcoef(up, down)[0, 1]) < 0.03


def test_without_spread_all_links_are_the_profile() -> None:
    links = Fleet.build(3, Network("n", 1e6, math.inf, 0.1), seed=0, speeds=SPEEDS)
    assert links.rate_up_bps.tolist() == [1e6] * 3
    assert links.rate_down_bps.tolist() == [math.inf] * 3
    assert links.rtt_s.tolist() == [0.1] * 3


def test_another_seed_gives_other_links() -> None:
    network = Network("n", 1e6, 2e6, 0.1, spread=0.5)
    one_seed, other = (Fleet.build(3, network, seed=seed, speeds=SPEEDS) for seed in (0, 1))
    assert (one_seed.rate_up_bps != other.rate_up_bps).all()


def test_selected_devices_keep_their_links() -> None:
    links = Fleet.build(5, Network("n", 1e6, 2e6, 0.1, spread=0.5), seed=0, speeds=SPEEDS)
    some = links.select(np.array([4, 1]))
    assert len(some) == 2
    np.testing.assert_array_equal(some.rate_up_bps, links.rate_up_bps[[4, 1]])
    assert some.cloud_flops_per_s == links.cloud_flops_per_s


def two_traces() -> tuple[TracePair, ...]:
    one_trace, other = (
        Trace(np.array([0.0, 1.0, 3.0]), np.array([rate, 1.0])) for rate in (4.0, 7.0)
    )
    return (TracePair(one_trace, other), TracePair(other, one_trace))


def test_devices_follow_traces_from_random_moments_whatever_the_size_of_the_fleet() -> None:
    network = Network("n", rtt_s=0.1, traces=two_traces())
    small, large = (Fleet.build(n, network, seed=3) for n in (5, 1000))
    for few, many in zip(small.channels(), large.channels(), strict=True):
        np.testing.assert_array_equal(few.trace, many.trace[:5])
        np.testing.assert_array_equal(few.offset_s, many.offset_s[:5])
        assert (
            set(many.trace) == {0, 1} and many.offset_s.min() >= 0 and 2.9 < many.offset_s.max() < 3
        )
    up, down = large.channels()
    np.testing.assert_array_equal(up.trace, down.trace)  # both directions are of one recording
    assert set(large.rate_up_bps) == {2.0, 3.0}  # means: (4 + 2) / 3 and (7 + 2) / 3
    other = large.select(np.array([7, 2])).channels()[0]
    np.testing.assert_array_equal(other.trace, up.trace[[7, 2]])


def test_a_scale_multiplies_constant_rates_and_traces() -> None:
    for network in (Network("n", 1e6, 2e6), Network("n", traces=two_traces())):
        plain, scaled = (
            Fleet.build(50, network, conditions=Conditions(rate_scale=k)) for k in (1.0, 0.5)
        )
        np.testing.assert_allclose(scaled.rate_up_bps, plain.rate_up_bps / 2)
        np.testing.assert_allclose(
            scaled.median_rates_bps(), np.array(plain.median_rates_bps()) / 2
        )


def test_speeds_of_phones_are_those_of_the_declared_distribution() -> None:
    quantiles = [0.1, 1.0, 4.0]
    phones = Fleet.build(20000, Network("n"), speeds=Speeds(10.0, speed_quantiles=quantiles))
    speed = phones.device_flops_per_s
    np.testing.assert_allclose(
        np.quantile(speed, [0, 0.25, 0.5, 1]), [1, 10**0.5, 10, 40], rtol=0.05
    )
    few = Fleet.build(7, Network("n"), speeds=Speeds(10.0, speed_quantiles=quantiles))
    np.testing.assert_allclose(few.device_flops_per_s, speed[:7], rtol=1e-12)
    assert (Fleet.build(3, Network("n"), speeds=Speeds(10.0)).device_flops_per_s == 10).all()


@pytest.mark.parametrize(
    ("build", "rule"),
    [
        ({"speed_quantiles": [1.0]}, "fleet.speed_quantiles must be at least two"),
        ({"speed_quantiles": [2.0, 1.0]}, "fleet.speed_quantiles"),
        ({"speed_quantiles": [0.0, 1.0]}, "fleet.speed_quantiles"),
        (
            {"num_cloud_workers": 0},
            "fleet.num_cloud_workers must be a whole number >= 1 or null, got 0",
        ),
        ({"cloud_s_per_device": -1}, "fleet.cloud_s_per_device must be a number >= 0"),
    ],
)
def test_a_wrong_fleet_is_refused(build: dict, rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        Speeds(**build)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"loss": 1.5}, r"conditions.loss must be a number in \[0, 1\], got 1.5"),
        ({"loss": None}, "conditions.loss must be a number"),
        ({"packet_bytes": 0}, "conditions.packet_bytes must be a whole number >= 1, got 0"),
        ({"ttl_s": 0}, "conditions.ttl_s must be a number > 0"),
        ({"cell_up_bps": math.inf}, "conditions.cell_up_bps must be a number > 0 and finite"),
        (
            {"deadline_s": "soon"},
            "conditions.deadline_s must be a number > 0 and finite or null, got soon",
        ),
        ({"rate_scale": 0}, "conditions.rate_scale must be a number > 0"),
    ],
)
def test_a_wrong_condition_is_refused(settings: dict, rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        Conditions(**settings)


def test_traces_have_no_spread() -> None:
    with pytest.raises(UserError, match=r"network\.spread must be 0 with traces, got 0\.5"):
        Network("n", spread=0.5, traces=two_traces())


@pytest.mark.parametrize("key", ["rate_up_bps", "rate_down_bps"])
@pytest.mark.parametrize("value", [0, -1.5, math.nan])
def test_a_rate_that_is_not_positive_is_refused_with_its_key_and_value(
    key: str, value: float
) -> None:
    settings = {"rate_up_bps": 1.0, "rate_down_bps": 1.0, "rtt_s": 0.0, key: value}
    with pytest.raises(UserError, match=f"network.{key} must be a number > 0, got {value}"):
        Network("n", **settings)


@pytest.mark.parametrize("key", ["rtt_s", "spread"])
@pytest.mark.parametrize("value", [-1, math.inf, math.nan])
def test_a_negative_or_infinite_time_or_spread_is_refused(key: str, value: float) -> None:
    settings = {"rtt_s": 0.0, "spread": 0.0, key: value}
    with pytest.raises(
        UserError, match=f"network.{key} must be a number >= 0 and finite, got {value}"
    ):
        Network("n", 1.0, 1.0, **settings)


@pytest.mark.parametrize("key", ["device_flops_per_s", "cloud_flops_per_s"])
def test_a_speed_that_is_not_positive_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"fleet.{key} must be a number > 0, got -2"):
        Speeds(**{key: -2})
