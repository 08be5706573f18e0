"""The weighted mean of FedAvg: the neutral value."""

from dataclasses import dataclass

from cdc_flower.strategies.fedavg.rules.rule import Floats, Rule, rules


@rules.register("mean")
@dataclass(eq=False)
class Mean(Rule):
    """Averages updates by the examples that devices say they have."""

    def combine(self, updates: Floats, weights: Floats, last: Floats) -> Floats:
        """Adds up weighted updates.

        Args:
            updates: ``[n, P]``.
            weights: ``[n]``.
            last: Not read.
        """
        return weights @ updates
