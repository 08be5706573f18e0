"""The median of each number (Yin et al., ICML 2018, arXiv 1803.01498), by Flower's FedMedian."""

from dataclasses import dataclass

from flwr.serverapp.strategy import FedMedian

from cdc_flower.strategies.fedavg.rules.flower import combined
from cdc_flower.strategies.fedavg.rules.rule import Floats, Rule, rules


@rules.register("median")
@dataclass(eq=False)
class Median(Rule):
    """Takes the median of each number of the updates."""

    def combine(self, updates: Floats, weights: Floats, last: Floats) -> Floats:
        """Takes medians.

        Args:
            updates: ``[n, P]``.
            weights: Not read.
            last: Not read.
        """
        return combined(FedMedian(), updates)
