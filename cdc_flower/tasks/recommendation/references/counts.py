"""Counts of the historical part, for lines that rank by counting."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.tasks.recommendation.history import HistoricalData

#: ``a``, how many events the popularity counts for beside what followed an item.
PRIOR_EVENTS = 200.0


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
