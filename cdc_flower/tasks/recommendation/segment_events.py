"""Counts the events of a device in a segment from the historical part alone.

The cloud trains before the stream starts, so it may know how long a segment will be, but not what
happens in it.
"""

import math

import numpy as np
from numpy.typing import NDArray


def events_by_share(
    offsets: NDArray[np.int64],
    bounds: NDArray[np.int64],
    num_segments: int,
    historical_fraction: float,
) -> int:
    """Counts where devices are cut by their own events: the rest of them, in equal segments.

    Args:
        offsets: ``[n + 1]``, where the events of each device start.
        bounds: ``[n, S + 1]``; of these the first column alone is read, the end of the history.
        num_segments: ``S``.
        historical_fraction: Share of each device's events that is historical, in (0, 1).

    Returns:
        The median over devices with a history; 0 if there is none.
    """
    historical = bounds[:, 0] - offsets[:-1]
    historical = historical[historical > 0]
    if not len(historical):
        return 0
    rest = (1 - historical_fraction) / historical_fraction
    return _rounded(float(np.median(historical)) * rest / num_segments)


def events_by_calendar(
    offsets: NDArray[np.int64], times_s: NDArray[np.float64], segment_s: float
) -> int:
    """Counts where all devices are cut at the same times: history in windows of a segment's length.

    Windows in which a device has no event do not count: in such a segment nothing is predicted.

    Args:
        offsets: ``[n + 1]``, where the events of each device start.
        times_s: ``[num_events]``, from the cut on; those of the history are negative.
        segment_s: Length of a segment.

    Returns:
        The median over devices and windows; 0 if nothing is before the cut.
    """
    device = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    is_historical = times_s < 0
    window = np.floor(times_s[is_historical] / segment_s).astype(np.int64)
    if not len(window):
        return 0
    first = window.min()
    cell = device[is_historical] * (1 - first) + window - first
    return _rounded(float(np.median(np.unique(cell, return_counts=True)[1])))


def _rounded(count: float) -> int:
    """Rounds to the nearest whole number, and half of one upward."""
    return math.floor(count + 0.5)
