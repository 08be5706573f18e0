"""Cuts of events in time: the historical part, the events of each segment, and those before one.

A cut is an array of bounds: segment ``r`` of device ``d`` holds the events ``bounds[d, r]`` up to
``bounds[d, r + 1]`` (not included) of the event table, and everything before ``bounds[d, 0]`` is
historical.
"""

import math

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError

#: One that only serves as history, one example to train on, and the one that is left out.
LEAST_EVENTS_TO_LEAVE_ONE_OUT = 3


def check_cut(num_segments: int, historical_fraction: float) -> None:
    """Refuse values that cut nothing.

    Raises:
        UserError: If ``num_segments`` < 1 or ``historical_fraction`` is not in (0, 1).
    """
    if num_segments < 1:
        raise UserError(f"num_segments must be >= 1, got {num_segments}")
    if not 0 < historical_fraction < 1:
        raise UserError(f"data.historical_fraction must be in (0, 1), got {historical_fraction}")


def cut_by_events(
    offsets: NDArray[np.int64], num_segments: int, historical_fraction: float
) -> NDArray[np.int64]:
    """Cuts each device by its own number of events: a historical part, then equal segments.

    A device with any event keeps at least its first one as history, so that its first segment
    starts with a past. Segments of one device differ by at most one event.

    Args:
        offsets: ``[num_devices + 1]``, where the events of each device start.
        num_segments: How many segments; the same for all devices.
        historical_fraction: Share of each device's events, in (0, 1).

    Returns:
        ``[num_devices, num_segments + 1]``, absolute event indices.

    Raises:
        UserError: If a value cuts nothing; see :func:`check_cut`.
    """
    check_cut(num_segments, historical_fraction)
    num_events = np.diff(offsets)
    historical = np.floor(num_events * historical_fraction + 1e-9).astype(np.int64)
    historical = np.minimum(np.maximum(historical, 1), num_events)
    remaining = num_events - historical
    parts = remaining[:, None] * np.arange(num_segments + 1) // num_segments
    return np.asarray((offsets[:-1] + historical)[:, None] + parts, dtype=np.int64)


def cut_last(offsets: NDArray[np.int64], num_segments: int = 1) -> NDArray[np.int64]:
    """Leaves the last event of each device out: one segment holds it alone, the rest is historical.

    A device with fewer than ``LEAST_EVENTS_TO_LEAVE_ONE_OUT`` events is not scored, since it would
    have no example to train on; its events are historical.

    Args:
        offsets: ``[num_devices + 1]``, where the events of each device start.
        num_segments: Must be 1.

    Returns:
        ``[num_devices, 2]``, absolute event indices.

    Raises:
        UserError: If ``num_segments`` is not 1.
    """
    if num_segments != 1:
        raise UserError(f"num_segments must be 1 with data.cut=last, got {num_segments}")
    end = np.asarray(offsets[1:], dtype=np.int64)
    scored = np.diff(offsets) >= LEAST_EVENTS_TO_LEAVE_ONE_OUT
    return np.stack([end - scored, end], axis=1)


