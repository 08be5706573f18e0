"""Multi-Krum (Blanchard et al., NIPS 2017, arXiv 1703.02757), by Flower's MultiKrum."""

from dataclasses import dataclass

from flwr.serverapp.strategy import MultiKrum as FlowerMultiKrum

from cdc_flower.core.options import option
from cdc_flower.strategies.fedavg.rules.flower import combined
from cdc_flower.strategies.fedavg.rules.krum import NearestNeighbors
from cdc_flower.strategies.fedavg.rules.rule import Floats, rules


@rules.register("multi_krum")
@dataclass(eq=False)
class MultiKrum(NearestNeighbors):
    """Averages the updates that are nearest to their neighbors, each with the same weight."""

    num_selected: int | None = option(
        None,
        changes_training=False,
        least=1,
        doc="with rule=multi_krum, updates that are averaged, at most all; null: n - f",
    )

    def combine(self, updates: Floats, weights: Floats, last: Floats) -> Floats:
        """Averages the chosen.

        Args:
            updates: ``[n, P]``.
            weights: Not read.
            last: Not read.
        """
        expected = self.expected(len(updates))
        count = len(updates) - expected if self.num_selected is None else self.num_selected
        strategy = FlowerMultiKrum(num_malicious_nodes=expected, num_nodes_to_select=count)
        return combined(strategy, updates)
