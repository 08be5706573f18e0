"""Round-trip time and loss of recordings on the links of a fleet."""

import numpy as np
import pytest

from cdc_flower.simulations.fleet import Conditions, Fleet, Network
from cdc_flower.simulations.network.trace import Trace, TracePair

NUM = 400
FLAT = Trace(np.array([0.0, 1.0]), np.array([8e3]))


def fleet_of(*pairs: TracePair, rtt_s: float = 0.5, loss: float = 0.0) -> Fleet:
    return Fleet.build(
        NUM, Network("made", rtt_s=rtt_s, traces=pairs), conditions=Conditions(loss=loss)
    )


def held_s(fleet: Fleet) -> np.ndarray:
    rows = np.arange(NUM)
    up, _ = fleet.channels()
    return up.hold_s(rows, np.zeros(NUM), np.full(NUM, 1000), np.zeros(NUM, np.int64))[0]


def test_each_link_has_the_round_trip_time_of_its_recording_or_else_the_networks() -> None:
    fleet = fleet_of(TracePair(FLAT, FLAT, rtt_s=0.125), TracePair(FLAT, FLAT))
    assert set(fleet.rtt_s) == {0.125, 0.5}
    up, _ = fleet.channels()
    assert (up.rtt_s == np.array([0.125, 0.5])[up.trace]).all()


def test_each_link_loses_as_many_packets_as_its_recording_and_the_conditions_say() -> None:
    fleet = fleet_of(TracePair(FLAT, FLAT, loss=0.5), TracePair(FLAT, FLAT), rtt_s=0.0)
    up, _ = fleet.channels()
    took = held_s(fleet)
    assert took[up.trace == 1] == pytest.approx(1.0)
    assert took[up.trace == 0].mean() == pytest.approx(2.0, abs=0.3)  # one packet, in halves
    both = fleet_of(TracePair(FLAT, FLAT, loss=0.5), rtt_s=0.0, loss=0.5)
    assert held_s(both).mean() == pytest.approx(4.0, abs=0.6)  # three in four are lost


def test_a_recording_that_loses_everything_carries_nothing_and_others_do() -> None:
    fleet = fleet_of(TracePair(FLAT, FLAT, loss=1.0), TracePair(FLAT, FLAT, loss=0.0))
    up, _ = fleet.channels()
    assert np.isinf(held_s(fleet)[up.trace == 0]).all()
    assert held_s(fleet)[up.trace == 1] == pytest.approx(1.0)


def test_a_loss_that_all_recordings_have_is_the_same_as_that_of_the_conditions() -> None:
    recorded = fleet_of(TracePair(FLAT, FLAT, loss=0.25))
    declared = fleet_of(TracePair(FLAT, FLAT), loss=0.25)
    np.testing.assert_allclose(held_s(recorded), held_s(declared))
    part = recorded.select(np.arange(0, NUM, 7))
    up, _ = part.channels()
    assert up.own_loss is not None and len(up.own_loss) == len(part)


def test_what_was_recorded_is_part_of_the_content() -> None:
    pairs = [TracePair(FLAT, FLAT, rtt, loss) for rtt in (None, 0.1) for loss in (None, 0.1)]
    assert len({pair.content_hash() for pair in pairs}) == 4
