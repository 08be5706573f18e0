"""What a task adds to devices that rank candidates: what they tell of their recent data, and how they are scored.

Everything else is the same for all tasks: a device ranks candidates for a query (items for a
history, answers for a question, clips for a caption), and a model says how
(:class:`~cdc_flower.models.base.DeviceModel`).
"""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.core.stream import SegmentBatch
from cdc_flower.devices.state import DeviceStates
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.sequence_feature import feature_flops, sequence_feature
from cdc_flower.tasks.recommendation.metrics import METRICS, RankingMetrics, pooled_auc
from cdc_flower.training.scoring import Arrays, tensors
from cdc_flower.wire import records

#: Arrays or numbers of ``n`` devices, by key.
Columns = dict[str, NDArray[Any]]


class Task(Protocol):
    """How devices report and how they are scored."""

    #: Names of what devices tell of their recent data; a strategy plays the task if it reads one.
    tells: frozenset[str]
    #: Metrics that are sums over events of a device, in the order of the columns of ``value-sum``.
    metrics: tuple[str, ...]
    #: Metrics that need the events of all devices; see :meth:`pool`.
    pooled: tuple[str, ...]

    def report(
        self, model: DeviceModel, stream: Any, states: DeviceStates, segment: int, lag: int = 0
    ) -> tuple[Columns, Columns]:
        """What devices tell when a segment starts, or ``lag`` events earlier, ``[n, ...]`` each, and the work of it."""

    def doubt(
        self, model: DeviceModel, stream: Any, states: DeviceStates, segment: int
    ) -> NDArray[np.float64]:
        """``[n]``: how unsure devices are of their newest answers when a segment starts, with the layers in use.

        Raises:
            ValueError: If devices have answered nothing of which they could be unsure.
        """

    def score(self, logits: NDArray[np.float32], data: SegmentBatch) -> tuple[Columns, Columns]:
        """Sums for the record ``scores`` and points for the record ``points``, ``[n, ...]`` each."""

    def pool(
        self, scores: Columns, points: Columns
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums and counts ``[n, P]`` of the ``P`` pooled metrics, from the replies of all devices of a segment."""


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

    def doubt(
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


@torch.inference_mode()
def feature_report(
    model: DeviceModel, recent: NDArray[np.int32], static: Arrays
) -> tuple[Columns, Columns]:
    """Makes a report that holds a feature ``[n, w]`` in place of recent data, and tells its work.

    States of items are those that the device makes to predict, so they are not counted again; those
    of frames are.

    Args:
        model: The device model.
        recent: ``[n, L]``, what the stream tells as recent.
        static: The deployed layers, those of the feature among them.
    """
    parameters = tensors(static)
    states, num_steps = model.sequence(parameters, torch.from_numpy(recent).long())
    feature = sequence_feature(parameters, states, num_steps).numpy()
    flops = model.sequence_flops() + feature_flops(
        states.shape[-1], feature.shape[-1], states.shape[-2]
    )
    work = {
        records.NUM_LABELS: np.zeros(len(recent), np.int64),
        records.FLOPS: np.full(len(recent), flops),
    }
    return {records.FEATURE: feature}, work