def cut_by_calendar(
    offsets: NDArray[np.int64],
    times_s: NDArray[np.float64] | None,
    num_segments: int,
    historical_fraction: float,
    source: str = "the data",
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Cuts all devices at the same moments: one cut, then equal segments to the last event.

    The cut time is the quantile of all event times. An event at the very cut time belongs to
    segment 0.

    Args:
        offsets: ``[num_devices + 1]``.
        times_s: ``[num_events]``, ascending within each device; None if the source has an order
            only.
        num_segments: How many segments.
        historical_fraction: Share of all events before the cut, in (0, 1).
        source: Name of the file, for the error.

    Returns:
        Bounds ``[num_devices, num_segments + 1]``; ``segment_starts_s`` ``[num_segments + 1]``, in
        seconds after the cut; and the event times ``[num_events]``, also in seconds after the cut
        (negative before it).

    Raises:
        UserError: If there are no times, if no time follows the cut, or if a value cuts nothing.
    """
    check_cut(num_segments, historical_fraction)
    if times_s is None:
        raise UserError(f"data.cut=calendar needs times and {source} has order only")
    if len(times_s) == 0:
        raise UserError(f"data.cut=calendar needs events and {source} has none")
    after_cut_s = times_s - np.quantile(times_s, historical_fraction)
    last_s = float(after_cut_s.max())
    if last_s <= 0:
        raise UserError(
            f"data.cut=calendar needs times after the cut and those of {source} all end at it"
        )
    segment_starts_s = np.linspace(0.0, last_s, num_segments + 1)
    segment_starts_s[-1] = math.nextafter(last_s, math.inf)  # so that the last event lies inside
    stage = np.clip(
        np.searchsorted(segment_starts_s, after_cut_s, side="right"), 0, num_segments
    )  # 0: historical
    num_devices = len(offsets) - 1
    device = np.repeat(np.arange(num_devices), np.diff(offsets))
    counts = np.bincount(
        device * (num_segments + 1) + stage, minlength=num_devices * (num_segments + 1)
    )
    bounds = offsets[:-1, None] + np.cumsum(counts.reshape(num_devices, num_segments + 1), axis=1)
    return bounds.astype(np.int64), segment_starts_s, after_cut_s


def even_times_s(
    place: NDArray[np.int64], num_events: NDArray[np.int64], start_s: float, end_s: float
) -> NDArray[np.float64]:
    """Spread events evenly over their segment: event ``k`` of ``m`` lies at (k + 0.5) / m of it.

    Args:
        place: ``[T]``, 0, 1, ... within the device's segment.
        num_events: ``[T]``, how many events that segment has.
        start_s: When the segment starts.
        end_s: When it ends.

    Returns:
        ``[T]``, seconds.
    """
    return np.asarray(
        start_s + (place + 0.5) / np.maximum(num_events, 1) * (end_s - start_s), dtype=np.float64
    )


def even_starts_s(num_segments: int, segment_s: float) -> NDArray[np.float64]:
    """Makes ``[num_segments + 1]`` decision points ``segment_s`` seconds apart, from 0 s on.

    Raises:
        UserError: If ``segment_s`` is not above 0.
    """
    if not segment_s > 0:
        raise UserError(f"data.segment_s must be > 0, got {segment_s}")
    return np.arange(num_segments + 1, dtype=np.float64) * segment_s


def flat_ranges(
    first: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Lays the ranges ``first[i] <= index < end[i]`` in a row; one may be empty.

    Args:
        first: ``[n]``.
        end: ``[n]``.

    Returns:
        For each of the ``T`` indices: the row of its range, its slot 0, 1, ... in that range, and
        the index.
    """
    counts = np.maximum(end - first, 0)
    row = np.repeat(np.arange(len(counts)), counts)
    slot = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return row, slot, first[row] + slot


def windows(
    items: NDArray[np.int32],
    start: NDArray[np.int64],
    index: NDArray[np.int64],
    length: int,
    stride: int = 1,
) -> NDArray[np.int32]:
    """The items before each index, oldest first, padded on the right with 0.

    Args:
        items: ``[num_events]``, of all devices.
        start: ``[T]``, where the events of the index's device start.
        index: ``[T]``, absolute; the event itself is not part of its window.
        length: ``L``, the most items of a window.
        stride: Every how manyth item belongs to it, counted back from the newest; 1 takes all.

    Returns:
        ``[T, L]``.

    Raises:
        ValueError: If length or stride is below 1.
    """
    for name, value in (("length", length), ("stride", stride)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    columns = np.arange(length)
    filled = np.minimum(-(-(index - start) // stride), length)[:, None]
    if len(items) == 0:
        return np.zeros((len(index), length), dtype=np.int32)
    place = index[:, None] - 1 - (filled - 1 - columns) * stride
    taken = items[np.clip(place, 0, len(items) - 1)]
    return np.where(columns < filled, taken, 0).astype(np.int32, copy=False)
