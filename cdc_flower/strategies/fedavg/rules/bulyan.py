"""Bulyan (El Mhamdi et al., ICML 2018, arXiv 1802.07927), by Flower's Bulyan."""

from dataclasses import dataclass

from flwr.serverapp.strategy import Bulyan as FlowerBulyan

from cdc_flower.strategies.fedavg.rules.flower import combined, hostile_option
from cdc_flower.strategies.fedavg.rules.rule import Floats, Rule, rules


@rules.register("bulyan")
@dataclass(eq=False)
class Bulyan(Rule):
    """Chooses by Multi-Krum, and averages of each number those nearest to its median."""

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
        most = (len(updates) - 3) // 4
        expected = most if self.num_hostile is None else self.num_hostile
        return combined(FlowerBulyan(num_malicious_nodes=expected), updates)
