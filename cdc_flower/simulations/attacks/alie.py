"""A little is enough (Baruch et al., NeurIPS 2019, arXiv 1902.06156): hide within the spread.

    u = mean - z · std                    of each number, over honest updates
    z = Φ⁻¹((n - f - s) / (n - f))        s = ⌊n / 2⌋ + 1 - f, of n devices of which f are hostile

The formula's z is small where few are hostile: .11 for 10 of 100, .29 for 20.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from cdc_flower.core.options import option
from cdc_flower.simulations.attacks.attack import attacks
from cdc_flower.simulations.attacks.updates import Floats, UpdateAttack, Updates

#: Shares of the normal law within which the formula is held, where hardly anybody is honest.
_LEAST = 1e-3
_MOST = 1 - _LEAST


@attacks.register("alie")
@dataclass(eq=False)
class Alie(UpdateAttack):
    """Sends the mean of honest updates, less some of their standard deviations."""

    z: float | None = option(
        None, least=0, doc="standard deviations; null: by the formula of the paper; such as 1.5"
    )

    def made(self, updates: Updates) -> Floats:
        """Makes one update for all hostile devices."""
        honest = updates.honest
        z = formula_z(updates.num_devices, len(updates.own)) if self.z is None else self.z
        one = honest.mean(0) - z * honest.std(0)
        return np.broadcast_to(one, updates.own.shape)


def formula_z(num_devices: int, num_hostile: int) -> float:
    """Computes z of the paper.

    Args:
        num_devices: n.
        num_hostile: f.
    """
    honest = max(1, num_devices - num_hostile)
    supporters = num_devices // 2 + 1 - num_hostile
    return NormalDist().inv_cdf(min(_MOST, max(_LEAST, (honest - supporters) / honest)))
