"""The mean without the extremes of each number (Yin et al., ICML 2018), by FedTrimmedAvg."""

import math
from dataclasses import dataclass

from flwr.serverapp.strategy import FedTrimmedAvg

from cdc_flower.core.options import option
from cdc_flower.strategies.fedavg.rules.flower import combined
from cdc_flower.strategies.fedavg.rules.rule import Floats, Rule, rules


@rules.register("trimmed_mean")
@dataclass(eq=False)
class TrimmedMean(Rule):
    """Averages each number without a share of the smallest and of the largest."""

    trim_share: float = option(
        0.2,
        least=0,
        below=0.5,
        neutral=0,
        changes_training=False,
        doc="with rule=trimmed_mean, the share of devices left out of each number at either end, "
        "rounded down; 0 is the mean of all, each with the same weight",
    )

    @property
    def least_devices(self) -> int:
        """Counts the devices of which at least one is left out at either end."""
        return math.ceil(1 / self.trim_share) if self.trim_share else 1

    def combine(self, updates: Floats, weights: Floats, last: Floats) -> Floats:
        """Averages what is left.

        Args:
            updates: ``[n, P]``.
            weights: Not read.
            last: Not read.
        """
        return combined(FedTrimmedAvg(beta=self.trim_share), updates)
