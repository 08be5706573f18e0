"""Makes the rows of reference lines: as of a strategy that sends and costs nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from cdc_flower.tasks.protocol import Task
from cdc_flower.tasks.video.references.registry import Known, Line, references
from cdc_flower.wire import records

if TYPE_CHECKING:
    import pandas as pd


def reference_frames(
    task: Task, names: Sequence[str], known: Known, labels: Mapping[str, str | float]
) -> Iterator["pd.DataFrame"]:
    """Makes the rows of each line and segment.

    Args:
        task: Scores them.
        names: Of ``references``.
        known: With the stream, all of whose devices are scored.
        labels: As :func:`cdc_flower.study.play.play` takes them, without ``strategy``.
    """
    from cdc_flower.tables.long_table import segment_frame  # with pandas, which devices lack

    stream = known.stream
    everyone = np.arange(stream.num_devices)
    for name in names:
        line = cast(Line, references[name].value(known))
        for segment in range(stream.num_segments):
            data = stream.segment(everyone, segment)
            scores, points = task.score(line(data), data)
            pooled_sum, pooled_count = task.pool(scores, points)
            at = {"segment": segment, "time_s": float(stream.segment_starts_s[segment])}
            yield segment_frame(
                {**labels, "strategy": name, **at},
                facts={
                    "device_id": everyone,
                    "context_id": scores["context-id"],
                    "is_shift": scores["is-shift"].astype(np.bool_),
                    "num_examples": scores[records.NUM_EXAMPLES],
                    "staleness_s": np.nan,  # there are no parameters
                },
                metrics=(*task.pooled, *task.metrics),
                values={
                    "value_sum": np.column_stack([pooled_sum, scores["value-sum"]]),
                    "value_count": np.column_stack([pooled_count, scores["value-count"]]),
                },
            )
