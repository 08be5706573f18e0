"""Ranking metrics against scikit-learn, pairs counted one by one, numbers worked out by hand."""

import itertools
import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_flower.core.stream import SegmentBatch, Truth
from cdc_flower.tasks.recommendation.metrics import (
    CUTOFFS,
    METRICS,
    NEGATIVE_POINTS,
    POSITIVE_POINTS,
    WORST_LOSS,
    RankingMetrics,
    RankingScores,
    gains,
    points,
    pooled_auc,
)


def segment_of(num_events: list[int], positive: np.ndarray, num_candidates: int) -> SegmentBatch:
    """A segment in which only the numbers of events and the positive columns matter."""
    events = np.asarray(num_events, np.int64)
    n, total = len(events), int(events.sum())
    row = np.repeat(np.arange(n), events)
    slot = np.arange(total) - np.repeat(np.cumsum(events) - events, events)
    return SegmentBatch(
        device_ids=np.arange(n),
        num_events=events,
        row=row,
        slot=slot,
        history=np.zeros((total, 2), np.int32),
        candidates=np.ones((total, num_candidates), np.int32),
        times_s=np.zeros(total),
        truth=Truth(np.asarray(positive, np.int64), np.arange(n) + 7, np.arange(n) % 2 == 0),
    )


def random_case(
    num_events: list[int], num_candidates: int, seed: int, decimals: int = 1
) -> tuple[np.ndarray, np.ndarray, SegmentBatch]:
    """Rounded logits, so that there are ties; the positive columns; their segment."""
    rng = np.random.default_rng(seed)
    total = sum(num_events)
    scores = np.round(rng.normal(size=(total, num_candidates)), decimals).astype(np.float32)
    positive = rng.integers(0, num_candidates, total)
    return scores, positive, segment_of(num_events, positive, num_candidates)


def auc_over_all(result: RankingScores) -> tuple[np.ndarray, np.ndarray]:
    """Each device's share of the AUC over all devices."""
    num_positive = result.value_count[:, METRICS.index("log_loss")]
    return pooled_auc(result.positive, result.negative, num_positive, result.num_negative)


def value(result: RankingScores, metric: str, device: int = 0) -> float:
    """The value of one metric on one device."""
    column = METRICS.index(metric)
    return float(result.value_sum[device, column] / result.value_count[device, column])


def test_one_event_by_hand() -> None:
    # Positive 1.0; above it: 2.0; tied: one more 1.0. So the rank is 2 or 3, and 2.5 in the middle.
    scores, segment = (
        np.array([[0.0, 1.0, 2.0, 1.0, -1.0]], np.float32),
        segment_of([1], np.array([1]), 5),
    )
    middle = RankingMetrics("middle").score(scores, segment)
    assert value(middle, "hr@5") == 1.0
    assert value(middle, "ndcg@5") == pytest.approx(1.0 / np.log2(3.5))
    result = RankingMetrics().score(scores, segment)
    assert value(result, "hr@5") == 1.0
    assert value(result, "ndcg@5") == pytest.approx((1.0 / np.log2(3) + 1.0 / np.log2(4)) / 2)
    assert value(result, "user_auc") == pytest.approx((2 + 0.5) / 4)
    loss = (
        np.log1p(np.exp(-1))
        + np.log(2)
        + np.log1p(np.exp(2))
        + np.log1p(np.exp(1))
        + np.log1p(np.exp(-1))
    ) / 5
    assert value(result, "log_loss") == pytest.approx(loss)


def test_a_constant_model_is_in_the_middle_of_the_list_and_not_at_its_top() -> None:
    scores, segment = np.zeros((3, 100), np.float32), segment_of([3], np.array([0, 50, 99]), 100)
    assert value(RankingMetrics("middle").score(scores, segment), "hr@20") == 0.0
    result = RankingMetrics().score(scores, segment)
    assert value(result, "hr@20") == pytest.approx(0.2)
    assert value(result, "user_auc") == 0.5
    assert value(result, "log_loss") == pytest.approx(np.log(2))


def test_rank_k_is_a_hit_at_k_and_the_next_rank_is_not() -> None:
    scores = -np.arange(12, dtype=np.float32)[None, :]
    for column, expected in ((4, 1.0), (5, 0.0)):
        assert (
            value(RankingMetrics().score(scores, segment_of([1], np.array([column]), 12)), "hr@5")
            == expected
        )


