"""Trains the reasoner by itself, to tell from one frame how a clip's frames are distributed.

No label is needed for it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.seeds import generator
from cdc_flower.strategies.base import Cloud, History, Stage
from cdc_flower.strategies.cdc_mmpg.condition import Condition, FrameTable

_CLIPS_PER_BATCH = 256


class ClipHistory(History, Protocol):
    """Historical data whose examples are queries to clips."""

    @property
    def queries(self) -> NDArray[np.int64]:
        """Lists the queries ``[M]`` of all examples."""

    def openings(self, rows: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Takes a query ``[B]`` of the device and segment of each example.

        Args:
            rows: ``[B]``, which examples.
            uniform: ``[B]``, a number in [0, 1) that chooses it; 0 takes the first.
        """


def clips_in(history: History) -> ClipHistory:
    """Takes historical data of a video task as such; no other has the frames that are told."""
    return cast(ClipHistory, history)


@dataclass(frozen=True)
class Seen:
    """Historical clips ``[B]``."""

    history: NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """Epochs of training at most, and the learning rate of Adam."""

    epochs: int
    rate: float


def match_clips(
    cloud: Cloud,
    condition: Condition,
    frames: FrameTable,
    settings: Mapping[str, object],
    schedule: Schedule,
) -> list[float]:
    """Trains the reasoner of a condition to match the frames of historical clips, in place.

    Args:
        cloud: Historical data.
        condition: With a reasoner.
        frames: Features by clip.
        settings: All that the result depends on beside the base model.
        schedule: Without epochs the reasoner stays as it is: the anchor stands for its clip.

    Returns:
        The mismatch over held-out clips before training and after each epoch.
    """
    reasoner = condition.reasoner
    assert reasoner is not None
    clip_of = frames.model.clips.clip_of
    clip_ids = np.unique(clip_of(clips_in(cloud.train).queries))
    others = np.unique(clip_of(clips_in(cloud.validation).queries))

    def batches(ids: NDArray[np.int64]) -> Iterator[Seen]:
        for start in range(0, len(ids), _CLIPS_PER_BATCH):
            yield Seen(ids[start : start + _CLIPS_PER_BATCH])

    def loss(batch: Seen) -> Tensor:
        features = frames(batch.history)
        mu, variance = reasoner(condition.anchors(features, batch.history))
        return reasoner.mismatch(mu, variance, features).mean()

    trained = dict(reasoner.named_parameters())
    return cloud.fit(
        Stage(
            "cdc_mmpg: reasoner",
            settings,
            trained,
            list(trained.values()),
            schedule.epochs,
            schedule.rate,
        ),
        loss,
        batches=lambda epoch: batches(
            generator(cloud.seed, "cdc_mmpg", "clips", epoch).permutation(clip_ids)
        ),
        held_out=lambda: batches(others),
        num_batches=-(-len(clip_ids) // _CLIPS_PER_BATCH),
    )
