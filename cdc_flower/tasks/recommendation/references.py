"""Reference lines: rankings by counting, which a learned model should be better than.

``popularity``  p(i), the share of the item in the historical part
``markov``      sum over k = 1, 2, 3 of w_k p(i | item at k steps back), with weights 1/k

where p(i | j) = (n(j, i) + a p(i)) / (n(j) + a), with n(j, i) how often i comes next after j on a
device. Every share has one event added to each item. The weights and ``a`` are the best of a few on
the second to last events of ml-1m. A score is the logit log(p m / 4), which is right for one true
item among 4 of the ``m`` items, as in training. Nothing is sent, and nothing is learned after the
cut.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.stream import SegmentBatch, Stream
from cdc_flower.tasks.recommendation.history import HistoricalData
from cdc_flower.tasks.recommendation.metrics import (
    LOSS_NEGATIVES,
    METRICS,
    POOLED,
    RankingMetrics,
    RankingScores,
    pooled_auc,
)

if TYPE_CHECKING:
    import pandas as pd

#: Weight of what followed the last item, the one before it, and the one before that.
WEIGHTS = (1.0, 1.0 / 2.0, 1.0 / 3.0)
#: ``a``, how many events the popularity counts for beside what followed an item.
PRIOR_EVENTS = 200.0
#: Devices whose events are held in memory at a time.
DEVICES_PER_CHUNK = 512


@dataclass(frozen=True)
class Counts:
    """Counts the historical part.

    Attributes:
        share: ``[num_items + 1]``, of each item with one event added; 0 for the padding.
        pairs: ``[P]``, ``item * (num_items + 1) + next item`` of each pair that occurs, ascending.
        num_pairs: ``[P]``, how often.
        num_followed: ``[num_items + 1]``, how often each item is followed by any.
    """

    share: NDArray[np.float64]
    pairs: NDArray[np.int64]
    num_pairs: NDArray[np.int64]
    num_followed: NDArray[np.int64]

    @classmethod
    def of(cls, history: HistoricalData) -> "Counts":
        """Counts the items and the pairs of neighbors of each device."""
        popularity = history.popularity() + 1.0
        popularity[0] = 0
        followed = np.ones(len(history.items), np.bool_)
        followed[history.offsets[1:][np.diff(history.offsets) > 0] - 1] = False
        first = np.flatnonzero(followed)
        keys = history.items[first].astype(np.int64) * len(popularity) + history.items[first + 1]
        pairs, num_pairs = np.unique(keys, return_counts=True)
        num_followed = np.bincount(history.items[first], minlength=len(popularity))
        return cls(popularity / popularity.sum(), pairs, num_pairs, num_followed)

    def transition(
        self, item: NDArray[np.int64], following: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """``[T, C]``: p(following | item) for items ``[T]`` and what may follow ``[T, C]``."""
        times = np.zeros(following.shape)
        if len(self.pairs):
            keys = item[:, None] * len(self.share) + following
            place = np.minimum(np.searchsorted(self.pairs, keys), len(self.pairs) - 1)
            times = np.where(self.pairs[place] == keys, self.num_pairs[place], 0.0)
        total = self.num_followed[item][:, None] + PRIOR_EVENTS
        return (times + PRIOR_EVENTS * self.share[following]) / total


def popularity(counts: Counts, segment: SegmentBatch) -> NDArray[np.float64]:
    """Ranks by the share of each item in the historical part."""
    return counts.share[segment.candidates]


def markov(counts: Counts, segment: SegmentBatch) -> NDArray[np.float64]:
    """Ranks by the chance of each item after the last three; by its share where there is none."""
    length = (segment.history > 0).sum(axis=1)
    chance, weight = np.zeros(segment.candidates.shape), np.zeros((len(length), 1))
    for back, own in enumerate(WEIGHTS[: segment.history.shape[1]], start=1):
        rows = np.flatnonzero(length >= back)
        item = segment.history[rows, length[rows] - back].astype(np.int64)
        chance[rows] += own * counts.transition(item, segment.candidates[rows])
        weight[rows] += own
    return np.where(weight > 0, chance / np.maximum(weight, 1.0), counts.share[segment.candidates])


#: Counts and a segment -> the chance of each candidate ``[T, C]``.
Line = Callable[[Counts, SegmentBatch], NDArray[np.float64]]
REFERENCES: dict[str, Line] = {
    "popularity": popularity,
    "markov": markov,
}


def reference_frames(
    names: Sequence[str],
    stream: Stream,
    history: HistoricalData,
    labels: Mapping[str, str | float],
    metrics: RankingMetrics | None = None,
) -> Iterator["pd.DataFrame"]:
    """Makes the rows of each line and segment, as of a strategy that sends and costs nothing.

    Args:
        names: Of ``REFERENCES``.
        stream: All of its devices are scored.
        history: What is counted.
        labels: As :func:`cdc_flower.study.play.play` takes them, without ``strategy``.
        metrics: By which they are scored; None: the default ones.
    """
    from cdc_flower.tables.long_table import segment_frame  # with pandas, which devices lack

    counts, everyone = Counts.of(history), np.arange(stream.num_devices)
    chunks = [
        everyone[k : k + DEVICES_PER_CHUNK] for k in range(0, len(everyone), DEVICES_PER_CHUNK)
    ]
    for name in names:
        for segment in range(stream.num_segments):
            events, parts = zip(
                *(_score(name, counts, stream, ids, segment, metrics) for ids in chunks),
                strict=True,
            )
            num_events, scores = np.concatenate(events), joined(parts)
            auc = pooled_auc(scores.positive, scores.negative, num_events, scores.num_negative)
            yield segment_frame(
                {
                    **labels,
                    "strategy": name,
                    "segment": segment,
                    "time_s": float(stream.segment_starts_s[segment]),
                },
                facts={
                    "device_id": everyone,
                    "context_id": scores.context_id,
                    "is_shift": scores.is_shift,
                    "num_examples": num_events,
                    "staleness_s": np.nan,  # there are no parameters
                },
                metrics=(*POOLED, *METRICS),
                values={
                    "value_sum": np.column_stack([auc[0], scores.value_sum]),
                    "value_count": np.column_stack([auc[1], scores.value_count]),
                },
            )


def _score(
    name: str,
    counts: Counts,
    stream: Stream,
    device_ids: NDArray[np.int64],
    segment: int,
    metrics: RankingMetrics | None = None,
) -> tuple[NDArray[np.int64], RankingScores]:
    """Counts the events of devices in a segment, and scores them.

    Args:
        name: Of the line.
        counts: Of the historical part.
        stream: Of the devices.
        device_ids: ``[n]``.
        segment: Which one.
        metrics: By which they are scored.
    """
    data = stream.segment(device_ids, segment)
    logits = np.log(REFERENCES[name](counts, data) * stream.num_items / LOSS_NEGATIVES)
    return data.num_events, (metrics or RankingMetrics()).score(logits.astype(np.float32), data)


def joined(parts: Sequence[RankingScores]) -> RankingScores:
    """Joins the scores of some devices and then of others."""
    names = [field.name for field in fields(RankingScores)]
    return RankingScores(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )
