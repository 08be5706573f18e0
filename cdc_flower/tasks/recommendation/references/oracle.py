"""Ranks by the exact chance of each item under the law of the data, the context known."""

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.stream import SegmentBatch
from cdc_flower.tasks.recommendation.references.registry import Known, Line, references


@references.register("oracle", default_place=3, needs_law=True)
def oracle(known: Known) -> Line:
    """Ranks by the law of the data, told the hidden context of the moment: none is better."""
    law, stream = known.law, known.stream

    def score(data: SegmentBatch, segment: int) -> NDArray[np.float32]:
        at = stream.moments(data, segment, law.memory)
        return known.logits(law.expected(at, data.candidates))

    return score
