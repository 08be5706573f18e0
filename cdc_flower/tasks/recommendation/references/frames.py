"""Makes the rows of reference lines: as of a strategy that sends and costs nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from cdc_flower.tasks.recommendation.metrics import (
    METRICS,
    POOLED,
    RankingMetrics,
    RankingScores,
    pooled_auc,
)
from cdc_flower.tasks.recommendation.references.registry import Known, Line, references
from cdc_flower.tasks.recommendation.stream import EventStream

if TYPE_CHECKING:
    import pandas as pd

#: Devices whose events are held in memory at a time.
DEVICES_PER_CHUNK = 512


def reference_frames(
    names: Sequence[str],
    known: Known,
    labels: Mapping[str, str | float],
    metrics: RankingMetrics | None = None,
) -> Iterator["pd.DataFrame"]:
    """Makes the rows of each line and segment, as of a strategy that sends and costs nothing.

    Args:
        names: Of ``references``.
        known: With the stream, all of whose devices are scored.
        labels: As :func:`cdc_flower.study.play.play` takes them, without ``strategy``.
        metrics: By which they are scored; None: the default ones.
    """
    from cdc_flower.tables.long_table import segment_frame  # with pandas, which devices lack

    stream = known.stream
    ranking = metrics or RankingMetrics()
    everyone = np.arange(stream.num_devices)
    chunks = [
        everyone[k : k + DEVICES_PER_CHUNK] for k in range(0, len(everyone), DEVICES_PER_CHUNK)
    ]
    for name in names:
        line = cast(Line, references[name].value(known))
        for segment in range(stream.num_segments):
            events, parts = zip(
                *(_score(line, stream, ids, segment, ranking) for ids in chunks), strict=True
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
    line: Line,
    stream: EventStream,
    device_ids: NDArray[np.int64],
    segment: int,
    ranking: RankingMetrics,
) -> tuple[NDArray[np.int64], RankingScores]:
    """Counts the events of devices in a segment, and scores them.

    Args:
        line: Made for the stream.
        stream: Of the devices.
        device_ids: ``[n]``.
        segment: Which one.
        ranking: By which they are scored.
    """
    data = stream.segment(device_ids, segment)
    return data.num_events, ranking.score(line(data, segment), data)


def joined(parts: Sequence[RankingScores]) -> RankingScores:
    """Joins the scores of some devices and then of others."""
    names = [field.name for field in fields(RankingScores)]
    return RankingScores(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )
