"""How well devices rank what their users choose next, as sums that can be added in any order.

A metric is a pair (sum, count) per device; the value over any group of devices is sum of sums over sum of
counts. Ranks count ties by half: ``rank = 1 + negatives above + ties / 2``, so a constant model lands in the
middle of the list and not at its top. A score that is not a number counts as the worst possible one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.segment import SegmentBatch, TruthReader

CUTOFFS = (5, 10, 20)
#: Metrics that are additive per device, in the order of the columns of ``value_sum``.
METRICS = ("log_loss", "user_auc", *(f"{name}@{k}" for k in CUTOFFS for name in ("hr", "ndcg")))

NUM_BINS = 512
MAX_LOGIT = 16.0
LOSS_NEGATIVES = 4  # negatives per positive in the loss, as in training


@dataclass(frozen=True)
class RankingScores:
    """What one segment adds to the metrics of ``n`` devices; ``M`` is ``len(METRICS)``.

    Attributes:
        value_sum: ``[n, M]``, and ``value_count``: ``[n, M]``; 0 and 0 for a device without events.
        positive: ``[n, NUM_BINS]``, how many logits of true candidates fall into each bin.
        negative: ``[n, NUM_BINS]``, the same for the other candidates.
        context_id: ``[n]``, from the truth of the segment.
        is_shift: ``[n]``, from the truth of the segment.
    """

    value_sum: NDArray[np.float64]
    value_count: NDArray[np.float64]
    positive: NDArray[np.int32]
    negative: NDArray[np.int32]
    context_id: NDArray[np.int64]
    is_shift: NDArray[np.bool_]


class RankingMetrics(TruthReader):
    """Scores a ranking of candidates against the one that the user chose. Keeps no state."""

    def score(self, scores: NDArray[np.float32], segment: SegmentBatch) -> RankingScores:
        """The sums of one segment.

        ``hr@k`` is 1 where ``rank <= k``; ``ndcg@k`` is ``1 / log2(rank + 1)`` there, else 0. ``log_loss`` is the
        mean binary cross-entropy of the positive and the first ``LOSS_NEGATIVES`` other columns. ``user_auc``
        is the AUC over every pair of a positive and a negative of the device in this segment, counted once.

        Args:
            scores: ``[T, C]``, logits of the candidates.
            segment: The events; ``slot`` counts 0, 1, ... within each device.

        Raises:
            ValueError: If the shape of ``scores`` is not that of the candidates.
        """
        shape = segment.candidates.shape
        if scores.shape != shape:
            raise ValueError(f"scores must have the candidates' shape {shape}, got {scores.shape}")
        true_column, context_id, is_shift = segment.truth.read(self)
        num_devices, row = len(segment.device_ids), segment.row
        scores, is_true = _worst_for_nan(np.asarray(scores, np.float32), true_column)
        true_score = scores[np.arange(len(row)), true_column]

        rank = _ranks(scores, true_score)
        columns = [_log_loss(scores, true_column, true_score)]
        for k in CUTOFFS:
            hit = rank <= k
            columns += [hit.astype(np.float64), np.where(hit, 1.0 / np.log2(rank + 1.0), 0.0)]
        sums = [np.bincount(row, column, num_devices) for column in columns]
        num_events = np.bincount(row, minlength=num_devices)

        all_bins = _histogram(scores, row, num_devices)
        positive = _histogram(true_score[:, None], row, num_devices)
        auc = _user_auc(scores, true_score, is_true, segment, num_events)
        value_count = np.repeat(num_events[:, None], len(METRICS), axis=1).astype(np.float64)
        value_count[:, METRICS.index("user_auc")] = (num_events > 0) & (shape[1] > 1)
        value_sum = np.stack([sums[0], auc, *sums[1:]], axis=1)
        return RankingScores(value_sum, value_count, positive, all_bins - positive, context_id, is_shift)


def pooled_auc(positive: ArrayLike, negative: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each device's share of the AUC over all rows of a segment, from binned logits.

    A positive contributes the share of the negatives of *all* devices that lie below it; those in its own bin
    count by half.

    Args:
        positive: ``[n, B]``, and ``negative``: ``[n, B]``, counts by bin, lowest first.

    Returns:
        The sums ``[n]`` and the counts ``[n]`` (positives); both 0 where there is no negative at all.
    """
    positive, negative = np.asarray(positive), np.asarray(negative)
    pool = negative.sum(axis=0, dtype=np.float64)
    num_positive = positive.sum(axis=1, dtype=np.float64)
    if not pool.any():
        return np.zeros_like(num_positive), np.zeros_like(num_positive)
    below = (np.cumsum(pool) - pool / 2.0) / pool.sum()
    return positive @ below, num_positive


