"""No device is hostile: the neutral value."""

from dataclasses import dataclass

import numpy as np

from cdc_flower.simulations.attacks.attack import Attack, Bools, attacks


@attacks.register("none")
@dataclass(eq=False)
class NoAttack(Attack):
    """No device is hostile: the neutral value."""

    def hostile(self, num_devices: int, seed: int) -> Bools:
        """Names nobody.

        Args:
            num_devices: n.
            seed: Not read.
        """
        return np.zeros(num_devices, np.bool_)
