"""Hostile devices send their update with the opposite sign."""

import math
from dataclasses import dataclass

from cdc_flower.core.options import option
from cdc_flower.simulations.attacks.attack import attacks
from cdc_flower.simulations.attacks.updates import Floats, UpdateAttack, Updates


@attacks.register("sign_flip")
@dataclass(eq=False)
class SignFlip(UpdateAttack):
    """Sends ``-scale · u`` in place of an update u."""

    scale: float = option(1.0, least=0, below=math.inf, doc="of the flipped update; -1 · u for 1")

    def made(self, updates: Updates) -> Floats:
        """Flips updates."""
        return -self.scale * updates.own
