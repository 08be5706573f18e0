"""Hostile devices add Gaussian noise to their update."""

import math
from dataclasses import dataclass

import numpy as np

from cdc_flower.core.options import option
from cdc_flower.simulations.attacks.attack import attacks
from cdc_flower.simulations.attacks.updates import Floats, UpdateAttack, Updates


@attacks.register("noise")
@dataclass(eq=False)
class Noise(UpdateAttack):
    """Adds noise that is a multiple of the size of honest updates."""

    scale: float = option(
        10.0,
        least=0,
        below=math.inf,
        neutral=0,
        doc="standard deviation of the noise, in root mean squares of the numbers of honest "
        "updates; 0 adds none",
    )

    def made(self, updates: Updates) -> Floats:
        """Adds noise."""
        size = np.sqrt(np.mean(updates.honest**2))
        noise = updates.draws.standard_normal(updates.own.shape)
        return np.asarray(updates.own + self.scale * size * noise)