def test_user_auc_is_that_of_scikit_learn_with_ties_and_uneven_devices() -> None:
    scores, positive, segment = random_case([5, 1, 0, 9], 30, seed=1)
    result = RankingMetrics().score(scores, segment)
    for device in (0, 1, 3):
        mine = segment.row == device
        labels = np.arange(30) == positive[mine][:, None]
        expected = sklearn.metrics.roc_auc_score(labels.ravel(), scores[mine].ravel())
        assert value(result, "user_auc", device) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_ndcg_is_that_of_scikit_learn_which_takes_the_mean_over_ties_too(decimals: int) -> None:
    scores, positive, segment = random_case([6, 3], 40, seed=2, decimals=decimals)
    result = RankingMetrics().score(scores, segment)
    labels = (np.arange(40) == positive[:, None]).astype(float)
    for k in (5, 10, 20):
        expected = sklearn.metrics.ndcg_score(labels[:6], scores[:6], k=k)
        assert value(result, f"ndcg@{k}") == pytest.approx(expected)


def test_log_loss_is_that_of_scikit_learn_on_one_positive_and_four_negatives() -> None:
    scores, positive, segment = random_case([7], 20, seed=3)
    labels, logits = [], []
    for event, true_column in enumerate(positive):
        others = [column for column in range(20) if column != true_column][:4]
        logits += [scores[event, true_column], *scores[event, others]]
        labels += [1, 0, 0, 0, 0]
    probability = 1.0 / (1.0 + np.exp(-np.array(logits, np.float64)))
    expected = sklearn.metrics.log_loss(labels, probability)
    assert value(RankingMetrics().score(scores, segment), "log_loss") == pytest.approx(expected)


def test_log_loss_of_a_huge_logit_is_finite() -> None:
    scores = np.array([[-1000.0, 1000.0]], np.float32)
    assert (
        value(RankingMetrics().score(scores, segment_of([1], np.array([0]), 2)), "log_loss")
        == 1000.0
    )


def test_negative_zero_ties_with_zero() -> None:
    scores = np.array([[0.0, -0.0]], np.float32)
    assert (
        value(RankingMetrics().score(scores, segment_of([1], np.array([1]), 2)), "user_auc") == 0.5
    )


def test_a_score_that_is_no_number_counts_as_the_worst() -> None:
    segment = segment_of([2], np.array([0, 1]), 30)
    result = RankingMetrics().score(np.full((2, 30), np.nan, np.float32), segment)
    assert value(result, "hr@20") == 0.0
    assert value(result, "user_auc") == 0.0
    assert value(result, "log_loss") == WORST_LOSS


def test_an_infinite_logit_ties_with_infinite_logits_only() -> None:
    # The device with fewer events has padding; the positive beats one negative and ties with the
    # other.
    infinite = np.array([[np.inf, 1.0, np.inf], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0]], np.float32)
    result = RankingMetrics().score(infinite, segment_of([1, 2], np.array([0, 0, 0]), 3))
    assert value(result, "user_auc") == 0.75


def test_a_device_without_events_adds_nothing() -> None:
    scores, _, segment = random_case([2, 0], 10, seed=4)
    result = RankingMetrics().score(scores, segment)
    assert not result.value_sum[1].any() and not result.value_count[1].any()
    assert (
        np.isnan(result.positive[1]).all()
        and np.isnan(result.negative[1]).all()
        and result.num_negative[1] == 0
    )
    empty = RankingMetrics().score(
        np.zeros((0, 10), np.float32), segment_of([0, 0], np.zeros(0, int), 10)
    )
    assert not empty.value_count.any()


def test_the_context_comes_from_the_truth() -> None:
    scores, _, segment = random_case([1, 1], 10, seed=4)
    result = RankingMetrics().score(scores, segment)
    assert result.context_id.tolist() == [7, 8]
    assert result.is_shift.tolist() == [True, False]


@settings(max_examples=20, deadline=None)
@given(events=st.lists(st.integers(0, 5), min_size=1, max_size=5), seed=st.integers(0, 999))
def test_a_batch_of_one_gives_the_rows_of_a_batch_of_many(events: list[int], seed: int) -> None:
    scores, positive, segment = random_case(events, 12, seed)
    result = RankingMetrics().score(scores, segment)
    for device, count in enumerate(events):
        mine = segment.row == device
        one = RankingMetrics().score(scores[mine], segment_of([count], positive[mine], 12))
        np.testing.assert_allclose(
            one.value_sum[0], result.value_sum[device], rtol=1e-12
        )  # logarithms are summed
        for name in ("value_count", "positive", "negative", "num_negative"):
            np.testing.assert_array_equal(getattr(one, name)[0], getattr(result, name)[device])


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(5)), seed=st.integers(0, 999))
def test_merging_devices_in_any_order_gives_the_same_values(order: list[int], seed: int) -> None:
    scores, positive, segment = random_case([3, 1, 4, 0, 2], 12, seed)
    result = RankingMetrics().score(scores, segment)
    events = np.concatenate([np.flatnonzero(segment.row == device) for device in order])
    counts = [int(segment.num_events[device]) for device in order]
    other = RankingMetrics().score(scores[events], segment_of(counts, positive[events], 12))
    np.testing.assert_allclose(
        other.value_sum.sum(axis=0), result.value_sum.sum(axis=0), rtol=1e-12
    )
    np.testing.assert_array_equal(other.value_count.sum(axis=0), result.value_count.sum(axis=0))
    mine, theirs = auc_over_all(result), auc_over_all(other)
    np.testing.assert_allclose(theirs[0], mine[0][order], rtol=1e-12)
    np.testing.assert_array_equal(theirs[1], mine[1][order])


