"""Every device reports in every n-th segment, from the first on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.options import option
from cdc_flower.simulations.requests.policies.policy import Policy, policies
from cdc_flower.tasks.sensing import Ints


@policies.register("every")
@dataclass(eq=False)
class Every(Policy):
    """Every device in every ``n``-th segment, from the first on."""

    n: int = option(2, least=1, neutral=1, doc="segments from one report to the next; 1 is always")

    def decide(self, device_ids: Ints, segment: int) -> NDArray[np.bool_]:
        """Decides for all of them or for none."""
        return np.full(len(device_ids), segment % self.n == 0)
