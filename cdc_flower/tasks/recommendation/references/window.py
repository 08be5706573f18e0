"""Ranks by the best prediction that a device's own window of items allows under the law."""

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.stream import SegmentBatch
from cdc_flower.tasks.recommendation.references.registry import Known, Line, references


@references.register("window", default_place=4, needs_law=True)
def window(known: Known) -> Line:
    """Ranks by the law of the data, told the items that the device's model reads, no context."""
    law, stream = known.law, known.stream

    def score(data: SegmentBatch, segment: int) -> NDArray[np.float32]:
        at = stream.moments(data, segment, stream.history_length)
        return known.logits(law.forecast(at, data.candidates))

    return score
