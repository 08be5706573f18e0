"""Video tasks: a device tells an anchor frame of its newest clip, and answers questions or finds clips."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special
import torch
from numpy.typing import NDArray

from cdc_flower.core.stream import SegmentBatch, TruthReader
from cdc_flower.devices.state import DeviceStates
from cdc_flower.devices.task import Columns
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.tasks.recommendation.metrics import ranks, worst_for_nan
from cdc_flower.tasks.video.clip_report import ClipReport
from cdc_flower.training.scoring import Scorer
from cdc_flower.wire import records

#: Answers of a device by which it tells how unsure it is.
NUM_ANSWERS = 8


class VideoTask(TruthReader, ABC):
    """What question answering and retrieval share: the report of a clip, and the ranks."""

    tells = frozenset({records.FRAMES})
    metrics: tuple[str, ...]
    pooled: tuple[str, ...] = ()

    def report(
        self, model: DeviceModel, stream: Any, states: DeviceStates, segment: int, lag: int = 0
    ) -> tuple[Columns, Columns]:
        """As the deployed settings say; see :class:`~cdc_flower.tasks.video.clip_report.ClipReport`."""
        assert isinstance(model, VideoModel)
        how = ClipReport.from_settings(states.settings)
        clip_ids, _ = stream.opening(states.device_ids, segment, lag)
        static = {name: torch.from_numpy(np.array(value)) for name, value in states.static.items()}
        return how.make(model, static, clip_ids, stream.seed)

    def uncertainty(
        self, model: DeviceModel, stream: Any, states: DeviceStates, segment: int
    ) -> NDArray[np.float64]:
        """The mean entropy of the newest answers, in nats. No question of the segment itself has been asked yet."""
        history, candidates = stream.asked(states.device_ids, segment, NUM_ANSWERS)
        scorer = Scorer(model, states.static, [states.pool])
        logits = scorer.score(np.repeat(states.in_use, NUM_ANSWERS), history, candidates)
        return entropy(logits).reshape(-1, NUM_ANSWERS).mean(1)

    @abstractmethod
    def score(self, logits: NDArray[np.float32], data: SegmentBatch) -> tuple[Columns, Columns]:
        """As :class:`~cdc_flower.tasks.protocol.Task`."""

    def _common(
        self, data: SegmentBatch, context_id: NDArray[np.int64], is_shift: NDArray[np.bool_]
    ) -> Columns:
        return {
            records.NUM_EXAMPLES: data.num_events,
            records.DEVICE_ID: data.device_ids,
            "context-id": context_id.astype(np.int64),
            "is-shift": is_shift.astype(np.int64),
        }

    def pool(
        self, scores: Columns, points: Columns
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        nothing = np.empty((len(scores[records.NUM_EXAMPLES]), 0))
        return nothing, nothing


def true_ranks(scores: NDArray[np.float32], true_column: NDArray[np.int64]) -> NDArray[np.float64]:
    """``[T]``: the rank of the true candidate, 1 at the top, ties by half; what is no number counts as the worst."""
    scores, _ = worst_for_nan(np.asarray(scores, np.float32), true_column)
    return ranks(scores, scores[np.arange(len(scores)), true_column])


def entropy(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """``[T, C]`` -> ``[T]``, of the softmax, in nats; that of even chances where a logit is no number."""
    with np.errstate(invalid="ignore"):
        shares = np.exp(scipy.special.log_softmax(logits.astype(np.float64), 1))
    value = scipy.special.entr(shares).sum(1)
    return np.where(np.isnan(value), np.log(logits.shape[1]), value)


class VideoAnswers(VideoTask):
    """Accuracy of the highest answer, over all questions and by their type, and the log loss.

    Args:
        kinds: Names of the types of questions, which ``SegmentBatch.kind`` counts.
        has_unseen: Whether answer 0 stands for all that the device model does not know. Questions
            with such a true answer are never answered rightly, and the log loss leaves them out.
    """

    def __init__(self, kinds: Sequence[str], has_unseen: bool = False) -> None:
        self.has_unseen = has_unseen
        self.metrics = ("accuracy", "log_loss", *(f"accuracy: {kind}" for kind in kinds))
        self._num_kinds = len(kinds)

    def score(self, logits: NDArray[np.float32], data: SegmentBatch) -> tuple[Columns, Columns]:
        true_column, context_id, is_shift = data.truth.read(self)
        n, row = len(data.device_ids), data.row
        is_told = (true_column != 0) | (not self.has_unseen)
        is_right = (true_ranks(logits, true_column) == 1) & is_told
        exact = logits.astype(np.float64)
        loss = np.logaddexp.reduce(exact, 1) - exact[np.arange(len(row)), true_column]
        num_events = np.bincount(row, minlength=n).astype(np.float64)
        kind: NDArray[np.int64] = data.kind  # type: ignore[attr-defined]
        cell, size = row * self._num_kinds + kind, n * self._num_kinds
        right_of = np.bincount(cell, is_right, size).reshape(n, -1)
        asked_of = np.bincount(cell, minlength=size).reshape(n, -1).astype(np.float64)
        value_sum = np.column_stack(
            [
                np.bincount(row, is_right, n),
                np.bincount(row, np.where(is_told, loss, 0.0), n),
                right_of,
            ]
        )
        value_count = np.column_stack([num_events, np.bincount(row, is_told, n), asked_of])
        sums = {"value-sum": value_sum, "value-count": value_count}
        return {**self._common(data, context_id, is_shift), **sums}, {}


class VideoSearch(VideoTask):
    """R@1, R@5, R@10, mean and median rank of the clip that a caption describes among those of its gallery.

    The median is that over the queries of all devices of a segment, and a mean of those over
    segments.
    """

    metrics: tuple[str, ...] = ("r@1", "r@5", "r@10", "mean_rank")
    pooled: tuple[str, ...] = ("median_rank",)

    def score(self, logits: NDArray[np.float32], data: SegmentBatch) -> tuple[Columns, Columns]:
        true_column, context_id, is_shift = data.truth.read(self)
        n, row = len(data.device_ids), data.row
        rank = true_ranks(logits, true_column)
        columns = [*(rank <= k for k in (1, 5, 10)), rank]
        num_events = np.bincount(row, minlength=n).astype(np.float64)
        most = int(data.num_events.max()) if n else 0
        each = np.full((n, most), np.nan, np.float32)
        each[row, data.slot] = rank
        sums = {
            "value-sum": np.stack([np.bincount(row, column, n) for column in columns], 1),
            "value-count": np.repeat(num_events[:, None], len(columns), 1),
        }
        return {**self._common(data, context_id, is_shift), **sums}, {"rank": each}

    def pool(
        self, scores: Columns, points: Columns
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        count = np.asarray(scores[records.NUM_EXAMPLES], np.float64)[:, None]
        rank = points["rank"]
        if not np.isfinite(rank).any():
            return np.zeros_like(count), np.zeros_like(count)
        return float(np.nanmedian(rank)) * count, count
