"""Checks the instruments of devices: sums and points of metrics, and the work that they declare.

Results, links and the clock are made of them, so one that no device can have would reach the table
of everybody.
"""

import numpy as np
from numpy.typing import NDArray

from cdc_flower.simulations.quarantine import reasons
from cdc_flower.simulations.quarantine.book import ENDLESS
from cdc_flower.simulations.quarantine.bounds import LARGEST_COUNT, LARGEST_FLOPS, Known
from cdc_flower.simulations.quarantine.identity import Judged
from cdc_flower.simulations.quarantine.schema import ARRAY, Schema
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

VALUE_SUM, VALUE_COUNT = "value-sum", "value-count"
CONTEXT, SHIFT = "context-id", "is-shift"
#: Keys of scores that every task has.
KEYS = (records.NUM_EXAMPLES, records.DEVICE_ID, CONTEXT, SHIFT, VALUE_SUM, VALUE_COUNT)
#: Sums in double precision of what is bounded may exceed the bound by so much of it.
ROUNDING = 1e-6


def blame_work(each: Judged) -> None:
    """Blames work that is negative, not finite or beyond any device."""
    work = each.batch.configs.get(records.WORK, {})
    for key, value in work.items():
        largest = LARGEST_FLOPS if key == records.FLOPS else LARGEST_COUNT
        column = np.asarray(value)
        if column.dtype.kind not in "iuf" or column.ndim > 1:
            each.blame(np.ones(len(each.batch), np.bool_), reasons.WORK)
            continue
        wrong = ~((column >= 0) & (column <= largest))
        if key != records.FLOPS and column.dtype.kind == "f":
            wrong = wrong | (column != np.floor(column))
        each.blame(np.broadcast_to(wrong, len(each.batch)), reasons.WORK)


def blame_scores(each: Judged, known: Known, device_ids: Ints, segment: int) -> int:
    """Blames scores that no device can have.

    Args:
        each: Replies to an evaluation, with the schema of most.
        known: Of the data.
        device_ids: ``[k]``, of the devices.
        segment: The one that was evaluated.

    Returns:
        How many devices have a loss without end: their model is none any more.
    """
    scores = each.batch.metrics.get(records.SCORES, {})
    if not all(key in scores for key in KEYS):
        return 0  # of another app than ours
    if any(scores[key].ndim != (2 if key in (VALUE_SUM, VALUE_COUNT) else 1) for key in KEYS):
        each.blame(np.ones(len(each.batch), np.bool_), reasons.SCORES)
        return 0
    count = scores[records.NUM_EXAMPLES]
    most = known.num_events(device_ids, segment)
    each.blame(~((count >= 0) & (count <= most)), reasons.COUNTS)
    each.blame(scores[records.DEVICE_ID] != device_ids, reasons.OTHER_NAME)
    each.blame(~np.isin(scores[SHIFT], (0, 1)) | (scores[CONTEXT] < -1), reasons.SCORES)
    for key, column in scores.items():
        if key not in KEYS and column.ndim == 1:
            per_event = known.bounds.counts.get(key)
            largest = LARGEST_COUNT if per_event is None else count.astype(np.float64) * per_event
            each.blame(~((column >= 0) & (column <= largest)), reasons.COUNTS)
    _blame_points(each, count)
    return _blame_sums(each, known, most)


def _blame_sums(each: Judged, known: Known, most: Ints) -> int:
    """Blames sums and counts of metrics; counts devices with a loss without end.

    Args:
        each: Replies.
        known: Of the data.
        most: ``[k]``, events that there were.
    """
    scores = each.batch.metrics[records.SCORES]
    sums = scores[VALUE_SUM]
    counts = scores[VALUE_COUNT]
    names = known.task.metrics if known.task is not None else ()
    if len(names) != sums.shape[-1]:
        names = ("",) * sums.shape[-1]
    is_bounded = np.array([name in known.bounds.values for name in names], np.bool_)
    largest = np.array([known.bounds.values.get(name, np.inf) for name in names], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        odd_counts = ~((counts >= 0) & np.isfinite(counts))
        odd_counts |= is_bounded & (
            counts > np.minimum(most, scores[records.NUM_EXAMPLES])[:, None]
        )
        each.blame(np.asarray(odd_counts.any(1)), reasons.COUNTS)
        top = np.where(is_bounded, counts * largest * (1 + ROUNDING) + ROUNDING, np.inf)
        odd_sums = is_bounded & ~((sums >= -ROUNDING) & (sums <= top))
        is_no_number = ~is_bounded & ~np.isfinite(sums)
        # Where most devices have none, it is the metric or the model, and no single device.
        odd_sums |= is_no_number & (2 * is_no_number.sum(0) <= len(sums))
        each.blame(np.asarray(odd_sums.any(1)), reasons.SCORES)
        endless = is_bounded & (largest >= ENDLESS) & (sums >= ENDLESS * np.maximum(counts, 1))
    return int((endless.any(1) & each.ok).sum())


def _blame_points(each: Judged, count: NDArray) -> None:
    """Blames points of devices that were scored on nothing."""
    for points in each.batch.arrays.get(records.POINTS, {}).values():
        empty = count == 0
        if empty.any():
            there = ~np.isnan(points[empty].reshape(int(empty.sum()), -1)).all(1)
            wrong = np.zeros(len(count), np.bool_)
            wrong[np.flatnonzero(empty)[there]] = True
            each.blame(wrong, reasons.SCORES)


def neutral_scores(schema: Schema, device_ids: Ints) -> tuple[dict, dict]:
    """Makes scores of devices that were scored on nothing.

    Args:
        schema: Of replies to an evaluation.
        device_ids: ``[k]``.

    Returns:
        The records of metrics and of arrays.
    """
    metrics: dict[str, dict[str, NDArray]] = {}
    arrays: dict[str, dict[str, NDArray]] = {}
    n = len(device_ids)
    for kind, record, key, dtype, shape in sorted(schema):
        if record not in (records.SCORES, records.POINTS) or not key:
            continue
        if kind == ARRAY:
            arrays.setdefault(record, {})[key] = np.full((n, *shape), np.nan, np.dtype(dtype))
        else:
            made = np.zeros((n, *shape), np.int64 if dtype == "int" else np.float64)
            metrics.setdefault(record, {})[key] = made
    own = metrics.setdefault(records.SCORES, {})
    own[records.DEVICE_ID] = device_ids.astype(np.int64)
    own[CONTEXT] = np.full(n, -1)
    return metrics, arrays


def scoreless(batch: MessageBatch) -> MessageBatch:
    """Takes everything out of replies that the simulation itself would read."""
    return batch.without({*records.INSTRUMENTS, records.PADDING})
