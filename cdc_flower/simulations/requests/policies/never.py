"""No device reports, so nothing that answers reports adapts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.simulations.requests.policies.policy import Policy, policies
from cdc_flower.tasks.sensing import Ints


@policies.register("never")
@dataclass(eq=False)
class Never(Policy):
    """No device reports, so nothing that answers reports adapts."""

    def decide(self, device_ids: Ints, segment: int) -> NDArray[np.bool_]:
        """Decides the same for all."""
        return np.full(len(device_ids), False)
