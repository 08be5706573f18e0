"""Bulyan (El Mhamdi et al., ICML 2018, arXiv 1802.07927), of the two functions of Flower's Bulyan.

Its class would collect garbage once for each update, which takes seconds a round.
"""

from dataclasses import dataclass

import numpy as np
from flwr.serverapp.strategy.bulyan import aggregate_n_closest_weights
from flwr.serverapp.strategy.multikrum import select_multikrum

from cdc_flower.strategies.fedavg.rules.flower import UPDATE, hostile_option, replies_of
from cdc_flower.strategies.fedavg.rules.rule import Floats, Rule, rules
from cdc_flower.wire import records


@rules.register("bulyan")
@dataclass(eq=False)
class Bulyan(Rule):
    """Chooses ``n - 2 f`` by Multi-Krum, and averages of each number those nearest its median."""

    num_hostile: int | None = hostile_option()

    @property
    def least_devices(self) -> int:
        """Counts ``4 f + 3``; with fewer Flower's would skip the round."""
        return 4 * (self.num_hostile or 0) + 3

    def combine(self, updates: Floats, weights: Floats, last: Floats) -> Floats:
        """Averages the nearest of the chosen.

        Args:
            updates: ``[n, P]``.
            weights: Not read.
            last: Not read.
        """
        count = len(updates)
        expected = (count - 3) // 4 if self.num_hostile is None else self.num_hostile
        contents = [message.content for message in replies_of(updates)]
        selected = select_multikrum(contents, expected, count - 2 * expected)
        chosen = [content.array_records[records.ARRAYS][UPDATE].numpy() for content in selected]
        nearest = aggregate_n_closest_weights(
            [np.median(chosen, axis=0)], [[each] for each in chosen], count - 4 * expected
        )
        return np.asarray(nearest[0])
