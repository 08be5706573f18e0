"""Recommendation: devices tell their last items, and rank the item that their user chooses next."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.stream import SegmentBatch
from cdc_flower.devices.state import DeviceStates
from cdc_flower.devices.task import Columns
from cdc_flower.models.base import DeviceModel
from cdc_flower.tasks.protocol import Task
from cdc_flower.tasks.recommendation.metrics import METRICS, RankingMetrics, pooled_auc
from cdc_flower.wire import records


class Recommendation:
    """Devices tell their last items, and rank the item that their user chooses next."""

    tells = frozenset({records.HISTORY})
    metrics: tuple[str, ...] = METRICS
    pooled: tuple[str, ...] = ("auc",)

    def __init__(self) -> None:
        self._ranking = RankingMetrics()

    def report(
        self, model: DeviceModel, stream: Any, states: DeviceStates, segment: int, lag: int = 0
    ) -> tuple[Columns, Columns]:
        return {records.HISTORY: stream.recent(states.device_ids, segment, lag)}, {}

    def uncertainty(
        self, model: DeviceModel, stream: Any, states: DeviceStates, segment: int
    ) -> NDArray[np.float64]:
        raise ValueError("task must be one in which devices answer questions, got recommendation")

    def score(self, logits: NDArray[np.float32], data: SegmentBatch) -> tuple[Columns, Columns]:
        scores = self._ranking.score(logits, data)
        sums = {
            records.NUM_EXAMPLES: data.num_events,
            records.DEVICE_ID: data.device_ids,
            "context-id": scores.context_id.astype(np.int64),
            "is-shift": scores.is_shift.astype(np.int64),
            "value-sum": scores.value_sum,
            "value-count": scores.value_count,
            "num-negatives": scores.num_negative,
        }
        return sums, {"positive": scores.positive, "negative": scores.negative}

    def pool(
        self, scores: Columns, points: Columns
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        counts = scores[records.NUM_EXAMPLES], scores["num-negatives"]
        value_sum, value_count = pooled_auc(points["positive"], points["negative"], *counts)
        return value_sum[:, None], value_count[:, None]


RECOMMENDATION: Task = Recommendation()
