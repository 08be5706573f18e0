"""Centered clipping (Karimireddy et al., ICML 2021, arXiv 2012.10333).

    v ← v + mean_i (u_i - v) min(1, r / ‖u_i - v‖)      from the v of the round before

The paper's radius is a number, 10 for gradients of its networks. Updates have no such scale, so r
is τ times the median of ``‖u_i - v‖``, found anew in each step.
"""

from dataclasses import dataclass
from typing import ClassVar

from cdc_flower.core.options import option
from cdc_flower.strategies.fedavg.rules.clipping import clipped, median_size
from cdc_flower.strategies.fedavg.rules.rule import Floats, Rule, rules


@rules.register("centered_clipping")
@dataclass(eq=False)
class CenteredClipping(Rule):
    """Averages updates, clipped around what the round before gave."""

    remembers: ClassVar[bool] = True

    clip_radius: float = option(
        1.0,
        changes_training=False,
        above=0,
        doc="with rule=centered_clipping, τ, by which the median distance from the center becomes "
        "the radius; inf clips nothing and is the mean of all",
    )
    clip_steps: int = option(
        3,
        changes_training=False,
        least=1,
        most=5,
        doc="with rule=centered_clipping, how often the center moves in a round",
    )

    def combine(self, updates: Floats, weights: Floats, last: Floats) -> Floats:
        """Moves the center.

        Args:
            updates: ``[n, P]``.
            weights: Not read.
            last: Where the center was.
        """
        center = last
        for _ in range(self.clip_steps):
            apart = updates - center
            center = center + clipped(apart, self.clip_radius * median_size(apart)).mean(0)
        return center