def test_points_are_all_numbers_or_the_middle_ones_of_equal_parts() -> None:
    rows = np.array([[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 9, 9, 9, 9, 9, 9]], np.float32)

    # Four points of eight numbers are the 2nd, 4th, 6th and 8th; of two numbers both, and nothing.
    np.testing.assert_array_equal(
        points(rows, np.array([8, 2]), 4), [[2, 4, 6, 8], [1, 2, np.nan, np.nan]]
    )
    assert np.isnan(points(np.zeros((2, 0), np.float32), np.array([0, 0]), 3)).all()


def test_pooled_auc_by_hand() -> None:
    # Negatives of all devices: 1, 2, 2, 3. A positive of 1 beats half of one of 4, 2 beats 1 + 1, 3
    # beats 3 + half.
    positive = np.array([[1, 2], [3, np.nan]], np.float32)
    negative = np.array([[1, 3], [2, np.nan]], np.float32)
    value_sum, value_count = pooled_auc(
        positive, negative, [2, 2], [2, 2]
    )  # the points of device 1 stand for two
    np.testing.assert_allclose(value_sum, [0.125 + 0.5, 2 * 0.875])
    np.testing.assert_array_equal(value_count, [2, 2])


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_pooled_auc_is_that_of_scikit_learn_however_little_the_logits_differ(scale: float) -> None:
    scores, positive, segment = random_case([5, 8, 3], 30, seed=5)
    scores = (scores * scale - 1.4).astype(np.float32)
    value_sum, value_count = auc_over_all(RankingMetrics().score(scores, segment))
    labels = np.arange(30) == positive[:, None]
    expected = sklearn.metrics.roc_auc_score(labels.ravel(), scores.ravel())
    assert value_sum.sum() / value_count.sum() == pytest.approx(expected, abs=1e-12)


def test_pooled_auc_of_more_logits_than_points_is_close_to_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    events = [3 * POSITIVE_POINTS, 20, 100]
    positive = rng.integers(0, 100, sum(events))
    scores = rng.normal(size=(sum(events), 100)).astype(np.float32)
    scores[np.arange(len(positive)), positive] += 1
    result = RankingMetrics().score(scores, segment_of(events, positive, 100))
    assert (result.num_negative > NEGATIVE_POINTS).all()
    value_sum, value_count = auc_over_all(result)
    expected = sklearn.metrics.roc_auc_score(
        (np.arange(100) == positive[:, None]).ravel(), scores.ravel()
    )
    assert value_sum.sum() / value_count.sum() == pytest.approx(expected, abs=2e-3)


def test_pooled_auc_without_negatives_counts_nothing() -> None:
    nothing = np.full((2, 4), np.nan, np.float32)
    value_sum, value_count = pooled_auc(np.ones((2, 4), np.float32), nothing, [4, 4], [0, 0])
    assert not value_sum.any() and not value_count.any()


def test_scores_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"scores must have the candidates' shape \(1, 5\), got \(1, 4\)"
    ):
        RankingMetrics().score(np.zeros((1, 4), np.float32), segment_of([1], np.array([0]), 5))


def over_all_orders(scores: list[int], k: int) -> tuple[float, float]:
    """Computes hit rate and NDCG at ``k`` of the first candidate, over every order of all of them.

    Orders that do not sort the scores do not count.
    """
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    ranks = [order.index(0) + 1 for order in orders]
    hits = [float(rank <= k) for rank in ranks]
    gained = [1 / math.log2(rank + 1) if rank <= k else 0.0 for rank in ranks]
    return sum(hits) / len(orders), sum(gained) / len(orders)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.integers(1, 7))
def test_the_mean_over_ties_is_that_over_all_orders(scores: list[int], k: int) -> None:
    above = np.array([sum(score > scores[0] for score in scores)])
    ties = np.array([scores.count(scores[0]) - 1])
    found = [float(each[0]) for each in gains(above, ties, k, "mean")]
    assert found == pytest.approx(list(over_all_orders(scores, k)), abs=1e-12)


@given(st.integers(0, 30), st.sampled_from(CUTOFFS))
def test_without_ties_both_ways_are_the_same_to_the_bit(above: int, k: int) -> None:
    one, nobody = np.array([above]), np.array([0])
    mean, middle = (gains(one, nobody, k, by) for by in ("mean", "middle"))
    assert [each.tolist() for each in mean] == [each.tolist() for each in middle]


def test_an_unknown_way_of_ties_is_refused() -> None:
    with pytest.raises(ValueError, match="ties must be one of mean, middle, got top"):
        RankingMetrics("top")
