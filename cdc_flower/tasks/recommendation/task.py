"""Recommendation: devices tell their last items, and rank the item that their user chooses next."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.registry import Registry
from cdc_flower.core.stream import SegmentBatch
from cdc_flower.devices.feature_report import recent_items
from cdc_flower.devices.state import DeviceStates
from cdc_flower.devices.task import Columns
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.registry import model_of
from cdc_flower.tasks.data import StreamShape, data_of
from cdc_flower.tasks.protocol import (
    Bounds,
    Built,
    Config,
    Deployed,
    ReferenceFacts,
    Task,
    facts_of,
)
from cdc_flower.tasks.recommendation.base_check import base_notes
from cdc_flower.tasks.recommendation.metrics import (
    MEAN,
    METRICS,
    POOLED,
    WORST_LOSS,
    RankingMetrics,
    pooled_auc,
)
from cdc_flower.tasks.recommendation.references import Known, references
from cdc_flower.tasks.recommendation.references.ceiling import ceiling, shared_law
from cdc_flower.tasks.recommendation.references.frames import reference_frames
from cdc_flower.tasks.recommendation.sensor import HistorySensor
from cdc_flower.tasks.recommendation.stream import EventStream
from cdc_flower.tasks.recommendation.uncertainty import DetectorDoubt, train_uncertainty
from cdc_flower.tasks.registry import tasks
from cdc_flower.tasks.sensing import Ask
from cdc_flower.training.cloud import Cloud
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records

if TYPE_CHECKING:  # devices make no tables: every worker would hold pandas for nothing
    import pandas as pd

#: Layer of a device model that policies look items up in.
EMBEDDING = "embedding"
#: Items that a model sees before an event where it has no option of it.
HISTORY_LENGTH = 10


@tasks.register("recommendation", reads="items")
class Recommendation(Task):
    """Ranks items for the last items of a device."""

    tells = frozenset({records.HISTORY})
    metrics: tuple[str, ...] = METRICS
    pooled: tuple[str, ...] = POOLED
    references: ClassVar[Registry[Callable[..., object], ReferenceFacts]] = references

    def __init__(self, ties: str = MEAN) -> None:
        self._ranking = RankingMetrics(ties)

    @classmethod
    def build(cls, config: Config) -> Built:
        """Reads or draws the events of all devices, and makes the model for their items.

        Raises:
            UserError: If a value does not fit the data, a file is missing or a row is malformed.
        """
        shape = StreamShape(
            config["num_segments"],
            config["seed"],
            config["fleet"]["num_devices"],
            config["model"].get("history_length", HISTORY_LENGTH),
            config["num_negatives"],
        )
        stream: EventStream = data_of(config["data"]).stream(shape)
        # A stream of the user's own draws its candidates itself.
        num_negatives = getattr(stream, "num_negatives", 0)
        if num_negatives >= stream.num_items:
            raise UserError(
                f"num_negatives must be < {stream.num_items}, the number of items in the data, "
                f"got {num_negatives}"
            )
        model = model_of(config["model"], num_items=stream.num_items)
        if ceiling.__name__ in config["references"]:
            shared_law(Known(stream, _untrained))
        return Built(stream, model, cls(**config["metrics"]))

    def report(
        self,
        model: DeviceModel,
        stream: EventStream,
        states: DeviceStates,
        segment: int,
        lag: int = 0,
    ) -> tuple[Columns, Columns]:
        """Tells the last items of devices ``[n, L]``; see :meth:`Task.report`.

        Args:
            model: Not read.
            stream: With the events of devices.
            states: Of the ``n`` devices.
            segment: Which one starts.
            lag: Events by which the report is earlier. 0 is the present.
        """
        return {records.HISTORY: recent_items(stream, states, segment, lag)}, {}

    def uncertainty(
        self, model: DeviceModel, stream: EventStream, states: DeviceStates, segment: int
    ) -> NDArray[np.float64]:
        """Refuses: devices rank and do not answer.

        Args:
            model: Not read, as all others.
            stream: Of the devices.
            states: Of the devices.
            segment: Which one starts.

        Raises:
            ValueError: Always.
        """
        raise ValueError("task must be one in which devices answer questions, got recommendation")

    def score(self, logits: NDArray[np.float32], data: SegmentBatch) -> tuple[Columns, Columns]:
        scores = self._ranking.score(logits, data)
        sums = {
            **facts_of(data, scores.context_id, scores.is_shift),
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

    def bounds(self, stream: EventStream) -> Bounds:
        num_negatives = getattr(stream, "num_negatives", None)
        return Bounds(
            ids=dict.fromkeys((records.HISTORY, records.CANDIDATES), stream.num_items),
            values={name: WORST_LOSS if name == "log_loss" else 1.0 for name in METRICS},
            counts={} if num_negatives is None else {"num-negatives": num_negatives},
        )

    def sensor(self, stream: EventStream, cloud: Cloud, deployed: Arrays) -> HistorySensor:
        """Makes statistics of the items that devices choose, by their embeddings.

        Args:
            stream: Of the devices.
            cloud: Not read.
            deployed: With the embeddings.

        Raises:
            UserError: If the model has none.
        """
        if EMBEDDING not in deployed:
            found = ", ".join(list(deployed)[:3])
            raise UserError(f"policy needs a model with item embeddings, got {found}, ...")
        return HistorySensor(stream, deployed[EMBEDDING])

    def doubt_estimate(
        self, stream: EventStream, cloud: Cloud, strategy: Deployed, epochs: int, ask: Ask
    ) -> DetectorDoubt:
        """Trains the detector of what the parameters in use do not fit.

        Args:
            stream: Of the devices.
            cloud: Of the strategy.
            strategy: Prepared.
            epochs: Of training the detector.
            ask: Not read: nothing is asked of devices.
        """
        sensor = self.sensor(stream, cloud, strategy.deployment())
        return DetectorDoubt(sensor, train_uncertainty(cloud, strategy, epochs))

    def reference_rows(
        self,
        names: Sequence[str],
        stream: EventStream,
        labels: Mapping[str, str | float],
        train: Callable[[], Cloud],
    ) -> Iterator["pd.DataFrame"]:
        """Scores reference lines on the whole stream; see :meth:`Task.reference_rows`.

        Args:
            names: Of the lines.
            stream: Of the devices.
            labels: Of the rows, without ``strategy``.
            train: Gives the trained cloud.
        """
        return reference_frames(names, Known(stream, train), labels, self._ranking)

    def base_notes(self, cloud: Cloud) -> list[str]:
        return base_notes(cloud)


def _untrained() -> Cloud:
    raise ValueError("train must be given where lines are played")


RECOMMENDATION: Task = Recommendation()
