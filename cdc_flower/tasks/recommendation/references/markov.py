"""Ranks by what followed the last three items in the historical part.

The chance is the sum over k = 1, 2, 3 of w_k p(i | item at k steps back), with weights 1/k, where
p(i | j) = (n(j, i) + a p(i)) / (n(j) + a), with n(j, i) how often i comes next after j on a device.
The weights and ``a`` are the best of a few on the second to last events of ml-1m.
"""

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.stream import SegmentBatch
from cdc_flower.tasks.recommendation.references.counts import Counts
from cdc_flower.tasks.recommendation.references.registry import Known, Line, references

#: Weight of what followed the last item, the one before it, and the one before that.
WEIGHTS = (1.0, 1.0 / 2.0, 1.0 / 3.0)


@references.register("markov", default_place=2)
def markov(known: Known) -> Line:
    """Ranks by the chance of each item after the last three; by its share where there is none."""
    return lambda data, segment: known.logits(chances_after(known.counts, data))


def chances_after(counts: Counts, data: SegmentBatch) -> NDArray[np.float64]:
    """Tells the chance of each candidate ``[T, C]`` after the last three items."""
    length = (data.history > 0).sum(axis=1)
    chance, weight = np.zeros(data.candidates.shape), np.zeros((len(length), 1))
    for back, own in enumerate(WEIGHTS[: data.history.shape[1]], start=1):
        rows = np.flatnonzero(length >= back)
        item = data.history[rows, length[rows] - back].astype(np.int64)
        chance[rows] += own * counts.transition(item, data.candidates[rows])
        weight[rows] += own
    return np.where(weight > 0, chance / np.maximum(weight, 1.0), counts.share[data.candidates])
