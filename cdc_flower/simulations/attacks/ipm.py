"""Inner product manipulation (Xie et al., UAI 2019, arXiv 1903.03936)."""

import math
from dataclasses import dataclass

import numpy as np

from cdc_flower.core.options import option
from cdc_flower.simulations.attacks.attack import attacks
from cdc_flower.simulations.attacks.updates import Floats, UpdateAttack, Updates


@attacks.register("ipm")
@dataclass(eq=False)
class Ipm(UpdateAttack):
    """Sends ``-epsilon`` times the mean of honest updates."""

    epsilon: float = option(
        0.5, least=0, below=math.inf, doc="of the mean; below 1 it hides among small updates"
    )

    def made(self, updates: Updates) -> Floats:
        """Makes one update for all hostile devices."""
        return np.broadcast_to(-self.epsilon * updates.honest.mean(0), updates.own.shape)
