"""Hostile devices boost their update (model replacement: Bagdasaryan et al., AISTATS 2020)."""

import math
from dataclasses import dataclass

from cdc_flower.core.options import option
from cdc_flower.simulations.attacks.attack import attacks
from cdc_flower.simulations.attacks.updates import Floats, UpdateAttack, Updates


@attacks.register("scaling")
@dataclass(eq=False)
class Scaling(UpdateAttack):
    """Sends ``scale · u`` in place of an update u."""

    scale: float = option(
        10.0, least=0, below=math.inf, neutral=1, doc="of the update; 1 changes nothing"
    )

    def made(self, updates: Updates) -> Floats:
        """Scales updates."""
        return self.scale * updates.own
