"""The events of a device in a segment, as far as what is before the stream tells."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny import cloud, strategy, stream

from cdc_flower.strategies.past import events_per_segment
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.tasks.data.interactions import CutOptions
from cdc_flower.tasks.data.shifting_interests import InterestsOptions
from cdc_flower.tasks.recommendation.cut_streams import event_stream
from cdc_flower.tasks.recommendation.interests import interests_stream
from cdc_flower.tasks.recommendation.segment_events import events_by_calendar
from cdc_flower.tasks.recommendation.stream import EventStream


def cut(counts: list[int], times_s: list[float] | None = None, **options: Any) -> EventStream:
    """A stream of devices with so many events."""
    offsets = np.concatenate([[0], np.cumsum(counts)])
    items = np.arange(offsets[-1], dtype=np.int32) % 5 + 1
    times = None if times_s is None else np.array(times_s)
    table: Any = SimpleNamespace(
        offsets=offsets, items=items, num_items=5, times_s=times, source="a test"
    )
    segments = options.pop("num_segments", 4)
    return event_stream(table, CutOptions(**options), num_segments=segments, seed=0)


def test_where_each_device_is_cut_by_its_events_it_is_the_rest_in_equal_parts() -> None:
    assert cut([80, 40, 40]).events_per_segment == 5  # of 20 historical ones, 20 follow in 4 parts
    assert cut([80, 40, 40], historical_fraction=0.8).events_per_segment == 2  # 32 / 4 / 4
    assert cut([80, 40, 40], num_segments=2).events_per_segment == 10


def test_by_the_calendar_it_is_the_median_of_windows_as_long_as_a_segment() -> None:
    # Windows of 10 s before the cut at 0 s: device 0 has 3 events in one and 1 in another, device 1
    # has 2, and what comes after the cut is not looked at.
    offsets = np.array([0, 5, 9])
    for after in ([1.0, 2.0, 3.0], [1.0, 1.0, 500.0]):
        times = np.array([-19.0, -9.0, -5.0, -1.0, after[0], -8.0, -7.0, *after[1:]])
        assert events_by_calendar(offsets, times, 10.0) == 2
    assert events_by_calendar(offsets, np.abs(times), 10.0) == 0


def test_a_stream_by_the_calendar_counts_in_windows_of_its_segments() -> None:
    times = [float(second) for second in range(40)]  # an event a second, and segments of 5 s
    assert cut([40], times, cut="calendar").events_per_segment == 5
    assert cut([20, 20], [*times[::2], *times[1::2]], cut="calendar").events_per_segment in (2, 3)


def test_where_the_last_event_is_left_out_a_report_is_of_that_very_moment() -> None:
    assert cut([9, 9], cut="last", num_segments=1).events_per_segment == 0
    last = interests_stream(4, 1, InterestsOptions(cut="last"), seed=0)
    assert last.events_per_segment == 0


def test_embedded_devices_count_their_own_past() -> None:
    options = InterestsOptions(events_per_segment=7, events_jitter=2, history_events=70)
    assert interests_stream(20, 3, options, seed=0).events_per_segment == 7
    none = InterestsOptions(history_events=0)
    assert interests_stream(2, 1, none, seed=0).events_per_segment == 0


def test_parts_of_the_history_know_it_too() -> None:
    history = stream().historical()
    for part in (*history.split(0.25, 0), *history.split_last()):
        assert events_per_segment(part) == stream().events_per_segment == 4


@pytest.mark.parametrize("name", ["apg", "duet", "group_fine_tuning", "persona"])
def test_a_lag_of_auto_is_that_number_and_any_other_is_taken_as_it_is(name: str) -> None:
    assert build_strategy(name, {}).max_lag == "auto"
    assert build_strategy(name, {}).past(cloud()).max_lag == 4
    assert build_strategy(name, {"max_lag": 7}).past(cloud()).max_lag == 7
    draws = build_strategy(name, {}).past(cloud()).lags(1000, np.random.default_rng(0))
    assert sorted(set(draws)) == [0, 1, 2, 3, 4]


def test_where_nobody_knows_it_there_is_no_lag() -> None:
    assert events_per_segment(object()) == 0


@pytest.mark.parametrize("name", ["apg", "duet", "group_fine_tuning", "persona"])
def test_auto_trains_as_the_number_that_it_stands_for(name: str) -> None:
    auto, number = (strategy(name, max_lag=lag).deployment() for lag in ("auto", 4))
    for key, value in auto.items():
        np.testing.assert_array_equal(value, number[key])
