import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.cut import (
    cut_by_calendar,
    cut_by_events,
    cut_last,
    even_times_s,
    flat_ranges,
    windows,
)


def test_ten_events_cut_at_0_4_into_three_segments_by_hand() -> None:
    # 4 historical events, then 6 in 3 segments of 2; the second device starts at 10 and has 1
    # event, all historical
    bounds = cut_by_events(np.array([0, 10, 11]), 3, 0.4)
    assert bounds.tolist() == [[4, 6, 8, 10], [11, 11, 11, 11]]


def test_a_device_with_any_event_keeps_its_first_one_as_history() -> None:
    assert cut_by_events(np.array([0, 2, 2]), 1, 0.1).tolist() == [[1, 2], [2, 2]]


def test_all_but_the_last_event_are_historical_where_there_are_three() -> None:
    # devices with 4, 3, 2, 1 and 0 events
    assert cut_last(np.array([0, 4, 7, 9, 10, 10])).tolist() == [
        [3, 4],
        [6, 7],
        [9, 9],
        [10, 10],
        [10, 10],
    ]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 7), st.floats(0.01, 0.99)
)
def test_a_cut_by_events_covers_each_device_in_equal_parts(
    counts: list[int], segments: int, share: float
) -> None:
    offsets = np.concatenate([[0], np.cumsum(counts)])
    bounds = cut_by_events(offsets, segments, share)
    sizes = np.diff(bounds, axis=1)
    assert (bounds[:, -1] == offsets[1:]).all() and (bounds[:, 0] >= offsets[:-1]).all()
    assert (sizes >= 0).all() and (np.ptp(sizes, axis=1) <= 1).all()


def test_a_calendar_cut_by_hand() -> None:
    # all times 0..8: the 0.5 quantile is 4; two segments of 2 s, from 4 to 6 and from 6 to just
    # after 8
    times_s = np.array([0.0, 2.0, 4.0, 5.0, 8.0, 1.0, 3.0, 6.0, 7.0])
    bounds, starts_s, after_cut_s = cut_by_calendar(np.array([0, 5, 9]), times_s, 2, 0.5)
    assert bounds.tolist() == [[2, 4, 5], [7, 7, 9]]
    assert starts_s == pytest.approx([0, 2, 4]) and starts_s[-1] > 4
    assert after_cut_s.tolist() == (times_s - 4).tolist()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 1e9), min_size=2, max_size=40, unique=True),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_every_event_lies_in_the_segment_that_holds_its_time(
    times: list[float], segments: int, devices: int
) -> None:
    device = np.sort(np.arange(len(times)) % devices)
    times_s = np.array(times)[np.lexsort((times, device))]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(device, minlength=devices))])
    bounds, starts_s, after_cut_s = cut_by_calendar(offsets, times_s, segments, 0.3)
    assert (bounds[:, -1] == offsets[1:]).all()
    for d in range(devices):
        assert (after_cut_s[offsets[d] : bounds[d, 0]] < 0).all()
        for r in range(segments):
            inside = after_cut_s[bounds[d, r] : bounds[d, r + 1]]
            assert ((inside >= starts_s[r]) & (inside < starts_s[r + 1])).all()


@pytest.mark.parametrize(
    ("segments", "share", "message"),
    [
        (0, 0.5, "num_segments must be >= 1, got 0"),
        (2, 1.0, r"data.historical_fraction must be in \(0, 1\), got 1.0"),
        (2, 0.0, r"data.historical_fraction must be in \(0, 1\), got 0.0"),
        (2, float("nan"), r"data.historical_fraction must be in \(0, 1\), got nan"),
    ],
)
def test_a_cut_that_cuts_nothing_is_an_error(segments: int, share: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cut_by_events(np.array([0, 3]), segments, share)
    with pytest.raises(UserError, match=message):
        cut_by_calendar(np.array([0, 3]), np.arange(3.0), segments, share)


def test_a_calendar_cut_without_times_names_the_file() -> None:
    with pytest.raises(
        UserError, match=r"data.cut=calendar needs times and ratings.csv has order only"
    ):
        cut_by_calendar(np.array([0, 3]), None, 2, 0.5, "ratings.csv")


@pytest.mark.parametrize("times", [[], [5.0, 5.0, 5.0]])
def test_a_calendar_cut_with_nothing_after_it_is_an_error(times: list[float]) -> None:
    with pytest.raises(UserError, match=r"data.cut=calendar needs"):
        cut_by_calendar(np.array([0, len(times)]), np.array(times), 2, 0.5)


def test_four_events_are_spread_evenly_over_a_minute() -> None:
    times_s = even_times_s(np.arange(4), np.full(4, 4), 60.0, 120.0)
    assert times_s.tolist() == [67.5, 82.5, 97.5, 112.5]


def test_flat_ranges_skips_empty_and_backward_ranges() -> None:
    row, slot, index = flat_ranges(np.array([3, 5, 9, 7]), np.array([5, 5, 8, 10]))
    assert row.tolist() == [0, 0, 3, 3, 3]
    assert slot.tolist() == [0, 1, 0, 1, 2]
    assert index.tolist() == [3, 4, 7, 8, 9]


def test_a_window_holds_the_items_before_and_pads_on_the_right() -> None:
    items = np.array([11, 12, 13, 14, 21, 22], dtype=np.int32)
    found = windows(items, np.array([0, 0, 0, 4, 4]), np.array([0, 2, 4, 4, 6]), 3)
    assert found.tolist() == [[0, 0, 0], [11, 12, 0], [12, 13, 14], [0, 0, 0], [21, 22, 0]]
    assert found.dtype == np.int32
