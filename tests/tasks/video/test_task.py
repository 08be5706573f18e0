import numpy as np
import pytest
import torch

from cdc_flower.core.stream import Truth
from cdc_flower.tasks.recommendation.metrics import RankingMetrics
from cdc_flower.tasks.video.clip_report import ClipReport, choose, decoded, encoded
from cdc_flower.tasks.video.queries import VideoSegment
from cdc_flower.tasks.video.task import VideoAnswers, VideoSearch, true_ranks


def segment(true: list[int], row: list[int], kind: list[int], num_candidates: int) -> VideoSegment:
    rows = np.array(row)
    counts = np.bincount(rows, minlength=2)
    return VideoSegment(
        device_ids=np.arange(2),
        num_events=counts,
        row=rows,
        slot=np.concatenate([np.arange(count) for count in counts]),
        history=np.arange(len(true))[:, None].astype(np.int32),
        candidates=np.tile(np.arange(num_candidates, dtype=np.int32), (len(true), 1)),
        times_s=np.zeros(len(true)),
        truth=Truth(np.array(true), np.zeros(2, np.int64), np.zeros(2, bool)),
        kind=np.array(kind),
    )


def test_accuracy_is_counted_over_all_questions_and_by_type() -> None:
    task = VideoAnswers(("what", "where"))
    logits = np.array([[2, 1, 0], [0, 3, 1], [1, 1, 1]], np.float32)
    scores, points = task.score(logits, segment([0, 2, 1], [0, 0, 1], [0, 1, 1], 3))
    assert (
        task.metrics == ("accuracy", "log_loss", "accuracy: what", "accuracy: where") and not points
    )
    np.testing.assert_array_equal(
        scores["value-sum"][:, [0, 2, 3]], [[1, 1, 0], [0, 0, 0]]
    )  # a tie is not right
    np.testing.assert_array_equal(scores["value-count"], [[2, 2, 1, 1], [1, 1, 0, 1]])
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits[:2]), torch.tensor([0, 2]), reduction="sum"
    )
    assert scores["value-sum"][0, 1] == pytest.approx(float(expected))
    assert scores["value-sum"][1, 1] == pytest.approx(np.log(3))


def test_ranks_of_clips_are_counted_and_their_median_is_over_all_devices() -> None:
    task = VideoSearch()
    logits = np.array([np.arange(12)] * 3, np.float32)  # the last clip is first
    scores, points = task.score(logits, segment([11, 7, 1], [0, 0, 1], [0, 0, 0], 12))
    np.testing.assert_array_equal(scores["value-sum"], [[1, 2, 2, 1 + 5], [0, 0, 0, 11]])
    value_sum, value_count = task.pool(scores, points)
    np.testing.assert_array_equal(value_sum[:, 0] / value_count[:, 0], [5, 5])
    assert RankingMetrics is not VideoSearch


def test_ranks_count_ties_by_half_and_what_is_no_number_as_the_worst() -> None:
    scores = np.array([[1, 1, 1], [np.nan, 0, 0], [5, np.nan, 0]], np.float32)
    np.testing.assert_array_equal(true_ranks(scores, np.array([0, 0, 0])), [2, 3, 2])


def test_the_medoid_is_nearest_to_the_other_frames() -> None:
    features = torch.tensor([[[0.0], [1.0], [10.0]], [[5.0], [0.0], [4.0]]])
    np.testing.assert_array_equal(choose("medoid", features, np.arange(2), 3, 0), [1, 2])
    np.testing.assert_array_equal(choose("middle", None, np.arange(2), 3, 0), [1, 1])
    np.testing.assert_array_equal(choose("first", None, np.arange(2), 3, 0), [0, 0])
    drawn = choose("random", None, np.arange(300), 3, 0)
    assert set(drawn) == {0, 1, 2}
    np.testing.assert_array_equal(drawn[:5], choose("random", None, np.arange(5), 3, 0))


def test_pictures_come_back_from_a_real_encoder() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (2, 1, 16, 16, 3)).astype(np.uint8)
    for text, picture in zip(encoded(frames, "png")["picture-0"], frames[:, 0], strict=True):
        assert text[:4].tobytes() == b"\x89PNG"
        np.testing.assert_array_equal(decoded(text), picture)
    smooth = np.full((1, 1, 16, 16, 3), 90, np.uint8)
    (text,) = encoded(smooth, "jpeg")["picture-0"]
    assert text[:2].tobytes() == b"\xff\xd8"
    np.testing.assert_allclose(decoded(text).astype(int), smooth[0, 0], atol=3)


def test_a_report_is_deployed_as_settings() -> None:
    how = ClipReport("anchor", "jpeg", "medoid")
    assert ClipReport.from_settings(how.to_settings()) == how
    assert ClipReport.from_settings({}).what == "frames"


def test_an_answer_that_stands_for_all_others_is_never_right_and_has_no_loss() -> None:
    task = VideoAnswers(("what",), has_unseen=True)
    logits = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3]], np.float32)
    scores, _ = task.score(logits, segment([0, 1, 0], [0, 0, 1], [0, 0, 0], 3))
    np.testing.assert_array_equal(scores["value-sum"][:, [0, 2]], [[1, 1], [0, 0]])
    np.testing.assert_array_equal(scores["value-count"], [[2, 1, 2], [1, 0, 1]])
    assert (
        scores["value-sum"][0, 1] == pytest.approx(np.log(np.exp(3) + 2) - 3)
        and scores["value-sum"][1, 1] == 0
    )
