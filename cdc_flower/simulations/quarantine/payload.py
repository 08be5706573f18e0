"""Checks the values of what devices tell and train; whole columns at a time, without copies."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from cdc_flower.simulations.quarantine import reasons
from cdc_flower.simulations.quarantine.bounds import LARGEST_COUNT, Known
from cdc_flower.simulations.quarantine.identity import Judged
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.finite import is_finite

Bools = NDArray[np.bool_]


def any_of(wrong: NDArray) -> Bools:
    """Tells which rows ``[n, ...]`` hold anything wrong, ``[n]``."""
    return np.asarray(wrong.reshape(len(wrong), -1).any(1), np.bool_)


def rows_of(batch: MessageBatch, record: str, key: str) -> NDArray:
    """Gives an array ``[n, ...]``, or ``[1, ...]`` where all messages share it.

    Args:
        batch: Of ``n`` messages.
        record: That has it.
        key: Of the array in it.
    """
    own = batch.arrays.get(record, {}).get(key)
    return batch.shared[record][key][None] if own is None else own


def arrays_in(batch: MessageBatch, names: Iterable[str]) -> Iterable[tuple[str, str, NDArray]]:
    """Goes through the arrays of some records: record, key and values ``[n or 1, ...]``."""
    for record in names:
        for key in (*batch.arrays.get(record, {}), *batch.shared.get(record, {})):
            yield record, key, rows_of(batch, record, key)


def not_finite(batch: MessageBatch, names: Iterable[str]) -> Bools:
    """Tells which messages ``[n]`` hold a number that is not finite."""
    listed = list(names)
    wrong = np.zeros(len(batch), np.bool_)
    for _, _, values in arrays_in(batch, listed):
        wrong |= ~is_finite(values)
    for record in listed:
        for column in batch.metrics.get(record, {}).values():
            wrong |= ~is_finite(column)
        for value in batch.configs.get(record, {}).values():
            if isinstance(value, np.ndarray | float):
                wrong |= ~is_finite(np.broadcast_to(np.asarray(value), len(batch)))
    return wrong


def blame_ids(each: Judged, names: Iterable[str], largest: Mapping[str, int]) -> None:
    """Blames ids that there are not.

    Args:
        each: Replies.
        names: Of their payload records.
        largest: Id by key; the smallest is 0.
    """
    for _, key, values in arrays_in(each.batch, names):
        if key not in largest or values.dtype.kind not in "iu" or not values.size:
            continue
        if values.min() >= 0 and values.max() <= largest[key]:
            continue
        flat = values.reshape(len(values), -1)
        wrong = (flat.min(1) < 0) | (flat.max(1) > largest[key])
        each.blame(np.broadcast_to(wrong, len(each.batch)), reasons.IDS)


def blame_counts(each: Judged, names: Iterable[str]) -> None:
    """Blames numbers of examples that are negative, absurd, or more than came with them."""
    listed = list(names)
    batch = each.batch
    for record in listed:
        column = batch.metrics.get(record, {}).get(records.NUM_EXAMPLES)
        if column is not None:
            wrong = ~((column >= 0) & (column <= LARGEST_COUNT))
            each.blame(any_of(wrong), reasons.COUNTS)
    for record, key, values in arrays_in(batch, listed):
        if key != records.NUM_EXAMPLES:
            continue
        beside = [other.shape[1] for name, _, other in arrays_in(batch, [record]) if other.ndim > 1]
        most = min(beside, default=LARGEST_COUNT)
        flat = values.reshape(len(values), -1)
        wrong = any_of(~((flat >= 0) & (flat <= most)))
        each.blame(np.broadcast_to(wrong, len(batch)), reasons.COUNTS)
    for record in listed:
        for column in batch.metrics.get(record, {}).values():
            if column.dtype.kind in "iu":
                absurd = np.abs(column.astype(np.float64)) > LARGEST_COUNT
                each.blame(any_of(absurd), reasons.COUNTS)


def blame_runs(each: Judged, known: Known) -> None:
    """Blames runs of bytes in reports that are not what they must be, such as pictures."""
    names = [name for name in (records.REPORT,) if name in each.batch.array_names()]
    for _, key, values in arrays_in(each.batch, names):
        if values.dtype == np.uint8 and values.ndim == 2:
            wrong = ~known.can_be_read(key, values)
            each.blame(np.broadcast_to(wrong, len(each.batch)), reasons.UNREADABLE)


def squared_change(batch: MessageBatch, sent: MessageBatch, record: str) -> NDArray[np.float64]:
    """Adds up the squares ``[n]`` of what devices changed of a model.

    Args:
        batch: Replies.
        sent: What each of them was sent, in their order.
        record: Of the model, of the same names and shapes in both.
    """
    total = np.zeros(len(batch))
    for _, key, values in arrays_in(batch, [record]):
        if values.dtype.kind == "f":
            change = values.astype(np.float64) - rows_of(sent, record, key)
            flat = change.reshape(len(change), -1)
            total += np.einsum("nk,nk->n", flat, flat)
    return total
