"""Measures how well devices rank what their users choose next, as sums to add in any order.

A metric is a pair (sum, count) per device; the value over any group of devices is sum of sums over
sum of counts. Candidates with one score stand in random order, and a metric is its mean over these
orders (``ties=mean``); or the true one stands in the middle of them, ``rank = 1 + negatives above +
ties / 2`` (``ties=middle``). In neither does a constant model land at the top of the list. A score
that is not a number counts as the worst possible one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.options import check_options, option
from cdc_flower.core.stream import SegmentBatch, TruthReader

CUTOFFS = (5, 10, 20)
#: Metrics that are additive per device, in the order of the columns of ``value_sum``.
METRICS = ("log_loss", "user_auc", *(f"{name}@{k}" for k in CUTOFFS for name in ("hr", "ndcg")))
#: Metrics of the events of all devices.
POOLED = ("auc",)

#: Order statistics that stand for a device's logits in the AUC over all devices: of positives, and
#: of negatives.
POSITIVE_POINTS, NEGATIVE_POINTS = 32, 256
INFINITY = np.float32(np.inf)
#: Largest loss of an event: that of a score that is not a number.
WORST_LOSS = float(np.finfo(np.float32).max)
LOSS_NEGATIVES = 4  # negatives per positive in the loss, as in training
MEAN, MIDDLE = "mean", "middle"


@dataclass(frozen=True, kw_only=True)
class MetricsOptions:
    """Configures how devices are scored.

    Raises:
        ValueError: If a value is unknown.
    """

    ties: str = option(
        MEAN,
        choices=(MEAN, MIDDLE),
        doc="of the true candidate: the mean of a metric over all orders, or its middle rank",
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class RankingScores:
    """Holds what one segment adds to the metrics of ``n`` devices; ``M`` is ``len(METRICS)``.

    Attributes:
        value_sum: ``[n, M]``, and ``value_count``: ``[n, M]``; 0 and 0 for a device without events.
        positive: ``[n, POSITIVE_POINTS]``, logits of true candidates, ascending: all of them, then
            NaN, or else evenly spaced order statistics.
        negative: ``[n, NEGATIVE_POINTS]``, the same for the other candidates.
        num_negative: ``[n]``, how many other candidates there were.
        context_id: ``[n]``, from the truth of the segment.
        is_shift: ``[n]``, from the truth of the segment.
    """

    value_sum: NDArray[np.float64]
    value_count: NDArray[np.float64]
    positive: NDArray[np.float32]
    negative: NDArray[np.float32]
    num_negative: NDArray[np.int64]
    context_id: NDArray[np.int64]
    is_shift: NDArray[np.bool_]


class RankingMetrics(TruthReader):
    """Scores a ranking of candidates against the one that the user chose. Keeps no state.

    Args:
        ties: Where the true candidate stands among others of its score: ``mean`` or ``middle``.

    Raises:
        ValueError: If it is neither.
    """

    def __init__(self, ties: str = MEAN) -> None:
        self.options = MetricsOptions(ties=ties)

    def score(self, scores: NDArray[np.float32], segment: SegmentBatch) -> RankingScores:
        """Computes the sums of one segment.

        ``hr@k`` is 1 where ``rank <= k``; ``ndcg@k`` is ``1 / log2(rank + 1)`` there, else 0; see
        :func:`gains` for ties.
        ``log_loss`` is the mean binary cross-entropy of the positive and the first
        ``LOSS_NEGATIVES`` other columns. ``user_auc`` is the AUC over every pair of a positive and
        a negative of the device in this segment, counted once.

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
        scores, is_true = worst_for_nan(np.asarray(scores, np.float32), true_column)
        true_score = scores[np.arange(len(row)), true_column]

        columns = [_log_loss(scores, true_column, true_score)]
        above, ties = places(scores, true_score)
        for k in CUTOFFS:
            columns += gains(above, ties, k, self.options.ties)
        sums = [np.bincount(row, column, num_devices) for column in columns]
        num_events = np.bincount(row, minlength=num_devices)

        num_negative = num_events * (shape[1] - 1)
        ordered = _padded(np.where(is_true, INFINITY, scores), segment, num_events)
        auc = _user_auc(ordered, true_score, row, num_negative, num_events)
        positive = points(
            _padded(true_score[:, None], segment, num_events), num_events, POSITIVE_POINTS
        )
        negative = points(ordered, num_negative, NEGATIVE_POINTS)
        value_count = np.repeat(num_events[:, None], len(METRICS), axis=1).astype(np.float64)
        value_count[:, METRICS.index("user_auc")] = (num_events > 0) & (shape[1] > 1)
        value_sum = np.stack([sums[0], auc, *sums[1:]], axis=1)
        return RankingScores(
            value_sum, value_count, positive, negative, num_negative, context_id, is_shift
        )


