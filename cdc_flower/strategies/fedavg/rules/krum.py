"""Krum (Blanchard et al., NIPS 2017, arXiv 1703.02757), by Flower's Krum."""

from dataclasses import dataclass

from flwr.serverapp.strategy import Krum as FlowerKrum

from cdc_flower.strategies.fedavg.rules.flower import combined, hostile_option
from cdc_flower.strategies.fedavg.rules.rule import Floats, Rule, rules


@dataclass(eq=False)
class NearestNeighbors(Rule):
    """Scores updates by their squared distances to the nearest ``n - f - 2`` others."""

    num_hostile: int | None = hostile_option()

    @property
    def least_devices(self) -> int:
        """Counts ``2 f + 3``, from which on hostile devices cannot stand nearest by themselves."""
        return 2 * (self.num_hostile or 0) + 3

    def expected(self, num_devices: int) -> int:
        """Gives f for so many devices."""
        return (num_devices - 3) // 2 if self.num_hostile is None else self.num_hostile


@rules.register("krum")
@dataclass(eq=False)
class Krum(NearestNeighbors):
    """Takes the one update that is nearest to its neighbors."""

    def combine(self, updates: Floats, weights: Floats, last: Floats) -> Floats:
        """Chooses an update.

        Args:
            updates: ``[n, P]``.
            weights: Not read.
            last: Not read.
        """
        return combined(FlowerKrum(num_malicious_nodes=self.expected(len(updates))), updates)
