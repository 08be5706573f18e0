"""The geometric median (RFA: Pillutla et al., IEEE TSP 2022, arXiv 1912.13445).

The point with the least weighted sum of distances to all updates, by the smoothed iteration of
Weiszfeld with the fixed weights α of the devices:

    z ← Σ_i b_i u_i / Σ_i b_i        b_i = α_i / max(ε, ‖u_i - z‖)

until z moves by less than a share of its size, or for a few steps. RFA starts at the weighted mean,
from which each step takes away but nine tenths of an update that is as large as 1e30. So the start
is the mean of the updates clipped to their median norm: the weighted mean where they are alike.
"""

from dataclasses import dataclass

import numpy as np

from cdc_flower.core.options import option
from cdc_flower.strategies.fedavg.rules.clipping import MEDIAN, clipped, sizes
from cdc_flower.strategies.fedavg.rules.rule import Floats, Rule, rules

#: ε, below which a distance counts as this.
SMOOTHING = 1e-5
#: Share of its size by which the point moves in the last step.
TOLERANCE = 1e-6


@rules.register("geometric_median")
@dataclass(eq=False)
class GeometricMedian(Rule):
    """Takes the point with the least sum of distances to the updates."""

    weiszfeld_steps: int = option(
        4,
        changes_training=False,
        least=0,
        doc="with rule=geometric_median, steps toward it at most; 0 is the mean of the updates "
        "clipped to their median norm",
    )

    def combine(self, updates: Floats, weights: Floats, last: Floats) -> Floats:
        """Looks for the point, all devices weighing the same.

        Args:
            updates: ``[n, P]``.
            weights: Not read.
            last: Not read.
        """
        alike = np.full(len(updates), 1 / len(updates))
        return geometric_median(updates, alike, self.weiszfeld_steps)


def geometric_median(updates: Floats, weights: Floats, steps: int) -> Floats:
    """Approximates the geometric median ``[P]``.

    Args:
        updates: ``[n, P]``.
        weights: α, ``[n]``, which add up to 1.
        steps: At most.
    """
    point = weights @ clipped(updates, MEDIAN)
    for _ in range(steps):
        near = weights / np.maximum(SMOOTHING, sizes(updates - point))
        moved = near @ updates / near.sum()
        is_near = sizes(moved - point) <= TOLERANCE * sizes(moved)
        point = moved
        if is_near:
            break
    return np.asarray(point)