def _worst_for_nan(
    scores: NDArray[np.float32], true_column: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores ``[T, C]`` with minus infinity for a positive and infinity for a negative that is no number."""
    is_true = np.arange(scores.shape[1]) == true_column[:, None]
    is_nan = np.isnan(scores)
    if is_nan.any():
        worst = np.where(is_true, np.float32(-np.inf), np.float32(np.inf))
        scores = np.where(is_nan, worst, scores)
    return scores, is_true


def _ranks(scores: NDArray[np.float32], true_score: NDArray[np.float32]) -> NDArray[np.float64]:
    """``[T]``: the rank of the positive, ties by half."""
    above = np.count_nonzero(scores > true_score[:, None], axis=1)
    ties = np.count_nonzero(scores == true_score[:, None], axis=1) - 1  # without itself
    return 1.0 + above + 0.5 * ties


def _log_loss(
    scores: NDArray[np.float32], true_column: NDArray[np.int64], true_score: NDArray[np.float32]
) -> NDArray[np.float64]:
    """``[T]``: mean of softplus(-positive) and softplus(negative)."""
    first = np.arange(min(LOSS_NEGATIVES, scores.shape[1] - 1))
    column = first + (first >= true_column[:, None])  # the first columns, stepping over the positive
    logits = np.concatenate([-true_score[:, None], np.take_along_axis(scores, column, axis=1)], axis=1)
    return np.logaddexp(0.0, logits.astype(np.float64)).mean(axis=1)


def _histogram(scores: NDArray[np.float32], row: NDArray[np.int64], num_devices: int) -> NDArray[np.int32]:
    """``[n, NUM_BINS]``: how many scores of each device fall into each bin."""
    scale = np.float32(NUM_BINS / (2.0 * MAX_LOGIT))
    bins = np.clip((scores + np.float32(MAX_LOGIT)) * scale, 0, NUM_BINS - 1).astype(np.int64)
    bins += row[:, None] * NUM_BINS
    return np.bincount(bins.ravel(), minlength=num_devices * NUM_BINS).reshape(num_devices, -1).astype(np.int32)


def _ordered_keys(scores: NDArray[np.float32], row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integers that order as (row, score): the bits of a float32, made monotone, below those of the row."""
    bits = (scores + np.float32(0.0)).view(np.int32)  # adding 0 turns -0 into 0
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)
    return (row << 32) + bits


def _user_auc(
    scores: NDArray[np.float32],
    true_score: NDArray[np.float32],
    is_true: NDArray[np.bool_],
    segment: SegmentBatch,
    num_events: NDArray[np.int64],
) -> NDArray[np.float64]:
    """``[n]``: the exact AUC of each device over all its pairs, ties by half; 0 without events.

    Sorts one float32 row of padded negatives per device and finds the positives in it. Positives and padding
    are infinite, so they sort behind what is counted.
    """
    row, num_devices, (num_rows, width) = segment.row, len(num_events), scores.shape
    if not num_rows:
        return np.zeros(num_devices)
    infinity = np.float32(np.inf)
    negatives = np.full((num_devices, int(num_events.max()), width), infinity)
    negatives[row, segment.slot] = np.where(is_true, infinity, scores)
    ordered = negatives.reshape(num_devices, -1)
    ordered.sort(axis=1)

    keys = _ordered_keys(ordered, np.arange(num_devices)[:, None]).ravel()
    true_keys = _ordered_keys(true_score, row)
    num_negatives = num_events * (width - 1)
    ends = np.stack([np.searchsorted(keys, true_keys, side=side) for side in ("left", "right")])
    not_above = np.minimum(ends - row * ordered.shape[1], num_negatives[row])  # [2, T], without and with ties
    wins = 0.5 * np.bincount(row, not_above.sum(axis=0), num_devices)
    pairs = (num_events * num_negatives).astype(np.float64)
    return np.divide(wins, pairs, out=np.zeros_like(pairs), where=pairs > 0)
