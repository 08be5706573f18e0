"""Turns contexts of events into contexts of segments."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
UNKNOWN = -1


def segment_contexts(
    contexts: Ints | None, offsets: Ints, bounds: Ints
) -> tuple[Ints | None, NDArray[np.bool_] | None]:
    """Finds the context of each device and segment, and whether it differs from the one before.

    A segment has the context of most of its events, at a tie the smaller number. One without
    events, or of which nobody knows any, goes on with the context before it. Before the first
    segment that is the context of the last historical event.

    Args:
        contexts: ``[M]``, of each event, from 0; ``UNKNOWN`` where nobody knows; None
            where nobody knows any.
        offsets: ``[n + 1]``, where the events of each device start.
        bounds: ``[n, S + 1]``, of segments; see :mod:`cdc_flower.tasks.cut`.

    Returns:
        Contexts and shifts, ``[n, S]`` each; None where nobody knows any. From or to ``UNKNOWN``
        there is no shift.
    """
    if contexts is None:
        return None, None
    num_devices, num_segments = bounds.shape[0], bounds.shape[1] - 1
    found = np.full((num_devices, num_segments), UNKNOWN, np.int64)
    cells = _cells(bounds, len(contexts))
    counted = (cells >= 0) & (contexts >= 0)
    width = int(contexts.max(initial=0)) + 1
    pairs, counts = np.unique(cells[counted] * width + contexts[counted], return_counts=True)
    pairs = pairs[np.lexsort((pairs, -counts))]  # most events first
    cell, first = np.unique(pairs // width, return_index=True)
    found.reshape(-1)[cell] = pairs[first] % width
    last = np.maximum(bounds[:, 0] - 1, 0)
    has_past = (bounds[:, 0] > offsets[:-1]) & (len(contexts) > 0)
    before = np.where(has_past, contexts[np.minimum(last, len(contexts) - 1)], UNKNOWN)
    return _with_shifts(found, before)


def _cells(bounds: Ints, num_events: int) -> Ints:
    """Numbers the device and segment of each event, ``[M]``; -1 for historical ones."""
    cells = np.full(num_events, -1, np.int64)
    counts = np.diff(bounds, axis=1).reshape(-1)
    number = np.repeat(np.arange(len(counts)), counts)
    start = np.repeat(bounds[:, :-1].reshape(-1), counts)
    slot = np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts, counts)
    cells[start + slot] = number
    return cells


def _with_shifts(found: Ints, before: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Fills what nobody knows with the context before, and tells where it changes."""
    is_shift = np.zeros(found.shape, np.bool_)
    for segment in range(found.shape[1]):
        here = np.where(found[:, segment] == UNKNOWN, before, found[:, segment])
        is_shift[:, segment] = (here != before) & (before != UNKNOWN)
        found[:, segment] = before = here
    return found, is_shift