def pooled_auc(
    positive: NDArray[np.float32],
    negative: NDArray[np.float32],
    num_positive: ArrayLike,
    num_negative: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Computes each device's share of the AUC over a segment, from points of its logits.

    A positive contributes the share of the negatives of *all* devices that lie below it, ties by
    half. Where a device has more logits than points, each point stands for equally many. Exact
    where it has not.

    Args:
        positive: ``[n, P]``, and ``negative``: ``[n, Q]``, as in :class:`RankingScores`.
        num_positive: ``[n]``, and ``num_negative``: ``[n]``, how many logits they stand for.

    Returns:
        The sums ``[n]`` and the counts ``[n]`` (positives); both 0 where there is no negative at
        all.
    """
    count = np.asarray(num_positive, np.float64)
    row, pool = np.nonzero(~np.isnan(negative))[0], negative[~np.isnan(negative)]
    if not len(pool):
        return np.zeros_like(count), np.zeros_like(count)
    weight = (np.asarray(num_negative) / np.maximum(1, (~np.isnan(negative)).sum(1)))[row]
    order = np.argsort(pool)
    below = np.concatenate([[0.0], np.cumsum(weight[order])]) / weight.sum()
    device, column = np.nonzero(~np.isnan(positive))
    ends = [
        np.searchsorted(pool[order], positive[device, column], side=side)
        for side in ("left", "right")
    ]
    share = np.bincount(device, (below[ends[0]] + below[ends[1]]) / 2.0, len(positive))
    return share * count / np.maximum(1, (~np.isnan(positive)).sum(1)), count


def points(
    ordered: NDArray[np.float32], counts: NDArray[np.int64], num_points: int
) -> NDArray[np.float32]:
    """Takes order statistics ``[n, num_points]`` of the first numbers of ascending rows ``[n, w]``.

    All of them, then NaN; or, of more than ``num_points``, the middle ones of as many equal parts.

    Args:
        ordered: ``[n, w]``.
        counts: ``[n]``, numbers of each row that count.
        num_points: Of the result; a row with no more than that is kept as it is.
    """
    j, count = np.arange(num_points), counts[:, None]
    if not ordered.shape[1]:
        return np.full((len(ordered), num_points), np.nan, np.float32)
    place = np.where(count > num_points, ((j + 0.5) * count / num_points).astype(np.int64), j)
    chosen = np.take_along_axis(ordered, np.minimum(place, ordered.shape[1] - 1), axis=1)
    return np.where(j < count, chosen, np.float32(np.nan))


def _padded(
    scores: NDArray[np.float32], segment: SegmentBatch, num_events: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Puts the scores ``[T, w]`` of a device in an ascending row ``[n, E w]``, infinity behind."""
    num_devices, most = len(num_events), int(num_events.max()) if len(num_events) else 0
    rows = np.full((num_devices, most, scores.shape[1]), INFINITY)
    rows[segment.row, segment.slot] = scores
    ordered = rows.reshape(num_devices, most * scores.shape[1])
    ordered.sort(axis=1)
    return ordered


def worst_for_nan(
    scores: NDArray[np.float32], true_column: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Puts the worst value for a score ``[T, C]`` that is no number."""
    is_true = np.arange(scores.shape[1]) == true_column[:, None]
    is_nan = np.isnan(scores)
    if is_nan.any():
        worst = np.where(is_true, np.float32(-np.inf), np.float32(np.inf))
        scores = np.where(is_nan, worst, scores)
    return scores, is_true


def places(
    scores: NDArray[np.float32], true_score: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts the candidates above the true one ``[T]``, and the others of its score ``[T]``."""
    above = np.count_nonzero(scores > true_score[:, None], axis=1)
    ties = np.count_nonzero(scores == true_score[:, None], axis=1) - 1  # without itself
    return above, ties


def ranks(scores: NDArray[np.float32], true_score: NDArray[np.float32]) -> NDArray[np.float64]:
    """``[T]``: the rank of the positive, ties by half."""
    above, ties = places(scores, true_score)
    return 1.0 + above + 0.5 * ties


def gains(
    above: NDArray[np.int64], ties: NDArray[np.int64], k: int, by: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Makes the hit rate ``[T]`` and the NDCG ``[T]`` at ``k`` of one true candidate a list.

    Args:
        above: ``[T]``, candidates above the true one.
        ties: ``[T]``, others of its score.
        k: Places that count.
        by: ``mean``: over all orders of the tied, in which the rank is each of ``above + 1`` to
            ``above + ties + 1`` equally often; ``middle``: at the mean rank.
    """
    if by == MIDDLE:
        rank = 1.0 + above + 0.5 * ties
        hit = rank <= k
        return hit.astype(np.float64), np.where(hit, 1.0 / np.log2(rank + 1.0), 0.0)
    discounts = 1.0 / np.log2(np.arange(1, k + 1) + 1.0)
    below = np.concatenate([[0.0], np.cumsum(discounts)])  # of the first ranks
    first, last = np.minimum(above, k), np.minimum(above + ties + 1, k)
    # One discount as it is, and not as a difference of sums, which rounds.
    alone = np.where(above < k, discounts[np.minimum(above, k - 1)], 0.0)
    mean = np.where(ties == 0, alone, (below[last] - below[first]) / (ties + 1.0))
    return (last - first) / (ties + 1.0), mean


def _log_loss(
    scores: NDArray[np.float32], true_column: NDArray[np.int64], true_score: NDArray[np.float32]
) -> NDArray[np.float64]:
    """``[T]``: mean of softplus(-positive) and softplus(negative), at most the worst loss."""
    first = np.arange(min(LOSS_NEGATIVES, scores.shape[1] - 1))
    column = first + (
        first >= true_column[:, None]
    )  # the first columns, stepping over the positive
    logits = np.concatenate(
        [-true_score[:, None], np.take_along_axis(scores, column, axis=1)], axis=1
    )
    loss: NDArray[np.float64] = np.logaddexp(0.0, logits.astype(np.float64)).mean(axis=1)
    return np.minimum(loss, WORST_LOSS)


def _ordered_keys(scores: NDArray[np.float32], row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Makes integers that order as (row, score): monotone bits of a float32 below the row."""
    bits = (scores + np.float32(0.0)).view(np.int32)  # adding 0 turns -0 into 0
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)
    return (row << 32) + bits


def _user_auc(
    ordered: NDArray[np.float32],
    true_score: NDArray[np.float32],
    row: NDArray[np.int64],
    num_negative: NDArray[np.int64],
    num_events: NDArray[np.int64],
) -> NDArray[np.float64]:
    """``[n]``: the exact AUC of each device over all its pairs, ties by half; 0 without events.

    Finds the positives ``[T]`` among the ascending negatives ``[n, w]`` of their device, behind
    which infinity stands.
    """
    num_devices = len(num_events)
    if not len(row):
        return np.zeros(num_devices)
    keys = _ordered_keys(ordered, np.arange(num_devices)[:, None]).ravel()
    true_keys = _ordered_keys(true_score, row)
    ends = np.stack([np.searchsorted(keys, true_keys, side=side) for side in ("left", "right")])
    not_above = np.minimum(
        ends - row * ordered.shape[1], num_negative[row]
    )  # [2, T], without and with ties
    wins = 0.5 * np.bincount(row, not_above.sum(axis=0), num_devices)
    pairs = (num_events * num_negative).astype(np.float64)
    return np.divide(wins, pairs, out=np.zeros_like(pairs), where=pairs > 0)
