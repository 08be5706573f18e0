"""Which items of its log a device tells: every one or every few, of as far back as asked."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import NUM_DEVICES, stream

from cdc_flower.devices.told import Told
from cdc_flower.tasks.cut import windows

EVERYONE = np.arange(NUM_DEVICES)
#: Eight events of one device, numbered in their order.
ITEMS = np.arange(1, 9, dtype=np.int32)


def window_of(index: int, length: int, stride: int = 1) -> list[int]:
    return windows(ITEMS, np.zeros(1, int), np.array([index]), length, stride)[0].tolist()


def log_of(device: int, segment: int, lag: int = 0) -> list[int]:
    """All that a device has when a segment starts, one event after the other."""
    data = stream()
    first, end = data.offsets[device], data.bounds[device, segment]
    return [int(item) for item in data.items[first : max(end - lag, first + 1)]]


def told_by_hand(log: list[int], length: int, stride: int) -> list[int]:
    """Walks back from the newest item."""
    found, place = [], len(log) - 1
    while place >= 0 and len(found) < length:
        found.insert(0, log[place])
        place -= stride
    return found + [0] * (length - len(found))


def test_a_window_ends_with_the_newest_item_and_takes_every_few_before_it() -> None:
    assert window_of(8, 3) == [6, 7, 8]
    assert window_of(8, 3, stride=2) == [4, 6, 8]
    assert window_of(8, 3, stride=3) == [2, 5, 8]
    assert window_of(8, 3, stride=4) == [4, 8, 0]


def test_a_window_beyond_the_first_event_is_padded_on_the_right() -> None:
    assert window_of(2, 4) == [1, 2, 0, 0]
    assert window_of(5, 4, stride=2) == [1, 3, 5, 0]
    assert window_of(0, 2, stride=5) == [0, 0]


@pytest.mark.parametrize(
    ("values", "rule"),
    [((0, 1), "length must be >= 1, got 0"), ((2, 0), "stride must be >= 1, got 0")],
)
def test_a_window_of_nothing_is_refused(values: tuple[int, int], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        window_of(4, *values)


@given(
    length=st.integers(1, 50),
    stride=st.integers(1, 9),
    lag=st.integers(0, 45),
    at=st.integers(0, 6),
)
def test_devices_tell_what_walking_back_through_their_logs_finds(
    length: int, stride: int, lag: int, at: int
) -> None:
    told = Told(length, stride).recent(stream(), EVERYONE, at, lag)
    assert told.dtype == np.int32
    by_hand = [told_by_hand(log_of(device, at, lag), length, stride) for device in EVERYONE]
    np.testing.assert_array_equal(told, by_hand)


@given(
    length=st.integers(1, 40), stride=st.integers(1, 5), lag=st.integers(0, 30), seed=st.integers(0)
)
def test_the_past_tells_what_a_device_would_have_told_then(
    length: int, stride: int, lag: int, seed: int
) -> None:
    history = stream().historical()
    rows = np.random.default_rng(seed).integers(0, history.num_examples, 5)
    past = Told(length, stride).lagged(history, rows, np.full(5, lag), history.history_length)
    for row, told in zip(rows, past, strict=True):
        device, place = history._place[row], history._index[row]
        log = history.items[history.offsets[device] : place]
        before = log[: max(len(log) - lag, 1)].tolist()
        assert told.tolist() == told_by_hand(before, length, stride)


def test_a_report_when_a_segment_starts_is_that_of_the_example_after_it() -> None:
    whole = stream()
    longer = replace(whole.historical(), offsets=whole.offsets, items=whole.items)
    told = Told(20, 2)
    for segment in range(whole.num_segments):
        firsts = whole.bounds[:, segment] - whole.offsets[:-1] - 1  # examples start with event 1
        rows = firsts + np.concatenate([[0], np.cumsum(np.diff(whole.offsets) - 1)[:-1]])
        past = told.lagged(longer, rows, np.zeros_like(rows), whole.history_length)
        np.testing.assert_array_equal(past, told.recent(whole, EVERYONE, segment, 0))


@pytest.mark.parametrize("told", [Told(), Told(10), Told(None, 1)])
def test_what_the_device_model_reads_is_asked_for_without_a_length(told: Told) -> None:
    class Plain:
        """A stream of a user's own, which knows nothing of lengths."""

        history_length = 10

        def recent(self, device_ids: np.ndarray, segment: int, lag: int = 0) -> np.ndarray:
            return stream().recent(device_ids, segment, lag)

        def lagged(self, rows: np.ndarray, lag: np.ndarray) -> np.ndarray:
            return stream().historical().lagged(rows, lag)

    np.testing.assert_array_equal(
        told.recent(Plain(), EVERYONE, 2, 1), stream().recent(EVERYONE, 2, 1)
    )
    rows = np.arange(4)
    np.testing.assert_array_equal(
        told.lagged(Plain(), rows, rows, 10), stream().historical().lagged(rows, rows)
    )


@pytest.mark.parametrize("told", [Told(), Told(20), Told(3, 4), Told(None, 2)])
def test_settings_carry_what_is_told_and_nothing_else(told: Told) -> None:
    settings = told.to_settings()
    assert Told.from_settings({**settings, "lag": 3}) == told
    assert len(settings) == (told.length is not None) + (told.stride > 1)
